"""In a real browser: the opening game played to its end, sliders, JupyterLab with notebooks; a bad page is found out.

The built site's pages are visited by `tools.build browser`.
"""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import nbformat
import numpy as np
import pytest
from conftest import ROOT

from bonexage_utils.course.sliders import menu_and_slider, slider
from bonexage_utils.errors import BoneXageError
from bonexage_utils.figures import Picture, new_figure
from bonexage_utils.statistics import Interval, agreement
from tools.browser import TOO_WIDE, WITHOUT_AXE, Tab, chromium, find_axe, find_chromium, look_at
from tools.execution import kernel_environment, own_kernel
from tools.site import game

ANSWERS = {"network": [24, 40, 61, 85, 101, 124, 140, 166, 180, 201], "median": {"F": 118, "M": 131}, "films": 1234}
PHONE = (360, 640)  # px


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    try:
        find_chromium()
    except BoneXageError as error:
        pytest.skip(str(error))
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def axe() -> Path:
    if not (found := find_axe()):
        pytest.skip(WITHOUT_AXE)
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The game, with a network's answers that are made up."""
    path = tmp_path_factory.mktemp("game") / "game.html"
    path.write_text(game.game_page(game.game_data(game.draw_hands(), game.draw_atlas(), ANSWERS)), encoding="utf-8")
    return path


def opened(tab: Tab, page: Path) -> None:
    tab.darken(False)
    tab.resize(*PHONE)
    tab.open(page.as_uri())


def play(tab: Tab, years: list[int]) -> None:
    """By keyboard, from the start to the end: so many years up (or down, where negative), one month back, Enter."""
    tab.press("Tab")
    tab.press("Enter")
    for step in years:
        tab.press("PageUp" if step > 0 else "PageDown", abs(step))
        tab.press("ArrowLeft")
        tab.press("Enter")


YEARS = [-7, -5, 3, 1, -2, 6, 5, -4, 2, 7]


def test_the_game_is_played_by_keyboard(tab: Tab, page: Path) -> None:
    opened(tab, page)
    play(tab, YEARS)
    guesses = [game.SLIDER["start"] + 12 * step - 1 for step in YEARS]
    assert tab.evaluate("guesses") == guesses
    truth = np.array([hand.months for hand in game.draw_hands()])
    mean = agreement(np.abs(truth - guesses), np.zeros(10)).bias
    assert tab.evaluate("document.activeElement.textContent") == f"Your mean error: {mean.value:.1f} months"
    assert f"from {max(0, mean.low):.1f} to {mean.high:.1f} months" in tab.evaluate("place('means').textContent")
    strips = tab.evaluate("[...document.querySelectorAll('[role=img]')].map(each => each.ariaLabel)")
    assert len(strips) == 5
    assert strips[0].startswith("You: months off on the ten hands "
                                + ", ".join(map(str, np.abs(truth - guesses))) + ";")
    assert tab.evaluate("document.querySelectorAll('#hands tbody tr').length") == 10
    assert tab.problems() == []


def test_the_page_counts_as_the_package_does(tab: Tab, page: Path) -> None:
    opened(tab, page)
    rng = np.random.default_rng(0)
    truth, mine, theirs = (rng.integers(6, 228, 10) for _ in range(3))
    off, other = np.abs(mine - truth), np.abs(theirs - truth)
    shown = ", ".join(json.dumps(months.tolist()) for months in (mine, theirs, truth))
    for expression, wanted in ((f"meanInterval({off.tolist()})", agreement(off, np.zeros(10)).bias),
                               (f"difference({shown})", agreement(off, other).bias)):
        found = Interval(**tab.evaluate(expression))
        assert (found.value, found.low, found.high) == pytest.approx((wanted.value, wanted.low, wanted.high))
    slip = tab.evaluate(f"meanError({[100, *[60] * 9]}, {[60] * 10})")  # one slip: Student's interval would go below 0
    assert slip["value"] == 4
    assert slip["low"] == 0


def test_nothing_is_committed_before_the_slider_moved(tab: Tab, page: Path) -> None:
    opened(tab, page)
    tab.press("Tab")
    tab.press("Enter")
    tab.press("Enter")
    assert tab.evaluate("guesses.length") == 0
    assert tab.evaluate("place('status').textContent") == "Move the slider first."
    tab.press("ArrowRight")
    assert tab.evaluate("place('age').getAttribute('aria-valuetext')") == "10 years 1 month"
    tab.press("Enter")
    assert tab.evaluate("guesses") == [121]


