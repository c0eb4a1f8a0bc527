"""The phantom: anatomy in the right order, girls ahead of boys, and the same bytes for the same seed."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import simulated_lives as lives
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from bonexage_utils.errors import BoneXageError
from bonexage_utils.phantom import Nuisances, anatomy, child_and_film, grow, read_masks, render, write_cohort
from bonexage_utils.phantom.dataset import draw_age, read_noise_floor
from bonexage_utils.phantom.labels import read_by_rater
from bonexage_utils.phantom.maturity import bone_age, clock, draw_shifts, state
from bonexage_utils.phantom.nuisances import POSE
from bonexage_utils.phantom.radiograph import film_height
from bonexage_utils.phantom.shapes import solids
from bonexage_utils.phantom.tissue import Frame

N, SEED = 24, 7
sexes = st.sampled_from(["M", "F"])
ages = st.floats(1, 216)
seeds = st.integers(0, 2**32 - 1)


def median(sex: str, age: float):
    return grow(sex, age, np.random.default_rng(0), tempo=0.0, jitter=False)


def maturity(child) -> float:
    return sum(c.emr + c.fusion for c in child.centres)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("phantom") / "one", N, SEED, workers=1)


@pytest.mark.parametrize(
    ("sex", "age", "seen", "unseen"),
    [
        ("M", 12, {"capitate", "hamate"}, {"radius", "PP3", "MC2", "triquetrum"}),
        ("F", 12, {"capitate", "hamate", "radius", "PP3"}, {"MC2", "MP3", "lunate"}),
        ("M", 60, {"MP5", "DP2", "lunate", "MC1"}, {"scaphoid", "ulna", "pisiform", "sesamoid"}),
        ("F", 66, {"scaphoid", "trapezium", "trapezoid", "ulna"}, {"pisiform", "sesamoid"}),
    ],
)
def test_known_centres_at_known_ages(sex, age, seen, unseen):
    present = {c.name for c in median(sex, age).centres if c.present}
    assert seen <= present
    assert not unseen & present


@pytest.mark.parametrize("sex", ["M", "F"])
def test_centres_appear_and_fuse_in_the_clinical_order(sex):
    months = np.arange(1, 217)
    children = [median(sex, m) for m in months]
    first = {c.name: next((m for m, ch in zip(months, children, strict=True) if ch.centre(c.name).present), 999)
             for c in children[0].centres}  # fmt: skip
    assert first["capitate"] <= first["hamate"] < first["triquetrum"] < first["lunate"] < first["scaphoid"]
    assert first["PP3"] < first["MC3"] <= first["MP3"] < first["DP3"]
    assert first["radius"] < first["triquetrum"]
    assert first["ulna"] < first["pisiform"] < first["sesamoid"]
    closed = {c: next((m for m, ch in zip(months, children, strict=True) if ch.centre(c).fusion == 1), 999)
              for c in ("DP3", "MC1", "PP3", "MC3", "radius")}  # fmt: skip
    assert closed["DP3"] <= closed["MC1"] < closed["PP3"] < closed["MC3"] < closed["radius"]


def test_simulated_lives_keep_to_the_tables():
    table = lives.compare(300, SEED)
    assert len(table) == 2 * (30 + 4 * 9)
    missed = table[~table["within"]]
    assert missed.empty, missed.to_string()
    # the scatter at a given age is the published one: boys' lunate 18-81 months, girls' sesamoid 104-152 (5 to 95 %)
    spread = table[table["event"] == "appears"].set_index(["sex", "name"])
    assert spread.loc[("M", "lunate"), ["low", "high"]].to_numpy() == pytest.approx([18, 81], abs=9)
    assert spread.loc[("F", "sesamoid"), ["low", "high"]].to_numpy() == pytest.approx([104, 152], abs=7)


def test_order_rules_hold_in_most_lives():
    kept = lives.order_kept(300, SEED).groupby(["sex", "first", "then"])["share"].min()  # a pair may stand there twice
    assert kept.min() > 0.45  # DP3 and MC1 close at the same bone age in boys
    for sex in "FM":
        assert kept[sex, "triquetrum", "lunate"] > 0.78  # 87 % of 211 children, Johnston 1968
        assert kept[sex, "ulna", "pisiform"] > 0.98
        assert kept[sex, "ulna", "radius"] > 0.7


@settings(max_examples=25)
@given(sexes, seeds, st.integers(1, 200))
def test_a_life_told_is_the_life_drawn(sex, seed, age):
    """`lives` reads clocks, films read `grow`: both must say the same of one child."""
    shifts = draw_shifts(np.random.default_rng(seed))
    ba = bone_age(sex, age, 0.5)
    for name, pair in shifts.items():
        events = clock(name, sex, *pair)
        now = state(name, sex, ba, events)
        assert now.present == (ba >= events.appears)
        assert (now.fusion == 1) == (ba >= events.fusion_complete)
        assert (now.emr >= 0.5) == (ba >= events.emr_half) or name in anatomy.ROUND_BONES


def test_size_follows_age_with_the_published_spread():
    drawn = [grow("M", 120, np.random.default_rng(k)) for k in range(400)]
    mc2 = np.array([child.bone("MC2").length for child in drawn])
    assert mc2.mean() == pytest.approx(55.2, rel=0.01)  # Garn 1972
    assert mc2.std() / mc2.mean() == pytest.approx(0.05, abs=0.008)
    size, tempo = (np.array([getattr(c, k) for c in drawn]) for k in ("size_factor", "tempo"))
    assert 0.3 < np.corrcoef(size, tempo)[0, 1] < 0.6


@pytest.mark.parametrize("sex", ["M", "F"])
def test_a_hands_outline_hardly_tells_the_age(sex):
    """On public films fingers are as thick for their hand at every age; a toddler's once were half as thick again."""
    neutral, height = Nuisances(), 500
    shares = []
    for age in (24, 60, 96, 132, 168, 200):
        child = median(sex, age)
        film, _ = render(child, np.random.default_rng(1), height, neutral)
        frame = Frame.of(child, neutral, height)
        finger = child.bone("PP3")
        x, y = frame.px(finger.origin + 0.6 * finger.length * finger.direction)[0].astype(int)
        air = np.flatnonzero(film[y] < neutral.background + 12)
        thick = air[air > x].min() - air[air < x].max()
        shares.append(thick / frame.scale / child.unit_mm)
    assert max(shares) / min(shares) < 1.25


