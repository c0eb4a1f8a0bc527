"""What doubts films or networks: the audit of a cohort, how films lie, stress tests, attribution."""