def test_no_answer_shows_before_the_end(tab: Tab, page: Path) -> None:
    opened(tab, page)
    play(tab, YEARS[:-1])
    for hidden in ("result", "strips", "scores", "pairs", "hands"):
        assert tab.evaluate(f"place('{hidden}').textContent") == ""
    assert tab.evaluate("document.body.innerText").count("Hand 10 of 10") == 1


def test_the_game_fits_a_phone(tab: Tab, page: Path) -> None:
    opened(tab, page)
    assert tab.evaluate(TOO_WIDE) <= 0
    play(tab, YEARS[:1])
    button = tab.evaluate("document.querySelector('form button').getBoundingClientRect().bottom")
    assert button + tab.evaluate("scrollY") <= PHONE[1]  # film, slider and button at once
    assert tab.evaluate(TOO_WIDE) <= 0
    opened(tab, page)
    play(tab, YEARS)
    assert tab.evaluate(TOO_WIDE) <= 0


@pytest.mark.parametrize("dark", [False, True])
def test_the_game_has_no_barriers(tab: Tab, page: Path, axe: Path, dark: bool) -> None:
    for moves in (None, YEARS[:4], YEARS):  # the welcome, a hand, the end
        opened(tab, page)
        tab.darken(dark)
        if moves:
            play(tab, moves)
            tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        assert tab.barriers(axe) == []


BAD = """<!doctype html><title>Bad</title><main><h1>Bad</h1>
<img src="nowhere.png"><p style="color: #bbb; background: #fff">pale</p><div style="width: 1000px">wide</div></main>"""


