"""Measurements that take minutes to hours. Each is a script; its table goes to data/reference_runs."""
