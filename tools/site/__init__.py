"""The browsable site: executed notebooks into HTML pages that need nothing from the network."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from bonexage_utils.errors import BoneXageError
from tools import ledger
from tools.site.offsite import offsite_references

PLAIN_INDEX = "# Notebooks\n"
# As HTML: to Sphinx the game is none of its pages.
GAME_LINK = """
**Before you install anything:** <a href="game.html">a game of five minutes</a>. Ten simulated hands, your own eye, and
then your error beside that of one reader, of six, and of a network. On a phone, too.
"""
TOCTREE = "\n```{{toctree}}\n:glob:\n:hidden:\n\n[0-9][0-9]_*\n{pages}\n```\n"


def build_site(notebooks: Path, out: Path, index: Path | None = None, game: bool = False) -> list[str]:
    """Write the pages of all notebooks in `notebooks` into `out`; what Sphinx warned of comes back.

    `index` is the Markdown of the first page; other Markdown beside it becomes a page of its own. The ledger of the
    run, where `out` has one, goes below the first. With `game` the opening game is a page, too, named on the first; its
    network learns the first time, for about a minute.
    """
    try:
        from sphinx.cmd.build import build_main
    except ImportError as error:
        raise BoneXageError('the site needs Sphinx and myst-nb: pip install -e ".[notebooks,dev]"') from error
    found = sorted(notebooks.glob("[0-9][0-9]_*.ipynb"))
    if not found:
        raise BoneXageError(f"no executed notebooks in {notebooks}: run `make course`")
    out.mkdir(parents=True, exist_ok=True)
    for stale in out.glob("*.html"):  # a page of a notebook that was renamed would stay for ever
        stale.unlink()
    with tempfile.TemporaryDirectory(prefix="bonexage-site-") as temporary:
        pages = Path(temporary) / "pages"
        pages.mkdir()
        for path in found:
            shutil.copy(path, pages)
        text, others = PLAIN_INDEX, []
        if index and index.is_file():
            text = index.read_text(encoding="utf-8")
            others = sorted(path for path in index.parent.glob("*.md") if path != index)
        for page in others:
            linked = page.read_text(encoding="utf-8").replace(f"]({index.name})", "](index.md)")
            (pages / page.name).write_text(linked, encoding="utf-8")
        if game:
            opening, heading, rest = text.partition("\n## ")
            text = opening + GAME_LINK + heading + rest
        rows = ledger.read(out)
        if rows:
            text += f"\n## This run\n\nProfile `{rows[0].profile}`.\n\n{ledger.markdown(rows)}\n"
        text += TOCTREE.format(pages="\n".join(page.stem for page in others))
        (pages / "index.md").write_text(text, encoding="utf-8")
        log = Path(temporary) / "warnings.txt"
        configuration = str(Path(__file__).parent)
        options = ["-q", "-E", "-c", configuration, "-d", f"{temporary}/doctrees", "-w", str(log)]
        code = build_main(["-b", "html", *options, str(pages), str(out)])
        warnings = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
        warnings = [line.replace(f"{pages}/", "") for line in warnings if line.strip()]
    if code or not (out / "index.html").is_file():
        why = warnings[-1] if warnings else f"exit code {code}"
        raise BoneXageError(f"Sphinx could not build the site: {why}")
    shutil.rmtree(out / ".doctrees", ignore_errors=True)
    if game:
        from tools.site.game import write_game

        write_game(out)
    leaving = offsite_references(out)
    if leaving:
        shown = "; ".join(leaving[:5])
        raise BoneXageError(f"{len(leaving)} references leave the site: {shown}: embed what they point to")
    return warnings