@given(st.floats(12, 216))
def test_girls_are_never_behind_boys_of_the_same_tempo(age):
    assert maturity(median("F", age)) >= maturity(median("M", age)) - 0.15


@given(st.floats(24, 200))
def test_girls_are_ahead_from_two_years_to_the_last_plates(age):
    assert maturity(median("F", age)) > maturity(median("M", age))


@given(sexes, ages, ages, st.floats(-2.5, 2.5))
def test_maturity_and_size_never_go_back(sex, one, other, tempo):
    young, old = (grow(sex, a, np.random.default_rng(0), tempo, jitter=False) for a in sorted((one, other)))
    assert young.bone_age_months <= old.bone_age_months
    assert young.unit_mm <= old.unit_mm
    for before, after in zip(young.centres, old.centres, strict=True):
        assert before.present <= after.present
        assert before.fusion <= after.fusion
        assert before.emr <= after.emr + 0.02  # carpals are stated relative to a hand that grows too


@given(sexes, ages, st.floats(-2.5, 2.5), st.floats(-2.5, 2.5))
def test_tempo_moves_bone_age_as_brush_says(sex, age, one, other):
    slow, fast = sorted((one, other))
    assert bone_age(sex, age, slow) <= bone_age(sex, age, fast)
    assert bone_age("M", 120, 0.0) == pytest.approx(125.68)
    assert bone_age("M", 120, 1.0) == pytest.approx(125.68 + 9.79)


