"""Notes: what is odd about a film is said, of hands as they should lie nothing is, and a blank film gets no age."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from commands import bonexage
from hypothesis import given
from hypothesis import strategies as st

from bonexage_utils.course.nb09.odd_films import turned
from bonexage_utils.decoding import read_gray
from bonexage_utils.evaluation import by_note, read_predictions
from bonexage_utils.notes import (
    INVERTED,
    MIRRORED,
    NOTES,
    TURNED,
    TWO_HANDS,
    count_notes,
    orientation_notes,
    with_note,
)
from bonexage_utils.orientation import thumbnail
from bonexage_utils.phantom import child_and_film
from bonexage_utils.prediction import COLUMNS, Predictor, predict_to_file

SPOILED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    INVERTED: lambda film: 255 - film,
    TURNED: lambda film: np.rot90(film, 2),
    MIRRORED: lambda film: film[:, ::-1],
    TWO_HANDS: lambda film: np.hstack([film, film[:, ::-1]]),
}


@pytest.fixture(scope="module")
def hands() -> list[np.ndarray]:
    """Of children that nothing here was taught by."""
    return [child_and_film(11, k, height_px=200)[1] for k in range(60)]


def notes_of(films: list[np.ndarray]) -> list[str]:
    return orientation_notes(np.stack([thumbnail(film) for film in films]))


@pytest.mark.slow
def test_hands_as_they_should_lie_have_no_note(hands: list[np.ndarray]) -> None:
    assert sum(note != "" for note in notes_of(hands)) <= 3


@pytest.mark.slow
@pytest.mark.parametrize(("note", "least"), [(INVERTED, 0.8), (TURNED, 0.8), (MIRRORED, 0.5), (TWO_HANDS, 0.9)])
def test_what_is_odd_is_said(hands: list[np.ndarray], note: str, least: float) -> None:
    said = notes_of([SPOILED[note](film) for film in hands])
    assert np.mean([note in text for text in said]) >= least


@pytest.mark.parametrize("turns", [1, 3])
def test_a_film_that_lies_on_its_side_is_turned(hands: list[np.ndarray], turns: int) -> None:
    assert np.mean([TURNED in text for text in notes_of([np.rot90(film, turns) for film in hands])]) >= 0.8


@pytest.mark.parametrize("degrees", [35, 45, 60, 135])
def test_a_hand_that_lies_askew_is_turned(hands: list[np.ndarray], degrees: float) -> None:
    askew = [turned(degrees)(film, np.random.default_rng(number)) for number, film in enumerate(hands)]
    assert np.mean([TURNED in text for text in notes_of(askew)]) >= 0.8


def test_a_hand_a_little_askew_has_no_note(hands: list[np.ndarray]) -> None:
    askew = [turned(10)(film, np.random.default_rng(number)) for number, film in enumerate(hands)]
    assert np.mean([note != "" for note in notes_of(askew)]) <= 0.08


def test_real_films(radiographs: Path) -> None:
    films = [read_gray(path) for path in sorted((radiographs / "native").rglob("*.png"))]
    assert sum(note != "" for note in notes_of(films)) <= 1
    for note, least in ((INVERTED, 0.7), (TURNED, 0.7), (MIRRORED, 0.5), (TWO_HANDS, 0.9)):
        assert np.mean([note in text for text in notes_of([SPOILED[note](film) for film in films])]) >= least
    askew = [turned(45)(film, np.random.default_rng(number)) for number, film in enumerate(films)]
    assert np.mean([TURNED in text for text in notes_of(askew)]) >= 0.9


TEXTS = st.lists(st.sampled_from(NOTES), unique=True).map("; ".join)


@given(st.lists(st.tuples(TEXTS, st.booleans()), max_size=6), st.sampled_from(NOTES))
def test_a_note_stands_where_it_is_put_and_nowhere_else(rows: list[tuple[str, bool]], note: str) -> None:
    before = pd.Series([text for text, _ in rows], dtype=str)
    after = with_note(before, note, np.array([found for _, found in rows], bool))
    assert [note in text.split("; ") for text in after] == [found for _, found in rows]
    others = [[set(text.split("; ")) - {note, ""} for text in notes] for notes in (before, after)]
    assert others[0] == others[1]
    counts = count_notes(after)
    assert counts.get(note, 0) == sum(found for _, found in rows)
    assert list(counts.values()) == sorted(counts.values(), reverse=True)


# --- in the table ---

@pytest.fixture
def odd(hands: list[np.ndarray], tmp_path: Path) -> Path:
    """A folder of one usual film and some that are not; the names say which."""
    folder = tmp_path / "films"
    folder.mkdir()
    usual = next(film for film in hands if all(
        note in notes_of([spoil(film)])[0] for note, spoil in SPOILED.items()) and notes_of([film]) == [""])
    pictures = {"usual": usual, **{note: spoil(usual) for note, spoil in SPOILED.items()}}
    for name, film in pictures.items():
        assert cv2.imwrite(str(folder / f"{name}.png"), film)
    return folder


def predicted(run: Path, folder: Path, out: Path, strict: bool = False, resume: bool = False) -> pd.DataFrame:
    films = pd.DataFrame({"id": [path.stem for path in sorted(folder.iterdir())],
                          "image": [str(path) for path in sorted(folder.iterdir())], "sex": "F", "error": ""})
    predictor = Predictor(run / "model.safetensors", "cpu", strict=strict)
    return predict_to_file(predictor, films, out, resume=resume).set_index("id")


def test_the_note_stands_behind_the_error(run: Path, odd: Path, tmp_path: Path) -> None:
    table = predicted(run, odd, tmp_path / "p.csv")
    assert COLUMNS[-2:] == ["error", "note"]
    assert all(note in table.loc[note, "note"] for note in SPOILED)
    assert table.loc["usual", "note"] == ""
    assert table["bone_age_months"].notna().all()
    assert read_predictions(tmp_path / "p.csv")["note"].tolist() == table["note"].tolist()


def test_strict_gives_no_age_to_a_film_with_a_note_and_goes_on_from_either(run: Path, odd: Path,
                                                                            tmp_path: Path) -> None:
    plain = predicted(run, odd, tmp_path / "p.csv")
    for _ in range(2):
        strict = predicted(run, odd, tmp_path / "p.csv", strict=True, resume=True)
        assert strict["bone_age_months"].notna().tolist() == (plain["note"] == "").tolist()
        assert all(row.note in row.error for row in strict.itertuples() if row.note)
        assert strict["note"].tolist() == plain["note"].tolist()
    again = predicted(run, odd, tmp_path / "p.csv", resume=True)
    pd.testing.assert_frame_equal(again, plain, check_exact=False, atol=0.02)


def letter() -> np.ndarray:
    return cv2.putText(np.zeros((400, 300), np.uint8), "L", (220, 80), cv2.FONT_HERSHEY_SIMPLEX, 2, 255, 5)


@pytest.mark.parametrize("film", [
    np.zeros((400, 300), np.uint8), np.full((400, 300), 255, np.uint8), np.full((50, 60), 77, np.uint8), letter(),
    np.random.default_rng(0).normal(40, 4, (800, 600)).astype(np.uint8)], ids=["black", "white", "grey", "L", "dust"])
def test_a_blank_film_is_an_error_that_says_so(run: Path, odd: Path, tmp_path: Path, film: np.ndarray) -> None:
    assert cv2.imwrite(str(odd / "blank.png"), film)
    table = predicted(run, odd, tmp_path / "p.csv")
    assert "blank.png: blank" in table.loc["blank", "error"]
    assert np.isnan(table.loc["blank", "bone_age_months"])
    assert table["bone_age_months"].isna().sum() == 1


def test_a_table_from_before_there_were_notes(run: Path, odd: Path, tmp_path: Path) -> None:
    """It may be written over, and is evaluated; its films are looked at again."""
    out = tmp_path / "p.csv"
    new = predicted(run, odd, out)
    old = pd.read_csv(out).drop(columns="note")
    old.to_csv(out, index=False)
    assert (read_predictions(out)["note"] == "").all()
    out.with_suffix(".json").unlink()
    assert predicted(run, odd, out)["note"].tolist() == new["note"].tolist()


@pytest.mark.slow
def test_the_terminal_counts_them(run: Path, odd: Path, tmp_path: Path) -> None:
    words = ["predict", str(run / "model.safetensors"), str(odd), "--sex", "F"]
    done = bonexage(*words, "--out", "p.csv", cwd=tmp_path)
    table = pd.read_csv(tmp_path / "p.csv", keep_default_na=False)
    assert done.returncode == 0
    assert f"{(table['note'] != '').sum()} films have a note" in done.stderr
    assert all(f"{note} {count}" in done.stderr for note, count in count_notes(table["note"]).items())
    assert f"note: {INVERTED}" in done.stdout
    strict = bonexage(*words, "--strict", "--out", "s.csv", cwd=tmp_path)
    assert strict.returncode == 1
    assert pd.read_csv(tmp_path / "s.csv")["bone_age_months"].notna().sum() == 1


# --- in an evaluation ---

def test_errors_by_note() -> None:
    rng = np.random.default_rng(0)
    films = pd.DataFrame({"months": 100.0, "predicted": 100 + rng.normal(0, 5, 90),
                          "note": [""] * 40 + [TURNED] * 30 + [f"{INVERTED}; {TURNED}"] * 20})
    films.loc[40:, "predicted"] += 50
    table = by_note(films).set_index("note")
    assert table["n"].to_dict() == {"none": 40, "any": 50, INVERTED: 20, TURNED: 50}
    assert table.loc["any", "bias"] == pytest.approx(50, abs=3)
    assert table.loc["none", "mae"] < 8
    assert by_note(films.assign(note="")).empty
