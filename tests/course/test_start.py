"""The start of a notebook."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bonexage_utils.cohort import Cohort

start = importlib.import_module("bonexage_utils.course.start")  # in the package, `start` is the function

CODE = """
import contextlib, io
from bonexage_utils.course import start
from tqdm import tqdm
start()
start()
for _ in tqdm(range(3), desc="a bar"):
    pass
with contextlib.redirect_stdout(io.StringIO()) as caught:
    list(tqdm(range(3), desc="another"))
assert "another" in caught.getvalue()
"""


def test_bars_go_where_print_goes(cohort: Cohort) -> None:
    """Also after a second start, and where stdout is another one by then."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, encoding="utf-8", check=False,
                          env={**os.environ, "BONEXAGE_DATA": str(cohort.root), "BONEXAGE_PROFILE": "fast"})
    assert done.returncode == 0, done.stderr
    assert "a bar" in done.stdout
    assert "bar" not in done.stderr


@pytest.mark.parametrize("place", ["rsna-bone-age", "datasets/kmader/rsna-bone-age"])
def test_rsna_is_found_where_kaggle_lays_it(cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                            place: str) -> None:
    monkeypatch.delenv("BONEXAGE_DATA", raising=False)
    monkeypatch.setattr(start, "KAGGLE", tmp_path / "input")
    (tmp_path / "input" / place).parent.mkdir(parents=True)
    (tmp_path / "input" / "titanic").mkdir()
    (tmp_path / "input" / "titanic" / "train.csv").touch()
    assert start.find_rsna(tmp_path / "data") is None
    (tmp_path / "input" / place).symlink_to(cohort.root)
    found, embedded = start.find_cohort(start.PROFILES["cpu"], tmp_path)
    assert (found.root, len(found), embedded) == (tmp_path / "input" / place, len(cohort), False)
    (tmp_path / "data").symlink_to(cohort.root)  # the course's own folder goes first
    assert start.find_cohort(start.PROFILES["cpu"], tmp_path)[0].root == tmp_path / "data"