@settings(max_examples=40)
@given(sexes, ages, seeds)
def test_any_child_is_well_formed(sex, age, seed):
    child = grow(sex, age, np.random.default_rng(seed))
    assert child.sex == sex
    assert len(child.centres) == 30
    assert 1 <= child.bone_age_months <= anatomy.GP_STANDARDS[sex][-1]
    for centre in child.centres:
        assert 0 <= centre.fusion <= 1
        assert 0 <= centre.emr < 1.1
        assert 0 <= centre.cap <= 1
        assert 0 <= centre.scar <= (centre.fusion == 1)
        assert 0 <= centre.gap_mm < 4
        assert 0 <= centre.detail <= 1
        assert centre.present == (centre.emr > 0)
        assert centre.present or centre.fusion == 0
    for bone in child.bones:
        assert np.hypot(*bone.direction) == pytest.approx(1)
    drawn = solids(child)
    assert {s.name for s in drawn} >= {f"centre_{c.name}" for c in child.centres if c.present}
    for solid in drawn:
        assert solid.length > 0
        assert (solid.half >= 0).all()
        assert (solid.depth >= 0).all()
        assert np.hypot(*solid.axis) == pytest.approx(1)


def test_epiphyses_sit_on_the_right_ends():
    child = median("F", 96)
    heads = {b.name for b in child.bones if b.epiphysis == "head"}
    assert heads == {"MC2", "MC3", "MC4", "MC5", "radius", "ulna"}
    assert {b.name for b in child.bones if b.epiphysis == "base"} == {"MC1"} | {
        f"{row}{ray}" for row in ("PP", "MP", "DP") for ray in range(1, 6) if (row, ray) != ("MP", 1)
    }


def test_the_growth_plate_is_open_then_closed():
    def gap(age: float) -> float | None:
        """Between epiphysis and shaft in the middle of the third proximal phalanx (mm)."""
        child = median("M", age)
        bone, parts = child.bone("PP3"), {s.name: s for s in solids(child)}
        if "centre_PP3" not in parts:
            return None
        shaft, plate = parts["bone_PP3"], parts["centre_PP3"]
        middle = plate.origin + plate.axis * plate.length / 2 + plate.side * plate.middle[48]
        return float((shaft.origin - middle) @ bone.direction - plate.half[48])

    assert gap(12) is None
    assert gap(60) > gap(144) > 0.3
    assert gap(216) <= 0


@given(seeds)
def test_posing_keeps_lengths_and_joints(seed):
    child = median("M", 100)
    turns = {name: float(t) for name, t in zip(POSE, np.random.default_rng(seed).normal(0, 10, len(POSE)), strict=True)}
    posed = child.posed(turns)
    for ray in range(1, 6):
        row = [f"{r}{ray}" for r in ("MC", "PP", "MP", "DP") if (r, ray) != ("MP", 1)]
        for near, far in itertools.pairwise(row):
            gap = [np.hypot(*(c.bone(far).origin - c.bone(near).end)) for c in (child, posed)]
            assert gap[0] == pytest.approx(gap[1])
            assert gap[0] < 5
    assert posed.bone("MC3").origin == pytest.approx(child.bone("MC3").origin)
    ends = [np.hypot(*(c.bone("radius").end - c.bone("ulna").end)) for c in (child, posed)]
    assert ends[0] == pytest.approx(ends[1])


@pytest.mark.parametrize("age", [12, 216])
def test_film_is_white_bone_on_black(age):
    image, facts = render(median("F", age), np.random.default_rng(1), 400, Nuisances())
    assert image.dtype == np.uint8
    assert image.shape == (400, 312)
    assert image[:20, :20].mean() < 40 < image[-60:, 130:170].max()
    assert not facts["flipped"]
    assert facts["mm_per_px"] > 0


def test_same_rng_same_film_and_flip_only_mirrors():
    child = median("M", 90)
    plain, _ = render(child, np.random.default_rng(3), 200, Nuisances())
    again, _ = render(child, np.random.default_rng(3), 200, Nuisances())
    mirrored, _ = render(child, np.random.default_rng(3), 200, Nuisances(flipped=True))
    assert (plain == again).all()
    assert (plain == mirrored[:, ::-1]).all()
    other, _ = render(child, np.random.default_rng(3), 200, Nuisances(right_hand=True))
    assert np.corrcoef(plain.ravel(), other[:, ::-1].ravel())[0, 1] > 0.98  # only grain and noise differ


