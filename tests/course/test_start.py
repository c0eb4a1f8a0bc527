"""The start of a notebook."""

import os
import subprocess
import sys

from bonexage_utils.cohort import Cohort

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