def test_a_bad_page_is_found_out(tab: Tab, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(BAD, encoding="utf-8")
    found = "\n".join(look_at(tab, page, find_axe()))
    wanted = ["image cannot be shown", "request failed", "wider than the window"]
    if find_axe():
        wanted += ["image-alt", "color-contrast", "html-has-lang"]
    for word in wanted:
        assert word in found


# --- sliders -----------------------------------------------------------------------------------------------

LAPTOP = (1366, 768)  # px
MOST = 0.6  # of the window's height, for the controls and the picture
FIGURE = "document.querySelectorAll('[data-awake]')[%d]"
FACTS = f"""(figure => {{ const image = figure.querySelector("img"), range = figure.querySelector("input");
    const box = range.getBoundingClientRect();
    return {{alt: image.alt, src: image.src, caption: figure.querySelector("figcaption").textContent,
        value: figure.querySelector("output").textContent, spoken: range.getAttribute("aria-valuetext"),
        name: range.labels[0].textContent.trim(), height: figure.querySelector("div").offsetHeight / innerHeight,
        wide: figure.scrollWidth - figure.clientWidth, left: box.left, right: box.right,
        y: (box.top + box.bottom) / 2}}; }})({FIGURE})"""
FOCUS = f"(figure => {{ figure.scrollIntoView(); figure.querySelector('input').focus(); return 1; }})({FIGURE})"
COUNT = f"""(figure => {{ window.pictures = 0; figure.querySelector("img").addEventListener("load", () => pictures++);
    return 1; }})({FIGURE})"""


def dragged(tab: Tab, place: int, moves: int = 60) -> float:
    """Drag a slider of the page from end to end and back; the pictures it showed in a second."""
    tab.evaluate(FOCUS % place)
    tab.evaluate(COUNT % place)
    facts = tab.evaluate(FACTS % place)
    left, right, y = facts["left"] + 8, facts["right"] - 8, facts["y"]
    started = time.monotonic()
    tab.drag((left + (right - left) * abs(1 - 2 * step / moves), y) for step in range(moves + 1))
    return tab.evaluate("pictures") / (time.monotonic() - started)


def agree(facts: dict, value: str | None = None) -> None:
    """Picture, alt text, caption and what is spoken belong to one value."""
    assert facts["alt"] == facts["caption"]
    assert facts["value"] == facts["spoken"]
    assert value is None or facts["value"] == value


def grey(way: str, strength: int) -> Picture:
    """A figure whose grey tells its value."""
    figure, ax = new_figure(6, 6)
    figure.set_facecolor((0.5 + strength / 100,) * 3)
    ax.axis("off")
    return Picture(figure, f"{way} {strength}")


@pytest.fixture(scope="module")
def sliders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with a slider, the same again, and a menu with a slider."""
    path = tmp_path_factory.mktemp("sliders") / "sliders.html"
    one = slider(lambda age: grey("age", age), range(0, 50, 2), 10, "age, months", "{} months".format, play=True)
    two = menu_and_slider(grey, {"down": (-40, -20, 0), "up": (0, 20, 40)}, 0, "way", "by")
    path.write_text("<!doctype html><html lang='en'><meta charset='utf-8'><title>Sliders</title>"
                    "<style>:root { color-scheme: light dark }</style><main><h1>Sliders</h1>"
                    f"{one.to_html()}{one.to_html()}{two.to_html()}</main></html>", encoding="utf-8")
    return path


@pytest.fixture
def sliding(tab: Tab, sliders: Path) -> Tab:
    tab.darken(False)
    tab.resize(*LAPTOP)
    tab.open(sliders.as_uri())
    return tab


def test_a_slider_moves_by_keyboard_and_its_copy_does_not(sliding: Tab) -> None:
    before = sliding.evaluate(FACTS % 0)
    agree(before, "10 months")
    assert before["name"] == "age, months"
    sliding.evaluate(FOCUS % 0)
    for key, value in (("ArrowRight", 12), ("ArrowLeft", 10), ("End", 48), ("Home", 0)):
        sliding.press(key)
        facts = sliding.evaluate(FACTS % 0)
        agree(facts, f"{value} months")
        assert facts["alt"] == f"age {value}"
    assert facts["src"] != before["src"]
    assert sliding.evaluate(FACTS % 1)["alt"] == "age 10"
    assert sliding.problems() == []


def test_a_slider_follows_the_mouse(sliding: Tab) -> None:
    a_second = dragged(sliding, 0)
    print(f"{a_second:.0f} pictures a second")
    facts = sliding.evaluate(FACTS % 0)
    agree(facts, "48 months")
    assert facts["alt"] == "age 48"
    assert a_second > 0


def test_a_menu_changes_the_slider(sliding: Tab) -> None:
    agree(sliding.evaluate(FACTS % 2), "0")
    sliding.evaluate(f"{FIGURE % 2}.querySelector('select').focus()")
    sliding.press("ArrowDown")
    assert sliding.evaluate(FACTS % 2)["alt"] == "up 0"
    sliding.evaluate(FOCUS % 2)
    sliding.press("End")
    facts = sliding.evaluate(FACTS % 2)
    agree(facts, "40")
    assert facts["alt"] == "up 40"


def test_a_hand_grows_at_the_press_of_a_button_and_stops(sliding: Tab) -> None:
    button = f"{FIGURE % 0}.querySelector('button')"
    sliding.evaluate(f"{button}.focus()")
    sliding.press("Enter")
    assert sliding.evaluate(f"{button}.textContent") == "Pause"
    sliding.wait(f"({FACTS % 0}).alt === 'age 16'", 20)
    sliding.press("Enter")
    assert sliding.evaluate(f"{button}.textContent") == "Play"
    stopped = sliding.evaluate(FACTS % 0)
    time.sleep(0.5)
    assert sliding.evaluate(FACTS % 0) == stopped
    sliding.evaluate(FOCUS % 0)
    sliding.press("End")
    sliding.press("ArrowLeft")
    sliding.evaluate(f"{button}.focus()")
    sliding.press("Enter")
    sliding.wait(f"{button}.textContent === 'Play'", 20)
    agree(sliding.evaluate(FACTS % 0), "48 months")


@pytest.mark.parametrize("zoom", [1, 2])
def test_a_slider_fits_the_window(sliding: Tab, zoom: float) -> None:
    sliding.resize(*LAPTOP, zoom=zoom)
    for place in range(3):
        facts = sliding.evaluate(FACTS % place)
        assert 0.3 < facts["height"] <= MOST
        assert facts["wide"] <= 0
    assert sliding.evaluate(TOO_WIDE) <= 0


def stored_sliders() -> dict[str, str]:
    """The last slider of each stored notebook, as HTML."""
    found = {}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for output in [output for cell in nbformat.read(path, 4).cells for output in cell.get("outputs", [])]:
            if "data-slider" in (shown := output.get("data", {}).get("text/html", "")):
                found[path.stem] = shown
    return found


@pytest.mark.parametrize("name", stored_sliders())
def test_the_sliders_of_stored_notebooks_move(tab: Tab, tmp_path: Path, name: str) -> None:
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><meta charset='utf-8'><title>{name}</title><main>{stored_sliders()[name]}</main>",
                    encoding="utf-8")
    tab.darken(False)
    tab.resize(*LAPTOP)
    tab.open(page.as_uri())
    assert tab.problems() == []
    tab.evaluate(FOCUS % 0)
    ends = []
    for key in ("Home", "End"):
        tab.press(key)
        ends.append(tab.evaluate(FACTS % 0))
        agree(ends[-1])
        assert ends[-1]["height"] <= MOST
    assert ends[0]["alt"] != ends[1]["alt"]


@pytest.mark.parametrize("dark", [False, True])
def test_sliders_have_no_barriers(sliding: Tab, axe: Path, dark: bool) -> None:
    sliding.darken(dark)
    assert sliding.barriers(axe) == []


# --- JupyterLab --------------------------------------------------------------------------------------------

NOTEBOOKS = ("00_start_here.ipynb", "01_data_exploration.ipynb")
READY = """(() => { const panel = window.jupyterapp?.shell.currentWidget;
    return panel?.context?.path === "%s" && panel.context.isReady
        && panel.sessionContext?.session?.kernel?.status === "idle"; })()"""
RUN_ALL = """window.ran = ""; jupyterapp.commands.execute("notebook:run-all-cells").then(() => window.ran = "all"); 0"""
FAILED = """jupyterapp.shell.currentWidget.context.model.toJSON().cells.flatMap(cell => cell.outputs || [])
    .filter(output => output.output_type === "error").map(output => output.evalue)"""
# JupyterLab draws the cells near the window alone: go to the one with the slider.
TO_SLIDER = """(async () => { const book = jupyterapp.shell.currentWidget.content;
    const place = book.model.toJSON().cells.findIndex(cell => JSON.stringify(cell).includes("<figure data-slider"));
    book.activeCellIndex = place; await book.scrollToItem(place, "start"); return place; })()"""
NAMELESS = "[...document.querySelectorAll('.jp-OutputArea-output img')].filter(image => !image.alt).length"
THEME = "jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab %s'}).then(() => 1)"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a JupyterLab on a copy of some notebooks, with settings and a kernel of its own."""
    folder = tmp_path_factory.mktemp("lab")
    for name in NOTEBOOKS:
        shutil.copy(ROOT / "notebooks" / name, folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser",
               f"--ServerApp.root_dir={folder}", f"--ServerApp.port={port}", "--IdentityProvider.token=",
               "--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    homes = tmp_path_factory.mktemp("jupyter")
    own = {f"JUPYTER{name}_DIR": str(homes / name) for name in ("_CONFIG", "_DATA", "_RUNTIME", "LAB_SETTINGS",
                                                               "LAB_WORKSPACES")}
    with own_kernel():
        server = subprocess.Popen(command, env=kernel_environment("fast") | own, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)
        try:
            limit = time.monotonic() + 120
            while time.monotonic() < limit:
                with suppress(OSError), urllib.request.urlopen(f"{address}/api/status", timeout=10):
                    break
                time.sleep(0.5)
            yield address
        finally:
            server.terminate()
            server.wait(timeout=30)


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_in_jupyterlab(tab: Tab, lab: str, name: str) -> None:
    tab.darken(False)
    tab.resize(*LAPTOP)
    tab.open(f"{lab}/lab/tree/{name}?reset")  # without what was open before
    tab.wait(READY % name, 300)
    tab.evaluate(RUN_ALL)
    tab.wait("window.ran", 600)
    assert tab.evaluate(FAILED) == []
    assert tab.evaluate(NAMELESS) == 0
    assert tab.evaluate(TO_SLIDER) > 0
    tab.wait(f"!!{FIGURE % 0}", 60)
    before = tab.evaluate(FACTS % 0)
    tab.evaluate(FOCUS % 0)
    tab.press("ArrowRight")
    after = tab.evaluate(FACTS % 0)
    agree(after)
    assert after["alt"] != before["alt"]
    assert after["src"] != before["src"]
    print(f"{name}: {dragged(tab, 0):.0f} pictures a second")
    agree(tab.evaluate(FACTS % 0))
    for theme in ("Light", "Dark"):
        tab.evaluate(THEME % theme)
        assert tab.evaluate(FACTS % 0)["height"] <= MOST
        if axe := find_axe():
            assert tab.barriers(axe, part="[data-awake]") == []
    tab.resize(*LAPTOP, zoom=2)
    facts = tab.evaluate(FACTS % 0)
    assert facts["height"] <= MOST
    assert facts["wide"] <= 0
    own = f"{lab}/lsp/status"  # JupyterLab asks for language servers, which nobody needs
    assert [problem for problem in tab.problems(lab, "ws:") if own not in problem] == []
