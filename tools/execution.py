"""Run a notebook from a fresh kernel, measure it, and keep what is the same on every machine."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from tools.ledger import Row
from tools.portable import machine_traces, output_texts
from tools.sources import NOTEBOOK_METADATA, convert

PROFILES = ("fast", "cpu", "gpu")
ANSI = re.compile(r"\x1b\[[0-9;]*m")
# What a notebook or the package calls and will be gone; what others call among themselves is theirs to mend.
DEPRECATIONS_ARE_ERRORS = """\
import warnings
for _ in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
    warnings.filterwarnings("error", category=_, module=r"(__main__|bonexage_utils)\\b")
del warnings, _
"""


@contextmanager
def own_kernel(strict: bool = False) -> Iterator[dict[str, str]]:
    """Make `python3` mean the interpreter running now, and yield the variables that say so. In a `strict` one a
    deprecation that the course's own code meets is an error.

    The kernelspec called python3 that Jupyter finds first may belong to another environment, and the
    notebooks would then test code that nobody installed.
    """
    with tempfile.TemporaryDirectory(prefix="bonexage-kernel-") as folder:
        spec = Path(folder) / "kernels" / "python3" / "kernel.json"
        spec.parent.mkdir(parents=True)
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=ERROR"]
        spec.write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}), encoding="utf-8")
        if strict:
            startup = Path(folder) / "ipython" / "profile_default" / "startup" / "deprecations.py"
            startup.parent.mkdir(parents=True)
            startup.write_text(DEPRECATIONS_ARE_ERRORS, encoding="utf-8")
        # A profile in ~/.ipython could import or configure what a learner does not have: use one of our own.
        variables = {"JUPYTER_PATH": folder, "IPYTHONDIR": str(Path(folder) / "ipython")}
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        try:
            yield variables
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def kernel_environment(profile: str) -> dict[str, str]:
    """The kernel's environment: the profile, and the phantom whatever lies in data/."""
    environment = dict(os.environ)
    # A stray MPLBACKEND switches inline figures off; the fixed hash seed makes sets print in the same order;
    # the debugger's remark on frozen modules is noise.
    environment.pop("MPLBACKEND", None)
    environment.update(PYTHONHASHSEED="0", PYDEVD_DISABLE_FILE_VALIDATION="1")
    environment.update(BONEXAGE_PROFILE=profile, BONEXAGE_DATA="phantom")
    return environment


class PeakMemory:
    """The largest resident memory of this process's children, sampled on a thread inside `with`."""

    def __init__(self, every: float = 0.1) -> None:
        self.every, self.bytes = every, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(self.every):
            total = 0
            for child in me.children(recursive=True):
                try:
                    total += child.memory_info().rss
                except psutil.Error:  # it ended between the listing and the question
                    continue
            self.bytes = max(self.bytes, total)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def run(
    source: Path, folder: Path, profile: str, cell_timeout: int | None = None, strict: bool = False
) -> tuple[NotebookNode, Row]:
    """Convert and run one source in `folder`; the notebook comes back tidied, also when a cell failed."""
    notebook = convert(source)
    client = NotebookClient(
        notebook,
        timeout=cell_timeout,
        kernel_name="python3",
        store_widget_state=False,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    cell, error = "", ""
    start = time.perf_counter()
    with own_kernel(strict), PeakMemory() as memory:
        try:
            client.execute(env=kernel_environment(profile))
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as problem:
            cell, error = _explain(notebook, problem)
    seconds = time.perf_counter() - start
    tidy(notebook)
    size = len(nbformat.writes(notebook).encode())
    result = "failed" if error else "ok"
    peak = memory.bytes // 2**20
    return notebook, Row(source.stem, profile, result, round(seconds, 2), peak, size // 1000, cell, error)


def _explain(notebook: NotebookNode, problem: Exception) -> tuple[str, str]:
    """Which cell stopped the run, and its error in a few lines."""
    for number, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                trace = [ANSI.sub("", line) for part in output.traceback for line in part.splitlines()]
                where = [line.strip() for line in trace if line.lstrip().startswith("--")][-1:]
                what = f"{output.ename}: {output.evalue}"
                if isinstance(problem, CellTimeoutError):  # the kernel saw only the interrupt that followed
                    what = "CellTimeoutError: it ran longer than --cell-timeout allows"
                return name_cell(cell, number), "\n".join([*where, what])
    # No cell holds the error: the kernel died or a cell ran out of time, after the last one that finished.
    done = [(cell, n) for n, cell in enumerate(notebook.cells, 1) if cell.get("execution_count")]
    where = f"after {name_cell(*done[-1])}" if done else "before the first cell had finished"
    return where, f"{type(problem).__name__}: {' '.join(str(problem).split())[:300]}"


def name_cell(cell: NotebookNode, number: int) -> str:
    """How a reader finds a cell: its number among all cells and its first line."""
    first = next((line.strip() for line in cell.source.splitlines() if line.strip()), "empty")
    return f"cell {number} ({first[:60]})"


def tidy(notebook: NotebookNode) -> None:
    """Keep of an executed notebook what is the same on every machine, and each figure once."""
    notebook.metadata = nbformat.from_dict(NOTEBOOK_METADATA)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        cell.outputs = _merge_streams(cell.outputs)
        for output in cell.outputs:
            # A figure comes as an image and, for JupyterLab, again as HTML. GitHub is sure to show the first.
            if "image/png" in output.get("data", {}):
                output.data.pop("text/html", None)


def _merge_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join neighbouring prints, whose cutting into messages is chance, and replay carriage returns."""
    merged: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and merged and merged[-1].get("name") == output.name:
            merged[-1].text += output.text
        else:
            merged.append(output)
    for output in merged:
        if output.output_type == "stream":
            output.text = re.sub(r"[^\n]*\r(?!\n)", "", output.text)
    # What is left of a bar that cleared itself is spaces.
    return [o for o in merged if o.output_type != "stream" or o.text.strip()]


def local_traces(notebook: NotebookNode) -> list[str]:
    """Cells whose output names a path, the host or the user of this machine, one line each."""
    lines = []
    for number, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", []):
            found = [t for text in output_texts(output) for t in machine_traces(text, this_machine=True)]
            if found:
                fix = "print a relative path, or avoid the warning"
                lines.append(f"{name_cell(cell, number)} shows {found[0]!r}: {fix}")
                break
    return lines


def save(notebook: NotebookNode, path: Path) -> None:
    """Write beside the target, then rename: an interrupted run leaves the old notebook whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    nbformat.validate(notebook)
    nbformat.write(notebook, partial)
    os.replace(partial, path)
