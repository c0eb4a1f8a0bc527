"""What notebook 07 looks at: bits with known answers, scales, memory, steps side by side, and a ledger."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bonexage_utils.batches import film_sets
from bonexage_utils.cohort import Cohort
from bonexage_utils.course.memory import kept_bytes
from bonexage_utils.course.nb07 import exercises as nb07
from bonexage_utils.course.nb07 import formats, precision, scaling, speed
from bonexage_utils.course.nb07.formats import FORMATS
from bonexage_utils.course.nb07.scaling import Batch
from bonexage_utils.course.records import read_runs
from bonexage_utils.course.start import course_folder
from bonexage_utils.images import Preprocessing
from bonexage_utils.model import BoneAgeNet

CPU = torch.device("cpu")
NUMBERS = st.floats(1e-4, 6e4)


@pytest.fixture(scope="module")
def net() -> BoneAgeNet:
    torch.manual_seed(0)
    return BoneAgeNet("test_convnext").train()


@pytest.fixture(scope="module")
def batch() -> Batch:
    rng = torch.Generator().manual_seed(0)
    return Batch(torch.randn(4, 1, 32, 32, generator=rng), torch.tensor([0, 1, 1, 0]),
                 torch.tensor([30.0, 90.0, 150.0, 200.0]))


# --- bits ---


@pytest.mark.parametrize(("value", "kind", "bits"), [
    (1.0, "float32", ("0", "01111111", "0" * 23)), (1.0, "bfloat16", ("0", "01111111", "0" * 7)),
    (-2.5, "float16", ("1", "10000", "0100000000")), (0.0, "float16", ("0", "00000", "0" * 10)),
    (math.inf, "float16", ("0", "11111", "0" * 10))])
def test_known_bits(value: float, kind: str, bits: tuple[str, str, str]) -> None:
    assert formats.bit_parts(value, kind) == bits


@given(NUMBERS, st.sampled_from(sorted(FORMATS)))
def test_bits_are_the_number(value: float, kind: str) -> None:
    sign, exponent, fraction = formats.bit_parts(value, kind)
    shift = 2 ** (len(exponent) - 1) - 1
    power, digits = int(exponent, 2), int(fraction, 2) / 2 ** len(fraction)
    read = (1 + digits) * 2.0 ** (power - shift) if power else digits * 2.0 ** (1 - shift)  # float16 is subnormal here
    assert sign == "0"
    assert read == formats.stored(value, kind)


@given(NUMBERS, st.sampled_from(sorted(FORMATS)))
def test_the_gap_leads_to_the_next_number(value: float, kind: str) -> None:
    here = formats.stored(value, kind)
    step = formats.gap(here, kind)
    assert formats.stored(here + step, kind) == here + step
    between = formats.stored(here + step / 4, kind)
    assert between == here


@pytest.mark.parametrize(("kind", "gap"), [("float32", 2.0**-16), ("bfloat16", 1.0), ("float16", 0.125)])
def test_gaps_at_200_months(kind: str, gap: float) -> None:
    assert formats.gap(200.0, kind) == gap


@pytest.mark.parametrize(("value", "kind", "told"), [
    (1e-8, "float16", "gone: 0"), (70000.0, "float16", "too large: infinity"), (200.4, "bfloat16", "200, off by 0.2 %"),
    (0.0, "float16", "0, exact"), (0.5, "bfloat16", "0.5, exact")])
def test_what_is_left_in_words(value: float, kind: str, told: str) -> None:
    assert formats.what_is_left(value, kind) == told


def test_number_lines_count_what_float16_loses() -> None:
    values = torch.tensor([0.0, 1e-9, 1e-9, 1.0, 1e5])  # a zero was there before and is not lost
    assert formats.lost_in_float16(values) == 0.5
    told = formats.draw_number_lines({"some": values}).alt
    assert "50.0% become zero in float16, 25.00% infinite" in told


def test_exponents_are_written_without_mathematical_fonts() -> None:
    assert [formats.power_text(2, 16), formats.power_text(10, -9)] == ["2¹⁶", "10⁻⁹"]


# --- scales ---


def test_gradients_are_those_of_backward_and_scale_with_the_loss(net: BoneAgeNet, batch: Batch) -> None:
    net.eval()
    plain, scaled = scaling.gradients(net, batch), scaling.gradients(net, batch, scale=8.0)
    torch.testing.assert_close(scaled, 8 * plain)
    scaling.batch_loss(net, batch, "fp32").backward()
    torch.testing.assert_close(torch.cat([p.grad.flatten() for p in net.parameters()]), plain)
    net.zero_grad()
    net.train()


def test_the_shade_begins_where_a_step_was_spoiled() -> None:
    """Not before it: at the scales between, nobody tried."""
    table = pd.DataFrame({"scale": [1.0, 2.0**12, 2.0**16, 2.0**20], "lost": [0.4, 0.1, 0.0, 0.0],
                          "infinite": [0.0, 0.0, 0.001, 0.5]})
    (ax,) = scaling.draw_scales(table).figure.axes
    (shade,) = ax.patches
    assert shade.get_x() == 16
    assert shade.get_x() + shade.get_width() >= 20
    table["infinite"] = 0.0
    assert not scaling.draw_scales(table).figure.axes[0].patches


def test_float16_loses_without_a_scale_and_spoils_with_too_large_a_one(net: BoneAgeNet, batch: Batch) -> None:
    """What notebook 07 says of a ConvNeXt from random weights."""
    table = scaling.sweep_scales(net, batch, (1.0, 2.0**14, 2.0**32)).set_index("scale")
    assert table.loc[1.0, "lost"] > 0.3
    assert table.loc[2.0**14, "lost"] < 0.1
    assert table.loc[2.0**14, "infinite"] < 0.1
    assert table.loc[2.0**32, "infinite"] > 0.9
    told = scaling.draw_scales(table.reset_index()).alt
    assert f"2^0: {table.loc[1.0, 'lost']:.1%} lost" in told


def test_the_wrong_order_stops_plain_descent_and_hides_behind_adamw(net: BoneAgeNet, batch: Batch) -> None:
    """What notebook 07 says of them."""
    start = [p.detach().clone() for p in net.parameters()]
    mae = {(name, first): scaling.learn_in_order(net, batch, name, first, 15)
           for name in ("SGD", "AdamW") for first in (True, False)}
    assert all(torch.equal(old, new) for old, new in zip(start, net.parameters(), strict=True))
    assert mae["SGD", False] > mae["SGD", True] + 2
    assert mae["AdamW", False] < mae["SGD", False] - 2
    weight = nn.Parameter(torch.zeros(2))
    for first, length in ((True, 5.0), (False, 5.0 / 1024)):
        weight.grad = 1024 * torch.tensor([30.0, 40.0])
        scaling.clip_in_order([weight], 1024.0, first)
        assert weight.grad.norm().item() == pytest.approx(length, rel=1e-4)


def test_the_history_names_what_was_skipped() -> None:
    assert "2^20, 2^19, 2^19. Skipped: 1." in scaling.draw_scale_history([2.0**20, 2.0**19, 2.0**19],
                                                                       [True, False, False]).alt


def test_the_notebooks_scaler_halves_and_doubles_as_torchs() -> None:
    """The classes that notebook 07 writes in the open, on steps that go well and that do not."""
    text = (course_folder() / "notebooks" / "source" / "07_amp_and_gpu_training.py").read_text("utf-8")
    start = text.index("class Scale:")
    scope: dict = {"torch": torch}
    exec(text[start:text.index("# %% [markdown]", start)], scope)  # the very lines that a learner reads
    mine, torchs = scope["MyScaler"](2.0**10, patience=2), torch.amp.GradScaler("cpu", 2.0**10, growth_interval=2)
    weights = [nn.Parameter(torch.ones(3)) for _ in range(2)]
    optimizers = [torch.optim.SGD([weight], lr=0.5) for weight in weights]
    for bad in (False, True, True, False, False, False, False, True, False):
        for scaler, weight, optimizer in zip((mine, torchs), weights, optimizers, strict=True):
            scaler.scale((weight * (math.inf if bad else 1.0)).sum()).backward()
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        assert mine.factor == torchs.get_scale()
        assert mine.seen[-1][1] is bad
        assert torch.equal(*weights)


# --- memory ---


def test_kept_memory_has_a_known_answer() -> None:
    """A linear layer keeps its input, and nothing else that is not its own; the loss keeps what it needs."""

    class Line(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(256 * 256, 1)

        def forward(self, images: torch.Tensor, sex: torch.Tensor) -> torch.Tensor:
            return self.layer(images.flatten(1))[:, 0]

    films = Batch(torch.zeros(2, 1, 256, 256), torch.zeros(2, dtype=torch.long), torch.zeros(2))
    kept = kept_bytes(Line(), films.images, films.sex)
    assert kept == pytest.approx(films.images.nbytes, rel=0.001)


def test_the_memory_of_a_step_is_computed_as_it_is_measured(net: BoneAgeNet, batch: Batch) -> None:
    found = scaling.step_megabytes("test_convnext", 32, 4, "fp32")
    weights = sum(p.numel() for p in net.parameters()) * 4 / 1e6
    assert found["weights"] == pytest.approx(weights)
    assert found["AdamW's two moments"] == pytest.approx(2 * weights)
    assert found["kept for backward"] == pytest.approx(kept_bytes(net, batch.images, batch.sex) / 1e6, rel=0.03)
    half = scaling.step_megabytes("test_convnext", 256, 16, "bf16")["kept for backward"]
    assert 0.4 < half / scaling.step_megabytes("test_convnext", 256, 16, "fp32")["kept for backward"] < 0.8
    assert "of which" in scaling.draw_step_memory({"one": found}).alt


# --- steps side by side ---


def test_a_contender_steps_as_the_package(net: BoneAgeNet, batch: Batch) -> None:
    contender = speed.Contender("test_convnext", "none", batch, "fp32", "channels-last")
    before = [p.detach().clone() for p in contender.net.parameters()]
    assert contender.step() > 0
    assert any(not torch.equal(old, new) for old, new in zip(before, contender.net.parameters(), strict=True))
    assert contender.batch.images.is_contiguous(memory_format=torch.channels_last)


def test_a_race_has_every_arm_in_every_round(batch: Batch) -> None:
    pairs = tuple((kind, layout) for kind in ("fp32", "bf16") for layout in speed.LAYOUTS)
    times = speed.race("test_convnext", "none", batch, 2, pairs)
    assert len(times) == 2 * 4
    assert (times.groupby("round").size() == 4).all()
    assert (times[["seconds", "megabytes"]] > 0).all(axis=None)
    assert "fp32 plain" in speed.draw_race(times).alt
    table = speed.time_table(times)
    assert table.index.tolist() == [("fp32", "plain"), ("fp32", "channels-last"), ("bf16", "plain"),
                                    ("bf16", "channels-last")]
    assert table.loc[speed.BASE, "verdict"] == "compared with this"


def known_times() -> pd.DataFrame:
    rows = [{"round": number, "precision": kind, "layout": "channels-last", "megabytes": megabytes,
             "seconds": (1 + number) * factor * (1 + 0.01 * (number % 2) * (factor != 1))}
            for number in range(8) for kind, factor, megabytes in (("fp32", 1, 10.0), ("bf16", 0.5, 6.0),
                                                                   ("fp16", 20, 6.0))]
    return pd.DataFrame(rows)


def test_the_interval_of_a_ratio_is_as_wide_as_it_says() -> None:
    """Of a few rounds, where a bootstrap would hold the truth five times in six only."""
    rng, held = np.random.default_rng(0), []
    for _ in range(400):
        times = known_times()
        times["seconds"] *= np.exp(rng.normal(0, 0.1, len(times)))
        ratio = speed.time_ratio(times, ("fp16", "channels-last"))
        held.append(ratio.low <= 20 * math.sqrt(1.01) <= ratio.high)
    assert 0.92 < np.mean(held) < 0.98


def test_ratios_are_taken_within_rounds() -> None:
    """Steps that get slower and slower, all alike: the ratio is known, and sure."""
    table = speed.time_table(known_times())
    assert table.loc[("bf16", "channels-last"), "time"] == pytest.approx(0.5 * math.sqrt(1.01))
    assert table["verdict"].tolist() == ["compared with this", "faster", "slower"]
    assert table.loc[("bf16", "channels-last"), "memory"] == 0.6
    assert speed.quickest(table) == "bf16"
    assert speed.quickest(table.drop(index=("bf16", "channels-last"))) == "fp32"
    same = known_times()
    same.loc[same["precision"] == "bf16", "seconds"] = same.loc[same["precision"] == "fp32", "seconds"].to_numpy() * (
        1 + 0.1 * np.array([1, -1] * 4))
    table = speed.time_table(same)
    assert table.loc[("bf16", "channels-last"), "verdict"] == "no difference that these steps can show"
    assert speed.quickest(table) == "no difference"


def test_a_profile_holds_every_part_of_every_step(cohort: Cohort, cache_dir, capfd: pytest.CaptureFixture[str]) -> None:
    films = film_sets(cohort, ("train",), 32, cache_dir=cache_dir)[0]["train"]
    capfd.readouterr()  # the bar of reading films
    parts, operators = speed.profile_steps(films, Preprocessing(32, 0.3, 0.2), "test_convnext", "none", 4, CPU, 2,
                                           "fp32")
    assert parts["part"].tolist() == [*speed.PARTS] * 2
    assert (parts["end"] > parts["start"]).all()
    assert (parts["start"].to_numpy()[1:] >= parts["end"].to_numpy()[:-1] - 0.5).all()
    assert operators["ms"].is_monotonic_decreasing
    assert speed.part_shares(parts).sum() == pytest.approx(1)
    assert "forward" in speed.draw_profile(parts, operators).alt
    assert not capfd.readouterr().err.strip(), "the profiler's own words would stand in the notebook"


# --- the ledger ---


def test_the_ledger_says_what_is_missing(tmp_path: Path) -> None:
    table = precision.precision_table(tmp_path)
    assert (table == "not yet measured").all(axis=None)
    assert table.index.tolist() == [(where, kind) for where in ("processor", "GPU") for kind in ("bf16", "fp16")]
    assert precision.how_measured(tmp_path) == "AMP is faster and leaner: not yet measured."


def test_recorded_rows_are_shown_as_recorded() -> None:
    known = read_runs("precision")
    assert len(known), "tools/benchmarks/precision.py has not been run"
    told, shown = precision.how_measured(), precision.precision_table()
    where = {"cpu": "processor", "cuda": "GPU"}
    for row in known.to_dict("records"):
        assert row["claim"] == precision.CLAIM
        assert row["commit"] in told
        kind, _, layout = row["arm"].partition(", ")
        if layout == "channels-last":
            value = f"{row['compared']:+.2f}" if row["measure"] == precision.ERROR else f"× {row['compared']:.2f}"
            assert shown.loc[(where[row["device"]], kind), precision.SHOWN[row["measure"]]].startswith(value)
        if row["measure"] == precision.TIME:
            assert row["verdict"] == speed.speed_verdict(speed.Interval(row["compared"], row["low"], row["high"]))
        elif row["measure"] == precision.MEMORY:
            assert row["verdict"] == precision.memory_verdict(row["compared"])
            assert row["compared"] == pytest.approx(row["value"] / row["base_value"], rel=0.01)


# --- the stored notebook and the exercises ---


def test_stored_figures_tell_what_is_drawn_today() -> None:
    stored = (course_folder() / "notebooks" / "07_amp_and_gpu_training.ipynb").read_text("utf-8")
    alts = {"".join(output["data"]["text/plain"]) for cell in json.loads(stored)["cells"]
            for output in cell.get("outputs", []) if "image/png" in output.get("data", {})}
    assert {formats.draw_bits().alt, nb07.draw_four_profiles().alt} <= alts


EXERCISES = nb07.build(None)  # none of them asks the cohort


@pytest.mark.slow
def test_an_order_is_right_if_it_trains_alike() -> None:
    """All 720: the rules that explain a wrong one agree with what happens when the lines are run."""
    orders = ["".join(letters) for letters in itertools.permutations(nb07.ORDER)]
    right = {order for order in orders if nb07.trains_alike(order)}
    assert right == {order for order in orders if nb07.what_is_wrong(order) is None}
    assert right == {"CFEADB", "CFEABD", "BCFEAD"}


@pytest.mark.parametrize("answer", ["CFEADB", "c f e a d b", list("CFEADB"), "C, F, E, A, B, D", tuple("BCFEAD")])
def test_lines_may_be_given_in_several_ways(answer: object) -> None:
    assert EXERCISES.order.verdict(answer).right


def test_the_lines_are_those_of_train_py() -> None:
    text = (course_folder() / "notebooks" / "source" / "07_amp_and_gpu_training.py").read_text("utf-8")
    for letter, line in nb07.LINES.items():
        assert f"#     {letter}   {line}\n" in text
        assert f"\n    {line}\n" in text or f"\n        {line}\n" in text  # in the file


def test_the_loops_solution_can_be_read_and_passes() -> None:
    scope: dict = {"torch": torch}
    exec(nb07.SOLUTION, scope)
    assert EXERCISES.loop.verdict(scope["my_loop"]).right


def test_a_loop_is_right_in_sense() -> None:
    """Emptied at the beginning; the share taken by another way; the loss under autocast."""

    def another(net, optimizer, scaler, batches, accumulate):
        for start in range(0, len(batches), accumulate):
            optimizer.zero_grad()
            for images, widths in batches[start:start + accumulate]:
                with torch.autocast("cpu", dtype=torch.float16):
                    loss = nn.functional.mse_loss(net(images), widths)
                scaler.scale(loss * (1 / accumulate)).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(net.parameters(), max_norm=5)
            scaler.step(optimizer)
            scaler.update()

    assert EXERCISES.loop.verdict(another).right


def test_the_score_moves_in_steps_worth_so_many_months() -> None:
    """What notebook 07 says: the bounded age's slope times the gap between scores, at its largest."""
    for kind, months in (("bfloat16", 0.39), ("float16", 0.05)):
        scores = np.linspace(0.001, 6, 4000)
        slope = 240 / (2 + np.exp(scores) + np.exp(-scores))
        assert max(formats.gap(score, kind) * s for score, s in zip(scores, slope, strict=True)) == pytest.approx(
            months, abs=0.005)


def test_a_loop_that_takes_spoiled_steps_is_told_so() -> None:
    assert "optimizer.step() takes it" in EXERCISES.loop.verdict(nb07.loop_without("look")).message
    assert "You count the batches from 0" in EXERCISES.loop.verdict(nb07.loop_without("first")).message


@pytest.mark.parametrize("answer", ["ABCDEF", "abcdef", "A, B, C, D, E, F", "A-F", "a to f", list("ABCDEF"),
                                    set("ABCDEF")])
def test_letters_may_be_written_in_several_ways(answer: object) -> None:
    assert EXERCISES.resume.verdict(answer).right


def test_the_four_profiles_are_told_as_drawn() -> None:
    told = nb07.draw_four_profiles().alt
    for run in nb07.RUNS.values():
        assert f"films {run['films']} ms, augment {run['augment']} ms, forward {run['forward']} ms" in told
    assert nb07.gain_by_halving({"forward": 1, "backward": 1}) == 2