@given(sexes, st.floats(1, 228), seeds)
def test_labels_are_mostly_plates_or_half_way(sex, age, seed):
    plates = anatomy.GP_STANDARDS[sex]
    half = {int((a + b) / 2 + 0.5) for a, b in itertools.pairwise(plates)}
    labels = [read_by_rater(age, sex, np.random.default_rng([seed, k])) for k in range(20)]
    assert np.mean([label in (set(plates) | half | {1}) for label in labels]) > 0.6
    assert all(1 <= label <= plates[-1] for label in labels)
    assert read_by_rater(age, sex, np.random.default_rng(seed), "B") % 6 in (0, 1)


def test_layout_on_disk(cohort):
    assert sorted(p.name for p in cohort.iterdir()) == [
        "boneage-training-dataset", "boneage-training-dataset.csv", "cohort.json", "ground_truth.csv",
    ]  # fmt: skip
    labels = pd.read_csv(cohort / "boneage-training-dataset.csv")
    assert list(labels.columns) == ["id", "boneage", "male"]
    assert labels["male"].dtype == bool
    assert labels["boneage"].between(1, 228).all()
    assert {int(p.stem) for p in (cohort / "boneage-training-dataset").iterdir()} == set(labels["id"])
    truth = pd.read_csv(cohort / "ground_truth.csv")
    assert (truth["id"] == labels["id"]).all()
    assert not truth.isna().any().any()
    assert ((truth["sex"] == "M") == labels["male"]).all()
    assert labels["male"].nunique() == 2
    assert (truth["label_months"] == labels["boneage"]).all()


def test_noise_floor_is_what_the_files_say(cohort):
    facts = json.loads((cohort / "cohort.json").read_text())
    truth = pd.read_csv(cohort / "ground_truth.csv")
    floor = (truth["bone_age_months"] - truth["label_months"]).abs().mean()
    assert facts["n"] == N
    assert facts["seed"] == SEED
    assert facts["noise_floor_months"] == pytest.approx(floor, abs=1e-3)
    assert 2 < floor < 7


def test_the_noise_floor_is_read_where_it_is_known(phantom_folder: Path, tmp_path: Path) -> None:
    truth = pd.read_csv(phantom_folder / "ground_truth.csv")
    expected = (truth["bone_age_months"] - truth["label_months"]).abs().mean()
    assert read_noise_floor(phantom_folder) == pytest.approx(expected, abs=1e-3)
    assert read_noise_floor(tmp_path) is None
    assert read_noise_floor(phantom_folder / "boneage-training-dataset.csv") is None
    (tmp_path / "cohort.json").write_text('{"n": 3}')
    assert read_noise_floor(tmp_path) is None


@pytest.mark.parametrize("said", ["NaN", "-5", "-0.1", "240.1", "1e999", "Infinity", "true", "null", '"5"', "[5]",
                                  "1" + "0" * 400, "1" + "0" * 9999, "[" * 100_000])
def test_a_noise_floor_that_is_none_is_not_known(tmp_path: Path, said: str) -> None:
    for right in ("0", "5.25", "240"):
        (tmp_path / "cohort.json").write_text(f'{{"noise_floor_months": {right}}}')
        assert read_noise_floor(tmp_path) == float(right)
    (tmp_path / "cohort.json").write_text(f'{{"noise_floor_months": {said}}}')
    assert read_noise_floor(tmp_path) is None


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_worker_count_and_cohort_size_do_not_matter(cohort, tmp_path):
    two = files(write_cohort(tmp_path / "two", N, SEED, workers=2))
    assert two == files(cohort)
    other = files(write_cohort(tmp_path / "other", 2, SEED + 1, workers=1))
    name = str(Path("boneage-training-dataset") / "1001.png")
    assert other[name] != two[name]


def test_image_k_alone_is_the_one_on_disk(cohort):
    child, image, row = child_and_film(SEED, 5)
    on_disk = cv2.imread(str(cohort / "boneage-training-dataset" / "1005.png"), cv2.IMREAD_UNCHANGED)
    assert (image == on_disk).all()
    assert row["id"] == 1005
    assert row["sex"] == child.sex


