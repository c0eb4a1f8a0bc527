"""Attribution against networks that can be worked out by hand, and against bones whose place is known."""

import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import avg_pool2d

from bonexage_utils.checks.attribution import (
    METHODS,
    attribute,
    attribution_maps,
    baseline_film,
    enrichment,
    nearest,
    pooled_features,
    share_inside,
    untrained,
)
from bonexage_utils.course.bones import (
    centre_region,
    change_per_month,
    deciding_centres,
    letterbox_mask,
    score_on_bones,
    shortcut_region,
)
from bonexage_utils.decoding import read_gray
from bonexage_utils.errors import BoneXageError
from bonexage_utils.images import Preprocessing, letterbox
from bonexage_utils.model import BoneAgeNet
from bonexage_utils.phantom import Nuisances, child_and_film, grow, read_masks, write_cohort
from bonexage_utils.phantom.maturity import CENTRES
from bonexage_utils.phantom.radiograph import film_masks
from bonexage_utils.phantom.tissue import Frame
from bonexage_utils.prediction import Predictor

SIZE, MEAN, STD = 64, 0.5, 0.25


class Toy(nn.Module):
    """Months by a formula over cells (B, 1, h, w) of `cell` pixels' mean: the film itself at 1."""

    def __init__(self, formula, cell: int = 1) -> None:
        super().__init__()
        self.formula, self.cell = formula, cell

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return avg_pool2d(images, self.cell)

    def from_map(self, maps: torch.Tensor, sex: torch.Tensor) -> torch.Tensor:
        return self.formula(maps[:, 0]) + 10.0 * sex

    def forward(self, images: torch.Tensor, sex: torch.Tensor) -> torch.Tensor:
        return self.from_map(self.features(images), sex)


def predictor_of(model: nn.Module, unknown_sex: str = "error", size: int = SIZE) -> SimpleNamespace:
    return SimpleNamespace(model=model.eval(), preprocessing=Preprocessing(size, MEAN, STD), uses_sex=True,
                           device=torch.device("cpu"), unknown_sex=unknown_sex)


def a_film(seed: int = 0, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size), dtype=np.uint8)


def place(top: int, left: int, side: int, size: int = SIZE) -> np.ndarray:
    region = np.zeros((size, size), bool)
    region[top : top + side, left : left + side] = True
    return region


@pytest.mark.parametrize("baseline", ["blurred", "black"])
def test_a_linear_network_is_attributed_by_hand(baseline: str) -> None:
    """months = 100 + sum of w times the standardised film: each pixel is worth w times its difference."""
    film, weights = a_film(), np.random.default_rng(1).normal(0, 0.1, (SIZE, SIZE)).astype(np.float32)
    predictor = predictor_of(Toy(lambda x: 100.0 + (x * torch.from_numpy(weights)).sum((1, 2))))
    told = attribute(predictor, film, "M", baseline=baseline)
    other = baseline_film(film, baseline)
    np.testing.assert_allclose(told.map, weights * (film - other) / 255 / STD, atol=1e-5)
    seen = (film / 255 - MEAN) / STD
    assert told.prediction == pytest.approx(110 + (weights * seen).sum(), abs=1e-3)
    assert told.baseline == pytest.approx(110 + (weights * (other / 255 - MEAN) / STD).sum(), abs=1e-3)
    assert told.unexplained == pytest.approx(0, abs=1e-3)
    girl = attribute(predictor, film, "F", baseline=baseline)
    assert girl.prediction == pytest.approx(told.prediction - 10, abs=1e-3)


def test_hiding_a_linear_networks_place_takes_its_months_away() -> None:
    """Far from the border every pixel is hidden equally often, so the whole effect comes back."""
    region = place(24, 30, 5)
    film = np.where(region, 200, 0).astype(np.uint8)
    predictor = predictor_of(Toy(lambda x: 50 + (x * torch.from_numpy(region)).sum((1, 2))))
    told = attribute(predictor, film, "F", "occlusion", "black")
    assert told.prediction - told.baseline == pytest.approx(25 * 200 / 255 / STD, rel=1e-5)
    assert told.unexplained == pytest.approx(0, abs=1e-2)
    near = cv2.dilate(region.astype(np.uint8), np.ones((11, 11))).astype(bool)
    assert (told.map[~near] == 0).all()
    assert told.map[26, 32] == told.map.max() > 0


