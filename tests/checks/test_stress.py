"""The stress tests: nothing at strength 0, known answers above it, and a network that reads brightness is exposed."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bonexage_utils import images
from bonexage_utils.batches import film_key
from bonexage_utils.checks.stress import (
    CONDITIONS,
    PERTURBATIONS,
    SIGNIFICANT_MONTHS,
    error_under_stress,
    labelled_split,
    perturb,
    predict_stressed,
    stress,
    summarise,
)
from bonexage_utils.cohort import Cohort
from bonexage_utils.errors import BoneXageError
from bonexage_utils.images import letterbox
from bonexage_utils.prediction import Predictor
from bonexage_utils.statistics import bootstrap_mean

SIZE = 48
films = arrays(np.uint8, st.tuples(st.integers(8, 60), st.integers(8, 60)))
keys = st.integers(0, 2**63 - 1)


# --- the perturbations ---

@pytest.mark.parametrize("name", PERTURBATIONS)
@given(film=films, key=keys)
@settings(max_examples=30)
def test_strength_0_changes_nothing(name: str, film: np.ndarray, key: int) -> None:
    np.testing.assert_array_equal(perturb(film, name, 0, SIZE, key), letterbox(film, SIZE))


@pytest.mark.parametrize(("name", "strength"), [("flip", 1), ("flip", 2), ("inversion", 1)])
@given(film=films)
@settings(max_examples=30)
def test_twice_is_as_it_was(name: str, strength: float, film: np.ndarray) -> None:
    rng, change = np.random.default_rng(0), PERTURBATIONS[name].change
    once = change(film, strength, rng)
    np.testing.assert_array_equal(change(once, strength, rng), film)


@given(film=films, key=keys)
@settings(max_examples=30)
def test_known_films(film: np.ndarray, key: int) -> None:
    square = letterbox(film, SIZE)
    np.testing.assert_array_equal(perturb(film, "flip", 1, SIZE), letterbox(np.ascontiguousarray(film[:, ::-1]), SIZE))
    np.testing.assert_array_equal(perturb(film, "flip", 2, SIZE), letterbox(np.ascontiguousarray(film[::-1]), SIZE))
    np.testing.assert_array_equal(perturb(film, "inversion", 1, SIZE), letterbox(255 - film, SIZE))
    np.testing.assert_array_equal(perturb(film, "rotation", 180, SIZE, key), square[::-1, ::-1])
    turned = perturb(film, "rotation", 90, SIZE, key)
    assert any((turned == np.rot90(square, way)).all() for way in (1, -1))


def test_greys_by_hand() -> None:
    film = np.array([[0, 100], [200, 255]], np.uint8).repeat(8, 0).repeat(8, 1)  # mean 138.75
    assert perturb(film, "brightness", 25, 16)[::8, ::8].tolist() == [[25, 125], [225, 255]]
    assert perturb(film, "brightness", -50, 16)[::8, ::8].tolist() == [[0, 50], [150, 205]]
    # mean + 2 (grey − mean), and mean + ½ (grey − mean)
    assert perturb(film, "contrast", 1, 16)[::8, ::8].tolist() == [[0, 61], [255, 255]]
    assert perturb(film, "contrast", -1, 16)[::8, ::8].tolist() == [[69, 119], [169, 197]]


def test_padding_stays_black_whatever_the_exposure() -> None:
    film = np.full((60, 30), 90, np.uint8)
    for name in ("brightness", "contrast", "inversion", "marker"):
        for strength in PERTURBATIONS[name].strengths:
            assert not perturb(film, name, strength, 40)[:, :9].any(), name


@pytest.mark.parametrize("halvings", [1, 2, 3])
def test_resolution_is_that_of_a_smaller_film(halvings: int) -> None:
    few = 64 >> halvings
    small = np.random.default_rng(0).integers(0, 256, (few, few), np.uint8)
    film = small.repeat(64 // few, 0).repeat(64 // few, 1)
    np.testing.assert_array_equal(perturb(film, "resolution", halvings, 64), letterbox(small, 64))


def test_a_marker_lies_in_a_corner_and_has_its_height() -> None:
    film, corners = np.full((300, 240), 40, np.uint8), set()
    for key in range(40):
        for percent in PERTURBATIONS["marker"].strengths:
            down, across = np.nonzero(PERTURBATIONS["marker"].change(film, percent, np.random.default_rng(key)) != 40)
            assert np.ptp(down) + 1 == pytest.approx(3 * percent, rel=0.35)
            assert np.ptp(across) <= np.ptp(down)
            corners.add((bool(down.mean() > 150), bool(across.mean() > 120)))
            assert min(down.min(), 299 - down.max()) < 3 * percent
            assert min(across.min(), 239 - across.max()) < 3 * percent
    assert len(corners) == 4


def test_chance_belongs_to_the_film() -> None:
    film = np.random.default_rng(0).integers(0, 256, (60, 50), np.uint8)
    for name, strength in CONDITIONS:
        np.testing.assert_array_equal(perturb(film, name, strength, SIZE, 7), perturb(film, name, strength, SIZE, 7))
    ways = {perturb(film, "rotation", 20, SIZE, key).tobytes() for key in range(20)}
    assert len(ways) == 2  # one way or the other
    # and a film turns the same way at every strength
    ways = {(perturb(film, "rotation", 20, SIZE, key).tobytes(), perturb(film, "rotation", 90, SIZE, key).tobytes())
            for key in range(20)}
    assert len(ways) == 2


# --- what predictors say ---

def toy(months) -> SimpleNamespace:
    """As much of a Predictor as the stress tests use; `months` is of films (n, SIZE, SIZE)."""
    return SimpleNamespace(months=lambda images, sexes: np.asarray(months(images), float), path=Path("toy"),
                           description={"network_sha256": "0"}, tta=False,
                           preprocessing=SimpleNamespace(image_size=SIZE))


@pytest.fixture
def grey_films(tmp_path: Path) -> pd.DataFrame:
    """Ten square films of greys from 60 to 130, mean about 95, so that little is cut off."""
    rng, rows = np.random.default_rng(0), []
    for k in range(10):
        path = tmp_path / f"{k}.png"
        path.write_bytes(cv2.imencode(".png", rng.integers(60, 131, (SIZE, SIZE), np.uint8))[1].tobytes())
        rows.append({"id": str(k), "image": str(path), "months": 95.0, "sex": "FM"[k % 2], "split": "test"})
    return pd.DataFrame(rows)


def test_a_network_that_reads_brightness_is_exposed_and_by_the_right_tests(grey_films: pd.DataFrame) -> None:
    stressed, failures = predict_stressed(toy(lambda images: images.mean((1, 2))), grey_films)
    assert not failures
    table = summarise(stressed).set_index(["perturbation", "strength"])
    for level in (-50, -25, 25, 50, 100):
        assert table.loc[("brightness", level), "bias_change"] == pytest.approx(level, abs=0.01)
        assert table.loc[("brightness", level), "share_significant"] == 1
    assert table.loc[("inversion", 1), "bias_change"] == pytest.approx(255 - 2 * stressed["predicted"].mean(), abs=0.01)
    assert (table.loc["brightness", "low"] > 0).all()
    for name in ("flip", "contrast", "resolution", "marker"):
        assert table.loc[name, "share_significant"].max() == 0, name
    for name in ("flip", "contrast", "resolution"):
        assert table.loc[name, "mean_abs_change"].max() < 0.5, name
    # turned by whole quarters a square keeps its brightness; askew, corners come in black
    assert table.loc[("rotation", 90), "mean_abs_change"] == pytest.approx(0, abs=0.5)
    assert table.loc[("rotation", 45), "bias_change"] == pytest.approx(-95 * (3 - 2 * 2**0.5), abs=1.5)


def test_a_network_that_ignores_the_film_is_never_exposed(grey_films: pd.DataFrame) -> None:
    table = summarise(predict_stressed(toy(lambda images: np.full(len(images), 90.0)), grey_films)[0])
    assert len(table) == len(CONDITIONS)
    assert (table["mae"] == 5).all()
    unmoved = table[["mae_change", "low", "high", "bias_change", "mean_abs_change", "share_significant"]] == 0
    assert unmoved.all(axis=None)


def test_a_summary_by_hand() -> None:
    stressed = pd.DataFrame({
        "id": list("abcd"), "sex": "F", "perturbation": "flip", "strength": 1.0,
        "months": [100.0, 100.0, 100.0, 100.0], "predicted": [100.0, 110.0, 90.0, 100.0],
        "stressed": [100.0, 122.0, 102.5, 80.0],
    })
    # moved by 0, 12, 12.5, −20; errors from 0, 10, 10, 0 to 0, 22, 2.5, 20
    row = summarise(stressed).iloc[0]
    assert SIGNIFICANT_MONTHS == 12
    assert row["share_significant"] == 0.5  # 12 is not more than 12
    assert row["mean_abs_change"] == pytest.approx(44.5 / 4)
    assert row["bias_change"] == pytest.approx(4.5 / 4)
    assert (row["n"], row["mae"], row["mae_change"]) == (4, pytest.approx(44.5 / 4), pytest.approx(24.5 / 4))
    interval = bootstrap_mean(np.array([0.0, 12.0, -7.5, 20.0]))
    assert (row["low"], row["high"]) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_each_film_is_read_once_and_one_bad_film_costs_no_other_its_rows(
        grey_films: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Path(grey_films["image"][3]).write_bytes(b"junk")
    reads, read = [], images.read_gray
    monkeypatch.setattr(images, "read_gray", lambda path: reads.append(path) or read(path))
    stressed, failures = predict_stressed(toy(lambda images: images[:, 5, 7]), grey_films, batch_size=11)
    assert sorted(reads) == sorted(grey_films["image"])
    assert set(failures) == {"3"}
    assert "3.png" in failures["3"]
    assert stressed.groupby("id").size().to_dict() == {film: len(CONDITIONS) for film in "012456789"}
    # each row is of its own film and condition
    for row in stressed.sample(40, random_state=0).itertuples():
        film = cv2.imread(str(tmp_path / f"{row.id}.png"), cv2.IMREAD_GRAYSCALE)
        changed = perturb(film, row.perturbation, row.strength, SIZE, film_key(row.id))
        assert (row.predicted, row.stressed) == (film[5, 7], changed[5, 7])


# --- splits and files ---

def test_the_test_split_is_judged_if_it_has_labels(cohort: Cohort) -> None:
    assert labelled_split(cohort)[0] == "test"
    assert labelled_split(cohort, "selection")[0] == "selection"
    table = cohort.table.copy()
    table.loc[table["split"] == "test", ["months", "split"]] = [np.nan, "unlabelled"]
    unlabelled = Cohort(cohort.root, table, {})
    name, part = labelled_split(unlabelled)
    assert name == "calibration"
    assert part["id"].tolist() == cohort.split("calibration")["id"].tolist()
    with pytest.raises(BoneXageError, match="no labelled films in split test") as caught:
        labelled_split(unlabelled, "test")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_trained_network_under_stress(run: Path, cohort: Cohort, tmp_path: Path) -> None:
    predictor = Predictor(run / "model.safetensors", device="cpu")
    table, told = stress(predictor, cohort, tmp_path / "out", "calibration", batch_size=7)
    part = cohort.split("calibration")
    written = pd.read_csv(tmp_path / "out" / "stress.csv")
    pd.testing.assert_frame_equal(written, table)
    assert {"perturbation", "strength", "n", "mae", "mae_change", "low", "high", "mean_abs_change",
            "share_significant"} <= set(written)
    assert (written["n"] == len(part)).all()
    assert f"{len(part)} films of split calibration" in told
    as_they_are = (predictor.predict(part)["bone_age_months"] - part["months"]).abs().mean()
    np.testing.assert_allclose(written["mae"] - written["mae_change"], as_they_are, atol=0.01)
    assert (tmp_path / "out" / "stress.png").read_bytes().startswith(b"\x89PNG")
    assert '"split": "calibration"' in (tmp_path / "out" / "stress.json").read_text()
    picture = error_under_stress(table, SIGNIFICANT_MONTHS)
    assert all(name in picture.alt for name in PERTURBATIONS)


def test_no_film_that_can_be_read_is_one_line(grey_films: pd.DataFrame, tmp_path: Path) -> None:
    for image in grey_films["image"]:
        Path(image).unlink()
    with pytest.raises(BoneXageError, match="no film of split test can be read") as caught:
        stress(toy(lambda images: images[:, 0, 0]), Cohort(tmp_path, grey_films, {}), tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_out_of_memory_says_what_to_try(grey_films: pd.DataFrame) -> None:
    def full(images: np.ndarray) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried …")

    with pytest.raises(BoneXageError, match="try --batch-size 4"):
        predict_stressed(toy(full), grey_films, batch_size=8)
