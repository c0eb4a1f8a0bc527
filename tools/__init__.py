"""For maintainers: what builds, checks and measures the course. Not part of the installed package."""