@pytest.mark.slow
def test_masks_lie_where_the_bones_do(tmp_path):
    folders = [write_cohort(tmp_path / name, 3, SEED, workers=w, masks=True) for name, w in (("a", 1), ("b", 2))]
    assert files(folders[0]) == files(folders[1])
    paths = sorted((folders[0] / "masks").iterdir())
    assert len(paths) == 3
    for path in paths:
        image = cv2.imread(str(folders[0] / "boneage-training-dataset" / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED)
        child, _, row = child_and_film(SEED, int(path.stem) - 1000)
        masks = read_masks(path)
        assert {f"centre_{c.name}" for c in child.centres if c.present} == {n for n in masks if n[:6] == "centre"}
        assert {f"place_{c.name}" for c in child.centres if not c.present} == {n for n in masks if n[:6] == "place_"}
        assert {f"bone_{b.name}" for b in child.bones if b.kind != "round"} == {n for n in masks if n[:5] == "bone_"}
        assert all(mask.shape == image.shape for mask in masks.values())
        assert (np.count_nonzero(masks["bone_MC3"]) * row["mm_per_px"] ** 2 ==
                pytest.approx(child.bone("MC3").length * child.bone("MC3").widths[1], rel=0.5))  # fmt: skip
        ossified = [mask for name, mask in masks.items() if not name.startswith("place_")]
        bone, sign = np.any(ossified, axis=0), -1 if row["inverted"] else 1
        around = cv2.dilate(bone.astype(np.uint8), np.ones((9, 9))).astype(bool) & ~bone
        assert sign * image[bone].mean() > sign * image[around].mean()


def test_site_b_sees_the_same_children_on_other_films():
    pairs = [(child_and_film(SEED, k), child_and_film(SEED, k, site="B")) for k in range(4)]
    for (child, film, row), (other, other_film, other_row) in pairs:
        assert row["bone_age_months"] == other_row["bone_age_months"]
        assert child.unit_mm == other.unit_mm
        assert film.shape != other_film.shape or (film != other_film).any()
        assert other_row["label_months"] % 6 in (0, 1)
        assert row["hand_scale"] != other_row["hand_scale"]
    with pytest.raises(BoneXageError, match="site"):
        write_cohort(Path("never"), 1, site="C")


def test_a_shortcut_tells_the_label_by_its_length():
    told = []
    for k in range(12):
        _, film, row = child_and_film(SEED, k, shortcut=True)
        _, plain, same = child_and_film(SEED, k)
        assert row["label_months"] == same["label_months"]
        box = [row[f"shortcut_{side}"] for side in ("x0", "y0", "x1", "y1")]
        told.append((row["label_months"], (box[2] - box[0]) / film.shape[1]))
        different = film != plain
        assert different[box[1] : box[3], box[0] : box[2]].mean() > 0.5 or row["collimated"] == 3
        different[box[1] : box[3], box[0] : box[2]] = False
        assert not different.any()
    assert np.corrcoef(np.array(told).T)[0, 1] > 0.99


def test_bone_age_can_be_learnt_from_the_centres():
    rows = []
    for k in range(150):
        rng = np.random.default_rng([1, k])
        child = grow("M" if k % 2 else "F", float(rng.uniform(12, 216)), rng)
        score = [maturity(child), sum(c.present for c in child.centres)]
        rows.append([*score, child.bone_age_months])
    score, count, ba = np.array(rows).T
    assert spearmanr(score + 0.2 * count, ba).statistic > 0.95


def test_nuisances_come_at_their_rates_and_do_not_know_the_age():
    drawn = pd.DataFrame([vars(Nuisances.draw(np.random.default_rng(k), 20 + k / 10)) for k in range(2000)])
    numbers = drawn.drop(columns="pose").astype(float)
    tie = numbers.corrwith(pd.Series(range(2000), dtype=float))
    assert tie.drop("turn_deg").abs().max() < 0.09  # 4 standard errors
    rates = {"flipped": 0.015, "right_hand": 0.015, "inverted": 0.01, "cast": 0.005, "ring": 0.007, "marker": 0.92,
             "collimated": 0.13, "edges": 0.15, "quarter_turns": 0.006}  # fmt: skip
    for name, rate in rates.items():
        assert (numbers[name] > 0).mean() == pytest.approx(rate, abs=4 * np.sqrt(rate * (1 - rate) / 2000)), name
    assert numbers["aspect"].between(0.58, 1.25).all()
    assert numbers["mm_per_px"].quantile([0.05, 0.5, 0.95]).tolist() == pytest.approx([0.41, 0.64, 0.73], abs=0.03)


@pytest.mark.slow
def test_size_leaks_the_age_in_millimetres_only():
    """Hand length and sex against the label, by nearest neighbours of 1,500 other children: months of error."""
    rows = []
    for k in range(1500):
        rng = np.random.default_rng([5, k])
        sex = "M" if k % 2 else "F"
        child = grow(sex, draw_age(rng), rng)
        n = Nuisances.draw(rng, child.chronological_age_months)
        label = read_by_rater(child.bone_age_months, sex, rng)
        px = child.hand_length_mm * n.hand_scale * film_height(child, n) / child.unit_mm
        rows.append((sex == "M", child.hand_length_mm, px, label, child.bone_age_months))
    male, mm, px, label, bone_age_months = np.array(rows).T
    floor = np.abs(label - bone_age_months).mean()

    def error(length: np.ndarray) -> float:
        off = np.abs(length[:, None] - length) + 1e6 * ((male[:, None] != male) | np.eye(len(label), dtype=bool))
        return float(np.abs(np.median(label[np.argsort(off)[:, :41]], axis=1) - label).mean())

    assert 4.5 < floor < 7.3
    assert error(px) >= 3 * floor
    assert error(mm) < 3 * floor


def test_labels_heap_like_rsna():
    """81 % of the public labels are multiples of six months, 58 % of twelve."""
    rng = np.random.default_rng(0)
    ages = {"M": rng.normal(135.3, 42.1, 2168), "F": rng.normal(117.9, 37.9, 1832)}  # their sexes, means and SDs
    labels = np.array([read_by_rater(float(np.clip(age, 6, 215)), sex, rng) for sex in ages for age in ages[sex]])
    assert (labels % 6 == 0).mean() == pytest.approx(0.81, abs=0.05)
    assert (labels % 12 == 0).mean() == pytest.approx(0.58, abs=0.05)
    assert (labels == 94).sum() > 3 * (labels == 95).sum()


def test_a_folder_with_anything_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(BoneXageError, match="not empty"):
        write_cohort(tmp_path, 2, workers=1)
    assert files(tmp_path) == {"mine.txt": b"keep"}


def test_a_failed_run_leaves_nothing_behind(tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(BoneXageError, match="No space left"):
        write_cohort(tmp_path / "new", 2, workers=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"n": 0}, {"n": 2, "seed": -1}, {"n": 2, "workers": 0}])
