"""The commands as a user calls them, in the tests' own process, which has torch loaded."""

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from bonexage_utils import __main__


def bonexage(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Status, output and errors of a command; of a bar on the terminal only what stands there afterwards."""
    words, said, complained = [*map(str, arguments)], io.StringIO(), io.StringIO()
    here, argv, status = os.getcwd(), sys.argv, None
    os.chdir(cwd or here)
    sys.argv = ["bonexage", *words]
    try:
        with redirect_stdout(said), redirect_stderr(complained):
            __main__.main()
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        os.chdir(here)
        sys.argv = argv
    assert status is not None, "main returned"
    return subprocess.CompletedProcess(words, status, said.getvalue(), complained.getvalue().split("\r")[-1])
