"""What moves in the notebooks works without a browser; the notebooks' first cell works wherever they are opened."""

import ast
import base64
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT

from bonexage_utils.course import bootstrap, memory, sliders
from bonexage_utils.course.nb00 import figures
from bonexage_utils.course.nb01 import exploration
from bonexage_utils.course.nb02 import pixels
from bonexage_utils.course.nb03 import losses
from bonexage_utils.course.nb04 import pooling
from bonexage_utils.course.nb05 import fusion, same_hand
from bonexage_utils.course.nb06 import bounds
from bonexage_utils.figures import Picture
from bonexage_utils.phantom import Nuisances, anatomy, render

FILM, RESPONSE = np.zeros((32, 32), np.uint8), torch.rand(4, 3, 3, generator=torch.Generator().manual_seed(0)) + 0.1
LABELS = pd.DataFrame({"sex": list("FM") * 30, "months": np.repeat(np.arange(12.0, 192.0, 6.0), 2)})
SAID = pd.DataFrame({"image": str(ROOT / "notebooks" / "cover.png"), "sex": list("FMFM"),
                     "months": [12.0, 60, 132, 216], "girl": [14.0, 50, 120, 190], "boy": [18.0, 70, 141, 215]})
LAWS = {"fp32": memory.Law(28_000_000, 0.0, 2200.0), "bf16": memory.Law(28_000_000, 5.6e7, 1100.0)}
SLIDERS = {
    "grow_a_hand": (figures.grow_a_hand, figures.draw_hands, figures.draw_growth, (12, 60, 216)),
    "slip_a_label": (losses.slip_a_label, lambda slip: losses.draw_slips((slip,)), losses.draw_slips, (0, 36, 96)),
    "choose_bins": (lambda: exploration.choose_bins(LABELS), lambda width: exploration.draw_bins(LABELS, (width,)),
                    lambda: exploration.draw_bins(LABELS), (1, 6, 24)),
    "choose_width": (pixels.choose_width, lambda width: pixels.draw_squares((width,)), pixels.draw_squares,
                     (60, 80, 125)),
    "choose_p": (lambda: pooling.choose_p(FILM, RESPONSE),
                 lambda p: pooling.draw_responses(FILM, RESPONSE, powers=(p,)),
                 lambda: pooling.draw_responses(FILM, RESPONSE), (1, 3, 30)),
    "switch_the_sex": (lambda: fusion.switch_the_sex(SAID), lambda age: fusion.draw_films_switched(SAID, (age,)),
                       lambda: fusion.draw_films_switched(SAID), (12, 132, 216)),
    "choose_batch": (lambda: memory.choose_batch(LAWS), lambda films: memory.draw_memory(LAWS, (films,)),
                     lambda: memory.draw_memory(LAWS), (1, 16, 64)),
    "choose_age": (bounds.choose_age, lambda age: bounds.draw_tangents((age,)), bounds.draw_tangents, (3, 60, 237)),
}

# --- sliders and figures ---


@pytest.mark.parametrize("name", SLIDERS)
def test_slider_follows_at_both_ends(name: str) -> None:
    pytest.importorskip("ipywidgets")
    make, draw, _, (low, middle, high) = SLIDERS[name]
    slider, image, told = make().children
    assert (slider.min, slider.value, slider.max) == (low, middle, high)
    seen = {middle: image.value}
    for value in (low, high):
        slider.value = value
        picture = draw(value)
        assert (image.value, told.value) == (picture.png, picture.alt)
        seen[value] = image.value
    assert len(set(seen.values())) == 3


