"""From the text that is edited (jupytext percent format) to a notebook without outputs.

One direction only. The text is the source; the notebook carries no jupytext pairing, because JupyterLab would
then write back into the sources, and its cell ids come from the cells themselves, because jupytext draws new
ones at every conversion and each would show up as a change in git.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

from bonexage_utils.errors import BoneXageError

SOURCE_NAME = re.compile(r"^(\d\d)_\w+\.py$")

# Versions are left out on purpose: they differ between machines and say nothing a learner needs.
NOTEBOOK_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {
        "codemirror_mode": {"name": "ipython", "version": 3},
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3",
    },
}


def find_sources(notebooks: Path, wanted: list[str] | None = None) -> list[Path]:
    """The sources in order; `wanted` narrows them to numbers (3, 03) or names (03_images)."""
    folder = notebooks / "source"
    found = sorted(path for path in folder.glob("*.py") if SOURCE_NAME.match(path.name))
    if not found:
        raise BoneXageError(f"no notebook source in {folder}: expected files named like 00_start.py")
    if not wanted:
        return found
    chosen: set[Path] = set()
    for word in wanted:
        key = Path(word).stem
        hits = [p for p in found if p.stem == key or (key.isdigit() and int(p.name[:2]) == int(key))]
        if not hits:
            names = ", ".join(p.stem for p in found)
            raise BoneXageError(f"no notebook source is called {word!r} in {folder}: choose from {names}")
        chosen.update(hits)
    return sorted(chosen)


def convert(source: Path) -> NotebookNode:
    """The notebook a source stands for: cells, stable ids, the same small metadata everywhere, no outputs."""
    try:
        notebook = jupytext.read(source, fmt="py:percent")
    except Exception as error:  # jupytext raises many types; whichever it is, the file has to be repaired
        raise BoneXageError(f"{source} is not in jupytext percent format: {error}") from error
    notebook.metadata = nbformat.from_dict(NOTEBOOK_METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        # Two equal cells need two ids; counting repeats keeps both when other cells come between them.
        cell.id = digest if not seen[digest] else f"{digest}-{seen[digest]}"
        seen[digest] += 1
        cell.metadata.pop("lines_to_next_cell", None)
    return notebook
