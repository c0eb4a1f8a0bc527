"""Commands whose terminal breaks, and errors that nobody foresaw."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECK = [sys.executable, "-m", "bonexage_utils", "check"]
BROKEN = """
import sys
from bonexage_utils import __main__, cohort
def broken(*_: object):
    raise KeyError("a surprise\\nof two lines")
cohort.load_cohort = broken
sys.argv = ["bonexage", "check", "data"]
__main__.main()
"""


def shell(line: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", line], cwd=cwd, env={**os.environ, "TQDM_DISABLE": "", **environment},
                          capture_output=True, text=True, check=False, timeout=120)


def unforeseen(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", BROKEN], cwd=tmp_path, env={**os.environ, **environment},
                          capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.slow
def test_an_unforeseen_error_is_one_line_and_its_traceback_lies_in_a_file(tmp_path: Path) -> None:
    done = unforeseen(tmp_path, TMPDIR=str(tmp_path))
    assert done.returncode == 70
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("bonexage: check stopped ")
    assert "report" in done.stderr
    (file,) = tmp_path.iterdir()
    assert str(file) in done.stderr
    assert "in broken" in file.read_text()


@pytest.mark.slow
def test_debugging_shows_the_traceback(tmp_path: Path) -> None:
    done = unforeseen(tmp_path, TMPDIR=str(tmp_path), BONEXAGE_DEBUG="1")
    assert done.returncode == 70
    assert "in broken" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="shells and /dev/full are of POSIX")
@pytest.mark.parametrize(("redirection", "status"), [
    ("2>&-", 0), (">&-", 0), ("2>/dev/full", 0), (">/dev/full", 1), ("| true; exit ${PIPESTATUS[0]}", 0),
    ("2> >(true)", 0)])
def test_a_stream_that_breaks_loses_no_table(phantom_folder: Path, tmp_path: Path, redirection: str,
                                             status: int) -> None:
    """check shows a bar, prints, and writes a table at its end."""
    done = shell(f'"{sys.executable}" -m bonexage_utils check "{phantom_folder}" --out found {redirection}', tmp_path)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert (tmp_path / "found" / "findings.csv").read_text().startswith("id,")


@pytest.mark.slow
def test_letters_that_a_terminal_lacks_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "Hände-手").mkdir()
    done = subprocess.run([*CHECK, tmp_path / "Hände-手"], capture_output=True, check=False, timeout=120,
                          env={**os.environ, "PYTHONIOENCODING": "cp1252"})
    assert done.returncode == 2
    assert "Hände-\\u624b".encode("cp1252") in done.stderr