@pytest.mark.parametrize("name", SLIDERS)
def test_without_ipywidgets_the_static_twin_is_shown(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, _, twin, _ = SLIDERS[name]
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    shown = make()
    assert isinstance(shown, Picture)
    assert shown.alt == twin().alt


def test_same_age_same_picture_and_beyond_the_ends_it_stays_inside() -> None:
    assert figures.draw_hands(12).png == figures.draw_hands(12).png == figures.draw_hands(-5).png
    assert figures.draw_hands(216).png == figures.draw_hands(1000).png


def test_alt_text_counts_what_is_drawn() -> None:
    for age in (12, 120, 216):
        girl, boy = (figures.centres_present(sex, age) for sex in "FM")
        assert f"girl shows {girl} of 30" in figures.draw_hands(age).alt
        assert f"the boy {boy}" in figures.draw_hands(age).alt
    assert figures.centres_present("F", 216) == len(anatomy.APPEARANCE) == figures.CENTRES


def test_girls_are_never_behind() -> None:
    """What notebook 00 says of its curves."""
    counts = np.array([[figures.centres_present(sex, age) for age in range(12, 217)] for sex in "FM"])
    assert (counts[0] >= counts[1]).all()
    assert (np.diff(counts) >= 0).all()
    assert [12 + int(np.argmax(row == 30)) for row in counts] == [129, 153]
    assert counts[:, 0].tolist() == [7, 2]


def test_the_bar_in_the_corner_is_two_centimetres_long() -> None:
    """It shrinks on the film while the hand grows, and both hands of one age have nearly the same."""
    bars = []
    for age in (12, 108, 216):
        film = figures._film("F", age)
        row = film[-figures.BAR_PLACE_PX, figures.BAR_PLACE_PX:]
        bars.append(int(np.argmin(row == 255)))
        _, facts = render(sliders.average_child("F", age), np.random.default_rng(0), figures.FILM_HEIGHT, Nuisances())
        assert bars[-1] * facts["mm_per_px"] == pytest.approx(20, abs=facts["mm_per_px"] / 2)
    assert bars == sorted(bars, reverse=True)


def test_stored_figures_tell_what_is_drawn_today() -> None:
    """Counts and best guesses, as alt text: a change of the phantom or of a loss that nobody executed would show."""
    stored = {
        "".join(output["data"]["text/plain"])
        for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    }
    for draw in (figures.draw_growth, figures.draw_centres, losses.draw_slips, pixels.draw_squares, pixels.draw_sides,
                 pixels.draw_six_changes, same_hand.draw_centre_ages, same_hand.draw_same_hand,
                 same_hand.draw_in_spreads, bounds.draw_tangents):
        assert draw().alt in stored, f"{draw.__name__}: run `make notebooks`"


def test_the_cover_is_the_first_figure_of_both_hands() -> None:
    """`make notebooks` draws it; its alt text is in the README."""
    notebook = json.loads((ROOT / "notebooks" / "00_start_here.ipynb").read_text(encoding="utf-8"))
    stored = [base64.b64decode("".join(output["data"]["image/png"])) for cell in notebook["cells"]
              for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    assert (ROOT / "notebooks" / "cover.png").read_bytes() in stored
    counts = figures.draw_growth().alt.split("on them: ")[1].split(".")[0]
    assert counts in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("guess", [..., None, "girl", ("girl", ...), ("dog", 3), ("girl", -1), 12])
def test_a_guess_that_is_none_is_not_drawn(guess: object) -> None:
    assert "guess" not in figures.draw_centres(guess).alt


def test_a_guess_is_drawn() -> None:
    assert "the boy first, by 3 months" in figures.draw_centres(("boy", 3)).alt


@pytest.mark.parametrize("guesses", [..., None, [...] * 6, [None] * 6])
def test_no_guess_is_no_mistake(guesses: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert np.isnan(figures.tidy_guesses(guesses, 6)).all()
    assert not capsys.readouterr().out


@pytest.mark.parametrize("guess", [True, "2", -1, 21, 126, float("nan")])
def test_a_guess_that_is_no_age_is_left_out_and_named(guess: object, capsys: pytest.CaptureFixture[str]) -> None:
    months = figures.tidy_guesses([4, guess, ...], 3)
    assert months[0] == 48
    assert np.isnan(months[1:]).all()
    told = capsys.readouterr().out
    assert told.startswith(f"Film B: {guess!r} is no age in years")
    assert ("months?" in told) == (guess in (21, 126))


@pytest.mark.parametrize(("guesses", "kept"), [(7, []), ("seven", []), ([1, 2, 3], [12, 24])])
def test_guesses_that_are_no_list_of_that_length(
    guesses: object, kept: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert figures.tidy_guesses(guesses, 2)[:len(kept)].tolist() == kept
    assert "a list of 2 guesses" in capsys.readouterr().out


def test_game_shows_who_played() -> None:
    films = pd.DataFrame({"sex": list("FM"), "months": [24.0, 180.0], "median": 120.0, "model": [30.0, 170.0]})
    played = figures.draw_game(films.assign(you=figures.tidy_guesses([2, ...], 2))).alt
    assert played.count("you") == 1
    assert "label 2.0, median 10.0, model 2.5, you 2.0" in played
    assert "you" not in figures.draw_game(films.assign(you=np.nan)).alt


def test_bins_count_every_label_and_show_the_comb() -> None:
    """Labels at every sixth month: five of six bins of a month are empty, and no bin of six."""
    told = exploration.draw_bins(LABELS, (1, 6)).alt
    assert "60 labels" in told
    assert "the fullest holds 2 films; bins of 6" in told
    # from 0 to 239 months there are 40 bins of six, 30 of them with labels; of 240 bins of a month, 30
    assert "bins of 1: 88% of them empty" in told
    assert "bins of 6: 25% of them empty" in told
    assert "bins of 24: 20% of them empty" in exploration.draw_bins(LABELS, (24,)).alt  # two of ten: 192 to 239 months


# --- the first cell of every notebook ---

# Stands in for a fresh Python: hides the installed package, and `git clone` copies the package of this checkout.
PRELUDE = """
import importlib.util, json, os, shutil, subprocess, sys
sys.path.insert(0, "")  # as in a notebook
sys.path[:] = [p for p in sys.path if os.path.abspath(p or ".") != ROOT]
if HIDE:
    sys.meta_path[:] = [f for f in sys.meta_path if not getattr(f, "__module__", "").startswith("__editable__")]
calls, really = [], subprocess.run
def run(command, **kwargs):
    calls.append(command[0] if command[0] == "git" else "bootstrap.py")
    if command[0] != "git":
        return really(command, **kwargs)
    assert command[1] == "clone" and kwargs["check"]
    shutil.copytree(os.path.join(ROOT, "bonexage_utils"), os.path.join(command[-1], "bonexage_utils"))
    os.mkdir(os.path.join(command[-1], "notebooks"))
subprocess.run = run
"""
REPORT = """
import bonexage_utils
print(json.dumps([calls, os.getcwd(), os.path.abspath(bonexage_utils.__file__)]))
"""


def run_cell(folder: Path, times: int = 1, hide: bool = True) -> tuple[list[str], Path, Path]:
    """What the cell started, where it ended, and which package it found."""
    script = folder / "cell.py"
    prelude = f"ROOT, HIDE = {str(ROOT)!r}, {hide}\n" + PRELUDE
    script.write_text(prelude + (bootstrap.BOOTSTRAP_CELL + "\n") * times + REPORT, encoding="utf-8")
    done = subprocess.run([sys.executable, "-P", script.name], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    calls, where, package = json.loads(done.stdout.splitlines()[-1])
    return calls, Path(where), Path(package)


def installed_otherwise() -> bool:
    """Whether the package lies in site-packages, where the prelude cannot hide it."""
    return Path(bootstrap.__file__).resolve().parents[2] != ROOT


@pytest.mark.skipif(installed_otherwise(), reason="the package is not an editable installation")
def test_on_colab_the_course_is_fetched_once(tmp_path: Path) -> None:
    calls, where, package = run_cell(tmp_path, times=2)
    assert calls == ["git", "bootstrap.py"]
    assert where == tmp_path / "bonexage" / "notebooks"
    assert package == tmp_path / "bonexage" / "bonexage_utils" / "__init__.py"
    # A kernel that was started again finds what the first one fetched.
    calls, again, _ = run_cell(tmp_path, times=2)
    assert calls == ["bootstrap.py"]
    assert again == where


@pytest.mark.skipif(installed_otherwise(), reason="the package is not an editable installation")
def test_in_a_checkout_nothing_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "bonexage_utils" / "course").mkdir(parents=True)
    (tmp_path / "bonexage_utils" / "__init__.py").touch()
    (tmp_path / "bonexage_utils" / "course" / "bootstrap.py").write_text(Path(bootstrap.__file__).read_text())
    calls, where, package = run_cell(tmp_path / "notebooks", times=2)
    assert calls == ["bootstrap.py"]
    assert where == tmp_path / "notebooks"
    assert package == tmp_path / "bonexage_utils" / "__init__.py"


def test_where_the_package_is_installed_nothing_happens(tmp_path: Path) -> None:
    assert run_cell(tmp_path, times=2, hide=False)[:2] == ([], tmp_path)


def test_a_fetch_that_fails_stops_the_cell(tmp_path: Path) -> None:
    script = f"ROOT, HIDE = {str(ROOT)!r}, True\n" + PRELUDE + (
        "def run(command, **kwargs):\n    raise subprocess.CalledProcessError(128, command)\nsubprocess.run = run\n")
    done = subprocess.run([sys.executable, "-P", "-c", script + bootstrap.BOOTSTRAP_CELL], cwd=tmp_path,
                          capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "git" in done.stderr.splitlines()[-1]


def test_the_cell_is_short_and_leaves_torch_and_numpy_alone() -> None:
    assert len(bootstrap.BOOTSTRAP_CELL.splitlines()) <= 12
    assert bootstrap.ADDRESS in bootstrap.BOOTSTRAP_CELL
    assert not set(bootstrap.NEEDED) & set(bootstrap.UNTOUCHED)


def test_every_notebook_begins_with_the_cell() -> None:
    for source in sorted((ROOT / "notebooks" / "source").glob("[0-9][0-9]_*.py")):
        first = source.read_text(encoding="utf-8").split("\n# %%\n", 1)[1]
        assert first.startswith(bootstrap.BOOTSTRAP_CELL + "\n"), source.name


def test_the_script_needs_nothing_installed() -> None:
    tree = ast.parse(Path(bootstrap.__file__).read_text(encoding="utf-8"))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in modules} <= sys.stdlib_module_names


def test_missing_asks_by_import_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "NEEDED", {"json": "json>=1", "no_such_module": "no-such>=2"})
    assert bootstrap.missing() == ["no-such>=2"]


def test_constraints_hold_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "UNTOUCHED", ("numpy", "no-such-distribution"))
    assert bootstrap.constraints() == f"numpy=={metadata.version('numpy')}"


def test_install_asks_pip_once_and_holds_the_big_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    held: list[str] = []

    def pip(command: list[str], check: bool) -> None:
        asked.append(command)
        held.append(Path(command[command.index("--constraint") + 1]).read_text(encoding="utf-8"))
        monkeypatch.setattr(bootstrap, "NEEDED", {"json": "json>=1"})  # now it is there

    monkeypatch.setattr(bootstrap, "NEEDED", {"no_such_module": "no-such>=2"})
    monkeypatch.setattr(bootstrap.subprocess, "run", pip)
    assert bootstrap.install_missing() == ["no-such>=2"]
    assert bootstrap.install_missing() == []
    assert [command[-1] for command in asked] == ["no-such>=2"]
    assert "numpy==" in held[0]