def test_numbers_out_of_range_are_refused(tmp_path, wrong):
    with pytest.raises(BoneXageError, match="expected at least"):
        write_cohort(tmp_path / "new", **wrong)


def test_unknown_sex_or_age_is_refused():
    with pytest.raises(BoneXageError, match="sex"):
        grow("X", 60, np.random.default_rng(0))
    with pytest.raises(BoneXageError, match="age"):
        grow("M", 300, np.random.default_rng(0))


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals and /proc are of POSIX")
@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM", "SIGHUP"])
def test_a_phantom_that_is_ended_leaves_no_worker_drawing(tmp_path, number):
    """Two in one place: the second is refused. Then the first is ended, and its workers end with it."""
    words = [sys.executable, "-m", "bonexage_utils", "phantom", "drawn", "--n", "3000", "--workers", "2"]
    first = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL, start_new_session=True)

    def drawn() -> int:
        return len(list(tmp_path.rglob("*.png")))

    def wait_until(happened) -> None:
        for _ in range(600):
            if happened():
                return
            time.sleep(0.1)
        raise AssertionError("waited a minute in vain")

    wait_until(lambda: drawn() > 2)
    second = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert "in use by another run" in second.stderr
    first.send_signal(getattr(signal, number))
    first.wait()
    in_session = ["ps", "-o", "pid=", "-s", str(first.pid)]
    wait_until(lambda: not subprocess.run(in_session, capture_output=True, check=False).stdout)
    assert not (tmp_path / "drawn").exists()
    left = list(tmp_path.iterdir())
    assert bool(left) == (number == "SIGKILL"), "what can clean up does"
