"""The chain from source to site, proved on tiny notebooks: a good one passes, each bad one is caught."""

from __future__ import annotations

import json
import re
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("nbclient")
pytest.importorskip("myst_nb")

from conftest import ROOT

from bonexage_utils.errors import BoneXageError
from tools import build, ledger
from tools.execution import own_kernel, run, save
from tools.lint import lint
from tools.portable import machine_traces
from tools.site import build_site
from tools.site.offsite import offsite_in_page, offsite_references
from tools.sources import convert, find_sources

ALTS = ['A line from 0 to 1 & "up"', "A bar of height 2 < 3"]
CHECK = ' tags=["nbval-check-output"]'
FIGURES = f"""import matplotlib.pyplot as plt
from io import BytesIO
from IPython.display import Image, display
for height, alt in enumerate({ALTS!r}):
    figure, axes = plt.subplots(figsize=(2, 2))
    axes.plot([0, height + 1])
    buffer = BytesIO()
    figure.savefig(buffer)
    plt.close(figure)
    display(Image(buffer.getvalue()), metadata={{"image/png": {{"alt": alt}}}})"""
FIGURE = """from bonexage_utils.course.sliders import slider
from bonexage_utils.figures import Picture, new_figure
"""
GOOD = [
    ("markdown", "# A tiny notebook\n\nBounded: $240\\,\\sigma(x)$ and\n\n$$\\frac{1}{n}\\sum_i |y_i| \\leq 3$$"),
    ("code", "import bonexage_utils\nimport os, sys"),
    (CHECK, "1 + 1"),
    (CHECK, 'print("two")\nprint("lines")'),
    (CHECK, "sorted({3, 1, 2})"),
    (CHECK, 'os.environ["BONEXAGE_DATA"], os.environ["BONEXAGE_PROFILE"]'),
    (CHECK, "round(0.1 + 0.2, 3)"),
    ("code", FIGURES),
    ("code", FIGURE + 'slider(lambda age: Picture(new_figure(1, 1)[0], f"at {age}"), (1, 2), 1, "age")'),
    ("code", FIGURE + 'Picture(new_figure(1, 1)[0], "two axes")'),
    ("code", "from tqdm import tqdm\nfor _ in tqdm(range(3), leave=False): pass"),
]


def percent(cells: list[tuple[str, str]]) -> str:
    """The cells as jupytext percent text."""
    parts = []
    for kind, text in cells:
        if kind == "markdown":
            parts.append("# %% [markdown]\n" + "\n".join(f"# {line}".rstrip() for line in text.splitlines()))
        else:
            parts.append(f"# %%{kind if kind != 'code' else ''}\n{text}")
    return "\n\n".join(parts) + "\n"


def write_source(folder: Path, cells: list[tuple[str, str]], name: str = "01_tiny") -> Path:
    """A notebooks folder with one source."""
    source = folder / "source" / f"{name}.py"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(percent(cells), encoding="utf-8")
    return source


@pytest.fixture(scope="module", autouse=True)
def _package_on_path():
    """The kernel finds the package also where it is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("BONEXAGE_DATA", "/somewhere/else")
        yield


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A folder whose one notebook was executed and saved through the command line."""
    folder = tmp_path_factory.mktemp("good")
    write_source(folder, GOOD)
    arguments = ["execute", "--profile", "fast", "--notebooks", str(folder), "--ledger", str(folder / "out")]
    assert build.main([*arguments, "--save"]) == 0
    return folder


def read(folder: Path) -> nbformat.NotebookNode:
    """The saved tiny notebook."""
    return nbformat.read(folder / "01_tiny.ipynb", as_version=4)


def rules(folder: Path) -> set[str]:
    """The names of the rules that the tiny notebook breaks."""
    return {f.rule for f in lint(folder / "source" / "01_tiny.py", folder / "01_tiny.ipynb") if not f.advice}


def test_good_notebook_passes(good, capsys):
    assert build.main(["check", "--notebooks", str(good)]) == 0, capsys.readouterr().out


def test_phantom_and_profile_are_forced(good):
    assert "('phantom', 'fast')" in read(good).cells[5].outputs[0].data["text/plain"]