def test_the_last_map_is_shown_in_its_own_cells() -> None:
    film, worth = a_film(2), torch.arange(16.0).view(4, 4)
    predictor = predictor_of(Toy(lambda cells: (cells * worth).sum((1, 2)), cell=16))
    told = attribute(predictor, film, "F", "last_map", "black")
    cells = told.map.reshape(4, 16, 4, 16)
    assert (cells == cells[:, :1, :, :1]).all()
    by_hand = film.reshape(4, 16, 4, 16).mean((1, 3)) / 255 / STD * worth.numpy()
    np.testing.assert_allclose(cells.sum((1, 3)), by_hand, rtol=1e-4)
    assert told.unexplained == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(("size", "cells"), [(100, 4), (70, 3), (64, 2)])
def test_cells_that_do_not_divide_the_film_keep_their_sum(size: int, cells: int) -> None:
    predictor = predictor_of(Toy(lambda x: x.mean((1, 2)) ** 2, cell=size // cells), size=size)
    told = attribute(predictor, a_film(3, size), "F", "last_map", "black")
    assert told.map.shape == (size, size)
    assert told.unexplained == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(("method", "reach"), [("integrated_gradients", 1), ("occlusion", 11), ("last_map", 31)])
def test_a_network_that_looks_at_one_place_is_found_looking_there(method: str, reach: int) -> None:
    region = place(20, 40, 6)
    predictor = predictor_of(Toy(lambda x: 30 * torch.tanh((x * avg_pool2d(
        torch.from_numpy(region)[None].float(), SIZE // x.shape[-1])[0]).sum((1, 2)) / 20) ** 2,
        cell=16 if method == "last_map" else 1))
    told = attribute(predictor, a_film(4), "M", method)
    near = cv2.dilate(region.astype(np.uint8), np.ones((reach, reach))).astype(bool)
    assert share_inside(told.map, near) == pytest.approx(1)
    assert enrichment(told.map, region) > 3


@pytest.mark.parametrize("method", METHODS)
def test_both_signs_are_kept(method: str) -> None:
    older, younger = place(8, 8, 16), place(40, 40, 16)
    film = np.where(older | younger, 200, 0).astype(np.uint8)
    sign = torch.from_numpy(older.astype(np.float32) - younger)
    predictor = predictor_of(Toy(lambda x: (x * avg_pool2d(sign[None], SIZE // x.shape[-1])[0]).sum((1, 2)),
                                 cell=8 if method == "last_map" else 1))
    map = attribute(predictor, film, "F", method, "black").map
    assert map[older].sum() == pytest.approx(-map[younger].sum(), rel=0.05)
    assert (map[older] > 0).all()
    assert (map[younger] < 0).all()


@pytest.mark.parametrize("method", ["integrated_gradients", "last_map"])
def test_a_trained_networks_map_adds_up_to_what_it_says(run: Path, cohort, method: str) -> None:
    predictor = Predictor(run / "model.safetensors")
    row = cohort.table.iloc[0]
    film = letterbox(read_gray(row["image"]), predictor.preprocessing.image_size)
    told = attribute(predictor, film, row["sex"], method)
    said = predictor.months(film[None], [row["sex"]])[0]
    assert told.prediction == pytest.approx(said, abs=1e-3)
    assert abs(told.prediction - told.baseline) > 0.1
    assert abs(told.unexplained) < 0.02 * np.abs(told.map).sum()
    if method == "integrated_gradients":
        assert told.map.min() < 0 < told.map.max()


def test_a_child_of_unknown_sex_is_refused_or_takes_the_mean() -> None:
    toy = Toy(lambda x: x.sum((1, 2)))
    with pytest.raises(BoneXageError, match="unknown_sex"):
        attribute(predictor_of(toy), a_film(), "")
    girl, boy, child = (attribute(predictor_of(toy, "mean"), a_film(), sex).prediction for sex in ("F", "M", ""))
    assert child == pytest.approx((girl + boy) / 2)


@pytest.mark.parametrize("wrong", [{"method": "gradcam"}, {"baseline": "white"}])
def test_an_unknown_method_is_refused_in_one_line(wrong: dict) -> None:
    with pytest.raises(BoneXageError, match="unknown; use") as caught:
        attribute(predictor_of(Toy(lambda x: x.sum((1, 2)))), a_film(), "F", **wrong)
    assert "\n" not in str(caught.value)


@given(st.integers(0, 10**6), st.floats(0.05, 0.95), st.sampled_from([-2.0, 0.5, 1.0]))
@settings(max_examples=25, deadline=None)
def test_an_even_map_enriches_nothing(seed: int, density: float, level: float) -> None:
    region = np.random.default_rng(seed).random((16, 16)) < density
    region[0, 0] = True
    assert enrichment(np.full((16, 16), level, np.float32), region) == pytest.approx(1)


def test_enrichment_by_hand() -> None:
    map = np.zeros((4, 4))
    map[0, 0], map[0, 1], map[3, 3] = 3, -3, 2  # 6 of 8 inside an eighth of the area, of either sign
    region = place(0, 0, 1, 4) | place(0, 1, 1, 4)
    assert share_inside(map, region) == pytest.approx(6 / 8)
    assert enrichment(map, region) == pytest.approx(6)
    for bad in ((np.zeros((4, 4)), region), (map, region & False), (map, region[:3])):
        with pytest.raises(ValueError, match="region"):
            share_inside(*bad)


def test_an_untrained_network_is_the_same_architecture_and_disturbs_nothing() -> None:
    torch.manual_seed(0)
    trained = predictor_of(BoneAgeNet("test_resnet"))
    films = np.stack([a_film(seed) for seed in range(8)])
    before = {name: tensor.clone() for name, tensor in trained.model.state_dict().items()}
    state = torch.random.get_rng_state()
    one, again, other = (untrained(trained, films, seed).model for seed in (1, 1, 2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(before[name], tensor) for name, tensor in trained.model.state_dict().items())
    assert one.settings == trained.model.settings
    assert not one.training
    weight = next(name for name, tensor in before.items() if tensor.ndim == 4)  # the first kernel
    assert torch.equal(one.state_dict()[weight], again.state_dict()[weight])
    for different in (other.state_dict(), before):
        assert not torch.equal(one.state_dict()[weight], different[weight])
    norm = next(m for m in one.modules() if isinstance(m, nn.BatchNorm2d))
    assert norm.running_var.std() > 0  # measured, not the ones it begins with
    assert norm.momentum == next(m for m in trained.model.modules() if isinstance(m, nn.BatchNorm2d)).momentum


def test_nearest_neighbours_by_hand() -> None:
    library = np.array([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0], [-1.0, 0.0]])
    assert nearest(np.array([[2.0, 0.1], [1.0, 1.1]]), library, 3).tolist() == [[0, 2, 1], [2, 1, 0]]


def test_a_film_is_its_own_nearest_and_its_maps_are_drawn(run: Path, cohort) -> None:
    predictor = Predictor(run / "model.safetensors")
    films = np.stack([letterbox(read_gray(path), 64) for path in cohort.table["image"][:12]])
    features = pooled_features(predictor, films)
    assert features.shape == (12, predictor.model.features.channels)
    assert nearest(features, features, 2)[:, 0].tolist() == list(range(12))
    found = attribute(predictor, films[2], cohort.table["sex"][2])
    picture = attribution_maps(films[2], [found], place(10, 10, 20))
    assert "integrated gradients" in picture.alt
    assert f"The film says {found.prediction:.0f} months" in picture.alt
    assert picture.png.startswith(b"\x89PNG")


# The phantom's own bones

def test_centres_that_decide_are_those_that_change() -> None:
    """As Garn's and Greulich & Pyle's tables have it: what appears, widens or closes at that age."""
    assert set(deciding_centres(60, "F")) == {"trapezoid", "scaphoid", "trapezium", "ulna", "lunate"}
    assert set(deciding_centres(180, "M")) == {"DP2", "DP3", "DP4", "DP5", "MC1"}
    assert deciding_centres(108, "F") == ("pisiform", "MC2", "ulna", "trapezoid")
    assert deciding_centres(222, "M")[0] == "radius"
    assert not {"sesamoid", "pisiform", "ulna"} & set(deciding_centres(30, "M", 0.95))
    assert change_per_month(36, "M")["sesamoid"] == 0
    # A boy's radius closes evenly from 206 to 228 months, with every child's own shift of some months.
    assert change_per_month(214, "M")["radius"] == pytest.approx(1 / 22, rel=0.15)


@pytest.mark.slow
@given(st.floats(1, 228), st.sampled_from(["F", "M"]), st.floats(0.1, 0.9))
@settings(max_examples=15, deadline=None)
def test_the_deciding_centres_are_the_fewest_that_make_the_share(age: float, sex: str, share: float) -> None:
    change = change_per_month(age, sex)
    chosen = deciding_centres(age, sex, share)
    total = sum(change.values())
    assert set(change) == set(CENTRES)
    if total == 0:
        assert chosen == ()
        return
    assert sum(change[name] for name in chosen) >= share * total - 1e-9
    assert sum(change[name] for name in chosen[:-1]) < share * total + 1e-9
    assert min(change[name] for name in chosen) >= max([change[n] for n in CENTRES if n not in chosen], default=0)


@pytest.mark.parametrize(("sex", "age"), [("F", 14), ("M", 60), ("F", 100)])
def test_an_absent_centre_has_its_place_where_its_bone_will_be(sex: str, age: int) -> None:
    child = grow(sex, age, np.random.default_rng(0), tempo=0.0, jitter=False)
    masks, frame = film_masks(child, Nuisances(), 400), Frame.of(child, Nuisances(), 400)
    absent = {centre.name for centre in child.centres if not centre.present}
    assert absent
    assert absent == {name[6:] for name in masks if name.startswith("place_")}
    for name in absent:
        bone = child.bone(name)
        share = {"": 0.5, "base": bone.epiphysis_mm / 2 / bone.length, "head": 1 - bone.epiphysis_mm / 2 / bone.length}
        where = frame.px(bone.origin + share[bone.epiphysis] * bone.length * bone.direction)[0]
        y, x = np.argwhere(masks[f"place_{name}"]).mean(axis=0)
        off_mm = np.hypot(x + 0.5 - where[0], y + 0.5 - where[1]) / frame.scale
        assert off_mm < 0.2 * bone.widths[2 if bone.epiphysis == "head" else 0], name


@given(st.integers(20, 300), st.integers(20, 300), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_a_mask_is_letterboxed_as_its_film_is(height: int, width: int, seed: int) -> None:
    """A film drawn from a mask, white where it is, must be bright just where the letterboxed mask is."""
    mask = np.zeros((height, width), np.uint8)
    rng = np.random.default_rng(seed)
    middle = (int(rng.integers(width)), int(rng.integers(height)))
    cv2.circle(mask, middle, int(rng.integers(5, 60)), 1, -1)
    film = letterbox((mask * 200).astype(np.uint8), 128)
    found = letterbox_mask(mask.astype(bool), 128)
    assert (film[found] > 98).all()
    assert (film[~found] < 102).all()


def test_a_mask_lands_where_arithmetic_says() -> None:
    """200 × 100 px into 50 × 50: a quarter of the size, 12 px of black on the left (12.5, rounded down)."""
    mask = np.zeros((200, 100), bool)
    mask[40:80, 20:60] = True
    assert (letterbox_mask(mask, 50) == place(10, 12 + 5, 10, 50)).all()


def test_a_region_is_the_centres_and_their_margin() -> None:
    masks = {"centre_radius": np.zeros((100, 100), bool), "place_ulna": np.zeros((100, 100), bool),
             "bone_radius": np.ones((100, 100), bool)}
    masks["centre_radius"][50, 50] = masks["place_ulna"][20, 20] = True
    region = centre_region(masks, ["radius", "ulna", "MC1"], 0.5, 100, margin_mm=2.0)
    y, x = np.indices(region.shape)
    off = np.minimum(np.hypot(y - 50, x - 50), np.hypot(y - 20, x - 20)) * 0.5  # mm
    assert region[off <= 1.8].all()
    assert not region[off >= 2.4].any()
    assert not centre_region(masks, ["MC1"], 0.5, 100).any()


def test_the_planted_strip_is_found_on_the_letterboxed_film() -> None:
    row = pd.Series({"shortcut_x0": 20, "shortcut_y0": 160, "shortcut_x1": 60, "shortcut_y1": 180})
    region = shortcut_region(row, (200, 100), 50)
    assert (np.argwhere(region).min(axis=0) == [40, 17]).all()
    assert (np.argwhere(region).max(axis=0) == [44, 26]).all()
    assert region.sum() == 50
    _, film, row = child_and_film(7, 0, shortcut=True)
    _, plain, _ = child_and_film(7, 0)
    region = shortcut_region(pd.Series(row), film.shape, 128)
    different = np.abs(letterbox(film, 128).astype(int) - letterbox(plain, 128)) > 127
    assert region.any()
    assert np.count_nonzero(region ^ different) <= 0.1 * region.sum()


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("masked") / "cohort", 4, seed=5, workers=1, masks=True)


@pytest.mark.slow
def test_scores_on_bones_are_the_enrichments_they_claim_to_be(run: Path, masked: Path) -> None:
    predictor = Predictor(run / "model.safetensors")
    films = ["1000", "1001", "1002", "1003"]
    table = score_on_bones(predictor, masked, films, seeds=2).set_index("id")
    truth = pd.read_csv(masked / "ground_truth.csv", dtype={"id": str}).set_index("id")
    ages = truth["bone_age_months"]
    assert list(table.index) == films

    def region(child: str) -> np.ndarray:
        """Where the centres that decide for `film` lie in `child`."""
        names = deciding_centres(ages[film], truth["sex"][film])
        masks = read_masks(masked / "masks" / f"{child}.npz")
        return centre_region(masks, names, truth["mm_per_px"][child], 64)

    film = "1001"
    other = (ages.drop(film) - ages[film]).abs().idxmin()
    pictures = np.stack([letterbox(read_gray(masked / "boneage-training-dataset" / f"{k}.png"), 64) for k in films])
    told = attribute(predictor, pictures[1], truth["sex"][film])
    assert table["own"][film] == pytest.approx(enrichment(told.map, region(film)))
    assert table["other"][film] == pytest.approx(enrichment(told.map, region(other)))
    assert table["area"][film] == pytest.approx(region(film).mean())
    assert table["predicted"][film] == pytest.approx(predictor.months(pictures[1:2], [truth["sex"][film]])[0], abs=1e-3)
    chance = [enrichment(attribute(untrained(predictor, pictures, seed), pictures[1], truth["sex"][film]).map,
                         region(film)) for seed in (0, 1)]
    assert table["untrained"][film] == pytest.approx(np.mean(chance))
    with pytest.raises(BoneXageError, match="--masks"):
        score_on_bones(predictor, masked.parent, films)


def test_only_attribution_asks_for_captum(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    predictor = Predictor(run / "model.safetensors")
    assert 0 < predictor.months(a_film()[None], ["F"])[0] < 240
    assert len(pooled_features(predictor, a_film()[None])) == 1
    with pytest.raises(ImportError, match=r"captum\.attr"):
        attribute(predictor, a_film(), "F")
