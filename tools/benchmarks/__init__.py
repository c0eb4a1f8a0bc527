"""Measurements that take minutes to hours. Each is a script; its table goes to data/reference_runs."""

import bonexage_utils  # noqa: F401  before NumPy, as in the commands: it says how threads wait