def test_saved_notebook_is_the_same_everywhere(good):
    notebook = read(good)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec == {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert "version" not in notebook.metadata.language_info
    assert not any("execution" in cell.metadata for cell in notebook.cells)
    assert not list(good.glob(".*partial"))


def test_a_slider_is_stored_whole_and_a_figure_once(good):
    sliding, figure = (read(good).cells[place].outputs[0].data for place in (8, 9))
    assert "data:image/webp" in sliding["text/html"]
    assert '"alt": "at 2"' in sliding["text/html"]
    assert set(figure) == {"image/png", "text/plain"}


def test_progress_bar_leaves_nothing(good):
    assert read(good).cells[10].outputs == []


def test_ledger_names_time_and_memory(good):
    (row,) = ledger.read(good / "out")
    assert row.ok
    assert row.notebook == "01_tiny"
    assert row.seconds > 0.1
    assert row.peak_mb > 20
    assert (good / "out" / "ledger.csv").read_text().startswith("notebook,profile,result,seconds,peak_mb,size_kb")


def test_second_run_saves_the_same_bytes(good, tmp_path):
    notebook, _ = run(good / "source" / "01_tiny.py", good, "fast")
    save(notebook, tmp_path / "again.ipynb")
    assert (tmp_path / "again.ipynb").read_bytes() == (good / "01_tiny.ipynb").read_bytes()


def test_ids_are_stable_when_cells_are_inserted_or_repeated(tmp_path):
    twice = [*GOOD, ("code", "1 + 1")]
    first = convert(write_source(tmp_path, twice))
    again = convert(write_source(tmp_path, twice))
    assert [c.id for c in first.cells] == [c.id for c in again.cells]
    assert len({c.id for c in first.cells}) == len(first.cells)
    longer = convert(write_source(tmp_path, [*twice[:3], ("markdown", "new"), *twice[3:]]))
    assert [c.id for c in longer.cells if c.source != "new"] == [c.id for c in first.cells]


def test_kernel_is_this_interpreter(tmp_path):
    notebook, row = run(write_source(tmp_path, [("code", "import sys; print(sys.executable)")]), tmp_path, "fast")
    assert row.ok
    assert notebook.cells[0].outputs[0].text.strip() == sys.executable


@pytest.mark.parametrize("kind", ["DeprecationWarning", "PendingDeprecationWarning", "FutureWarning"])
def test_a_deprecation_fails_a_strict_run_where_our_code_meets_it(tmp_path, capsys, kind):
    theirs = f"import warnings\nexec('warnings.warn(str(), {kind})', {{'warnings': warnings, '__name__': 'theirs'}})"
    write_source(tmp_path, [*GOOD[:2], ("code", theirs), ("code", f"warnings.warn('going soon', {kind})")])
    arguments = ["execute", "--notebooks", str(tmp_path), "--out", str(tmp_path), "--ledger", str(tmp_path)]
    assert build.main(arguments) == 0
    assert build.main([*arguments, "--strict"]) == 1
    assert "cell 4 (warnings.warn('going soon'" in capsys.readouterr().err


def test_a_folder_may_have_spaces_and_umlauts(tmp_path):
    folder = tmp_path / "Kurs für Zoë 手"
    write_source(folder, [*GOOD[:2], ("code", "open('für.txt', 'w', encoding='utf-8').close()")])
    arguments = ["execute", "--notebooks", str(folder), "--out", str(folder / "ä"), "--ledger", str(folder / "ä")]
    assert build.main(arguments) == 0
    assert (folder / "für.txt").is_file()
    assert (folder / "ä" / "01_tiny.ipynb").is_file()


def test_own_kernel_wins_over_a_foreign_one(tmp_path, monkeypatch):
    spec = tmp_path / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(json.dumps({"argv": ["/bin/false"], "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    from jupyter_client.kernelspec import KernelSpecManager

    with own_kernel():
        assert KernelSpecManager().get_kernel_spec("python3").argv[0] == sys.executable


# --- what must be refused ----------------------------------------------------------------------------------


def first_output(notebook):
    """The output of the first checked cell."""
    return notebook.cells[2].outputs[0]


def figure(notebook):
    """The output that holds the first figure."""
    return notebook.cells[7].outputs[0]


def set_(target, key, value):
    """Assignment as an expression."""
    target[key] = value


STDERR = {"output_type": "stream", "name": "stderr", "text": "FutureWarning: soon\n"}
ERROR = {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}
BAD = {
    "agrees": [
        lambda nb: set_(nb.cells[2], "source", "2"),
        lambda nb: set_(nb.cells[0], "source", "# Another"),
        lambda nb: nb.cells.pop(),
        lambda nb: set_(nb.cells[2].metadata, "tags", []),
    ],
    "titled": [lambda nb: set_(nb.cells[0], "source", "No title")],
    "bootstrapped": [lambda nb: nb.cells.pop(1)],
    "in_order": [
        lambda nb: set_(nb.cells[2], "execution_count", 7),
        lambda nb: set_(nb.cells[2], "execution_count", None),
    ],
    "without_errors": [lambda nb: nb.cells[3].outputs.append(nbformat.from_dict(ERROR))],
    "without_stderr": [lambda nb: nb.cells[3].outputs.append(nbformat.from_dict(STDERR))],
    "checked": [
        lambda nb: set_(nb.cells[2].metadata, "tags", []),
        lambda nb: set_(nb.cells[2], "outputs", []),
        lambda nb: set_(nb.cells[2], "outputs", nb.cells[7].outputs),
    ],
    "described": [
        lambda nb: set_(figure(nb), "metadata", {}),
        lambda nb: set_(figure(nb).metadata["image/png"], "alt", "  "),
        lambda nb: set_(first_output(nb).data, "text/html", '<img src="data:image/png;base64,AA">'),
        lambda nb: set_(nb.cells[0], "source", "# T\n\n![](figure.png)"),
    ],
    "without_state": [
        lambda nb: set_(nb.metadata, "widgets", {}),
        lambda nb: set_(first_output(nb).data, "application/vnd.jupyter.widget-view+json", {}),
        lambda nb: set_(nb.metadata, "jupytext", {"formats": "ipynb,py:percent"}),
        lambda nb: set_(nb.metadata.language_info, "version", "3.11.2"),
    ],
    "portable": [
        lambda nb, path=path: set_(first_output(nb).data, "text/plain", f"'{path}'")
        # Put together here, so that the tests themselves name no machine's folder.
        for path in (*(f"/{top}/x" for top in ("home/a", "root", "work", "tmp", "Users/a")),
                     r"C:\Users\a", r"C:\\Users\\a")
    ],
    "small": [lambda nb: set_(first_output(nb).data, "text/plain", "x" * 1_600_000)],
    "short_cells": [lambda nb: set_(nb.cells[2], "source", "1\n" * 16)],
    "narrow_cells": [lambda nb: set_(nb.cells[2], "source", "x = " + "1" * 85)],
    "quoted": [lambda nb: nb.cells.append(nbformat.v4.new_markdown_cell("Off by 8.6 months."))],
}


@pytest.mark.parametrize(("rule", "spoil"), [(rule, spoil) for rule, all_ in BAD.items() for spoil in all_])
def test_each_rule_refuses_a_bad_notebook(good, tmp_path, rule, spoil):
    write_source(tmp_path, GOOD)
    notebook = read(good)
    spoil(notebook)
    nbformat.write(notebook, tmp_path / "01_tiny.ipynb")
    assert rule in rules(tmp_path)
    assert build.main(["check", "--notebooks", str(tmp_path)]) == 1


def test_findings_come_together_and_say_what_to_do(good, tmp_path, capsys):
    write_source(tmp_path, GOOD)
    notebook = read(good)
    figure(notebook).metadata.clear()
    notebook.metadata["widgets"] = {}
    nbformat.write(notebook, tmp_path / "01_tiny.ipynb")
    assert build.main(["check", "--notebooks", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert re.search(r"cell 8 .*figure without alt text → .*Picture\(", shown)
    assert re.search(r"metadata\.widgets → .*make notebooks", shown)


def test_missing_broken_and_orphaned_notebooks_are_findings(good, tmp_path, capsys):
    write_source(tmp_path, GOOD)
    (tmp_path / "02_orphan.ipynb").write_text("{}")
    assert build.main(["check", "--notebooks", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "01_tiny.ipynb is missing" in shown
    assert "02_orphan: has no source" in shown
    (tmp_path / "01_tiny.ipynb").write_text("{")
    assert rules(tmp_path) == {"saved"}


def test_long_cell_is_advice_only(good, tmp_path):
    write_source(tmp_path, GOOD)
    notebook = read(good)
    notebook.cells[7].source += "\n#\n#\n#"
    nbformat.write(notebook, tmp_path / "01_tiny.ipynb")
    found = lint(tmp_path / "source" / "01_tiny.py", tmp_path / "01_tiny.ipynb")
    assert [f.advice for f in found if f.rule == "longish_cells"] == [True]
    assert "short_cells" not in {f.rule for f in found}


@pytest.mark.parametrize(
    "text", ["https://x.org/home/a", "data/tmp/x", "and/or", "data:image/png;base64,aa/tmp/bb", "ratio 1:2", "~/x"]
)
def test_ordinary_text_is_no_machine_path(text):
    assert machine_traces(text, this_machine=True) == []


def test_execution_refuses_to_save_a_machine_path(tmp_path, capsys):
    write_source(tmp_path, [("markdown", "# T"), ("code", 'print("reads " + "/tm" + "p/secret/cohort")')])
    arguments = ["execute", "--profile", "fast", "--notebooks", str(tmp_path), "--ledger", str(tmp_path / "out")]
    assert build.main([*arguments, "--save"]) == 1
    assert "cell 2 (print(" in capsys.readouterr().err
    assert not (tmp_path / "01_tiny.ipynb").exists()


def test_failing_cell_is_named_and_nothing_is_saved(tmp_path, capsys):
    write_source(tmp_path, [("code", "ages = []"), ("code", "first = ages[0]"), ("code", "print('never')")])
    write_source(tmp_path, [("code", "print('fine')")], "02_next")
    arguments = ["execute", "--profile", "fast", "--notebooks", str(tmp_path), "--ledger", str(tmp_path / "out")]
    assert build.main([*arguments, "--save"]) == 1
    shown = capsys.readouterr()
    assert "cell 2 (first = ages[0])" in shown.err
    assert "IndexError: list index out of range" in shown.err
    assert "1 of 2 ok" in shown.out
    assert not (tmp_path / "01_tiny.ipynb").exists()
    assert (tmp_path / "02_next.ipynb").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "word"),
    [("import os; os._exit(1)", "DeadKernelError"), ("import time; time.sleep(30)", "CellTimeoutError")],
)
def test_dead_and_endless_kernels_are_reported(tmp_path, code, word):
    _, row = run(write_source(tmp_path, [("code", "1"), ("code", code)]), tmp_path, "fast", cell_timeout=2)
    assert row.result == "failed"
    assert word in row.error


def test_choosing_notebooks(tmp_path):
    for name in ("00_start", "03_data", "10_end"):
        write_source(tmp_path, GOOD, name)
    assert [p.stem for p in find_sources(tmp_path, ["10", "3"])] == ["03_data", "10_end"]
    assert [p.stem for p in find_sources(tmp_path, ["00_start"])] == ["00_start"]
    with pytest.raises(BoneXageError, match="choose from 00_start, 03_data, 10_end"):
        find_sources(tmp_path, ["4"])


def test_empty_folder_is_one_clear_line(tmp_path, capsys):
    assert build.main(["check", "--notebooks", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# --- the site ----------------------------------------------------------------------------------------------


class Images(HTMLParser):
    """The alt texts of a page's figures."""

    def __init__(self) -> None:
        super().__init__()
        self.alts: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect images that Sphinx wrote into its folder."""
        if tag == "img" and "_images/" in (dict(attrs).get("src") or ""):
            self.alts.append(dict(attrs).get("alt"))


@pytest.fixture(scope="module")
def site(good, tmp_path_factory):
    """The built site of the tiny notebook."""
    folder = tmp_path_factory.mktemp("executed")
    nbformat.write(read(good), folder / "01_tiny.ipynb")
    out = tmp_path_factory.mktemp("site")
    ledger.write([ledger.Row("01_tiny", "cpu", "ok", 1.5, 100, 20)], out)
    index = tmp_path_factory.mktemp("index") / "README.md"
    index.write_text("# Tiny\n\n[The one](01_tiny.ipynb), [for teachers](TEACHERS.md)\n", encoding="utf-8")
    index.with_name("TEACHERS.md").write_text("# For teachers\n", encoding="utf-8")
    assert build_site(folder, out, index) == []
    return out


def test_alt_text_of_the_page_is_that_of_the_notebook(site):
    page = Images()
    page.feed((site / "01_tiny.html").read_text())
    assert page.alts == [*ALTS, "two axes"]


def test_nothing_leaves_the_site(site):
    assert offsite_references(site) == []
    pages = list(site.glob("*.html"))
    assert {"index.html", "01_tiny.html"} <= {page.name for page in pages}
    for page in pages:
        text = page.read_text().lower()
        for word in ("mathjax@", "tex-mml", "require.js", "cdnjs", "jsdelivr", "unpkg", "html-manager"):
            assert word not in text, f"{page.name} mentions {word}"


def test_formulas_are_mathml(site):
    text = (site / "01_tiny.html").read_text()
    assert len(re.findall("<math ", text)) == 2
    assert re.search('<div [^>]*class="formula[^>]*tabindex="0"', text)  # one wider than the page scrolls by keyboard
    assert "\\frac{1}{n}" in unescape(re.search(r'alttext="([^"]*frac[^"]*)"', text).group(1))
    assert "<mfrac>" in text


@pytest.mark.parametrize(
    ("tex", "drawn"),
    [
        (r"\begin{aligned} a &= b \\ c &= d \end{aligned}", True),
        (r"\begin{cases} 1 & x > 0 \\ 0 & x \leq 0 \end{cases}", True),
        (r"\nosuchcommand{x}", False),
        (r"\begin{nosuch} a & b \end{nosuch}", False),
    ],
)
def test_formula_that_cannot_be_drawn_is_reported(good, tmp_path, tex, drawn):
    notebook = read(good)
    notebook.cells[0].source = f"# T\n\n$$\n{tex}\n$$"
    nbformat.write(notebook, tmp_path / "01_tiny.ipynb")
    warnings = build_site(tmp_path, tmp_path / "site")
    assert ["formula" in line for line in warnings] == ([] if drawn else [True])
    assert "eqno" not in (tmp_path / "site" / "01_tiny.html").read_text()


def test_a_slider_lives_on_the_page(site):
    text = (site / "01_tiny.html").read_text()
    assert text.count('<figure data-slider="') == 1
    assert '"alt": "at 2"' in text


def test_index_lists_the_notebook_and_its_cost(site):
    text = (site / "index.html").read_text()
    assert 'href="01_tiny.html"' in text
    assert "peak memory (MB)" in text
    assert text.count('href="TEACHERS.html"') >= 2  # where it is named, and at the side
    assert "For teachers" in (site / "TEACHERS.html").read_text()


def test_the_courses_own_pages_can_be_built(good, tmp_path, monkeypatch):
    """Its README is the first page; every link in it, and in the page for instructors, leads to a page."""
    monkeypatch.setattr("tools.site.game.write_game", lambda out: (out / "game.html").write_text("<p>a game</p>"))
    executed = tmp_path / "executed"
    executed.mkdir()
    for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"):
        nbformat.write(read(good), executed / path.name)
    assert build_site(executed, tmp_path / "site", ROOT / "notebooks" / "README.md", game=True) == []
    text = (tmp_path / "site" / "index.html").read_text()
    assert text.index('href="game.html"') < text.index('id="the-map"')
    assert (tmp_path / "site" / "game.html").is_file()
    assert 'href="00_start_here.html"' in text
    assert 'href="INSTRUCTORS.html"' in text
    assert "{toctree}" not in text


@pytest.mark.parametrize(
    "page",
    [
        '<script src="https://cdn.org/x.js"></script>',
        '<link rel="stylesheet" href="//cdn.org/x.css">',
        '<img src="http://x.org/a.png">',
        '<style>@font-face { src: url("https://x.org/f.woff2") }</style>',
        "<style>@import 'https://x.org/a.css';</style>",
        '<div style="background: url(https://x.org/a.png)"></div>',
        '<script>require.config({paths: {x: "https://cdn.org/dist/require.min.js"}})</script>',
        '<iframe src="https://x.org"></iframe>',
    ],
)
def test_offsite_references_are_found(page):
    assert len(offsite_in_page(page)) == 1


def test_links_a_reader_follows_may_leave():
    assert offsite_in_page('<a href="https://x.org/a.js">x</a><p>url(https://x.org)</p><img src="a.png">') == []


def test_site_with_an_offsite_image_is_refused(good, tmp_path):
    notebook = read(good)
    notebook.cells[2].outputs[0].data["text/html"] = '<img alt="a" src="https://x.org/a.png">'
    nbformat.write(notebook, tmp_path / "01_tiny.ipynb")
    with pytest.raises(BoneXageError, match=r"\b1 references.* 01_tiny\.html"):
        build_site(tmp_path, tmp_path / "site")


def test_site_without_notebooks_is_one_clear_line(tmp_path):
    with pytest.raises(BoneXageError, match="run `make course`"):
        build_site(tmp_path, tmp_path / "site")
