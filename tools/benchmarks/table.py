"""What every recorded run shares: a table that is written row by row, and how a row was made."""

import hashlib
import platform
import subprocess
import tempfile
from pathlib import Path

import pandas as pd
import torch
from filelock import FileLock


def hardware() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cores = torch.get_num_threads()
    return f"{cores} core{'s' * (cores > 1)}, {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


def commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def alone(path: Path) -> FileLock:
    """Two cohorts may be run at the same time, on a core each; only one writes into a table at a time."""
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    return FileLock(Path(tempfile.gettempdir()) / f"bonexage-{name}.lock")


class Table:
    """bakeoff.csv: what was run, found again by its key."""

    def __init__(self, path: Path, key: dict) -> None:
        self.path, self.key = path, key

    def rows(self, **wanted) -> list[dict]:
        """Rows of this comparison (`key`) that are so."""
        table = pd.read_csv(self.path).to_dict("records") if self.path.is_file() else []
        return [row for row in table if all(row[name] == value for name, value in (self.key | wanted).items())]

    def add(self, row: dict) -> None:
        with alone(self.path):
            old = pd.read_csv(self.path) if self.path.is_file() else pd.DataFrame()
            new = pd.DataFrame([self.key | row])
            pd.concat([old, new], ignore_index=True).to_csv(self.path, index=False, float_format="%.6g")
