"""The exercises of notebook 03: a loss that broadcasts, a loss for noisy labels, a run read off its curve."""

from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from bonexage_utils.course.exercises.base import Exercise, Verdict, right, wrong
from bonexage_utils.course.start import Course
from bonexage_utils.course.widgets import LOSSES, best_guess
from bonexage_utils.phantom import grow
from bonexage_utils.phantom.dataset import AGE_RANGE_MONTHS, RATER_SD_MONTHS
from bonexage_utils.plots import ACCENT, MUTED, SEX_COLOUR, Picture, new_figure

SLIP_MONTHS = 60.0
SHARES = (0.0, 0.05, 0.2)  # of labels that slipped
REGISTRY = (0.0, 0.05)  # what the exercise asks about
TRAIN_CHILDREN, OTHER_CHILDREN = 300, 200
EPOCHS = 24
# What is wrong with each run, in the order of their letters.
FAULTS = {"A": "hot", "B": "few", "C": "bug", "D": "healthy"}


def build(course: Course) -> SimpleNamespace:
    """`shapes` (write a loss), `noise` (choose one from a table), `curves` (find the bug in a figure)."""
    return SimpleNamespace(shapes=_shapes(), noise=_noise(), curves=_curves())


# --- the loss that broadcasts ---

def mean_absolute_error(predicted: Tensor, months: Tensor) -> Tensor:
    """The exercise's solution: months (B,) or (B, 1) against months (B,), to one number in months."""
    return (predicted.reshape(-1) - months).abs().mean()


def _shapes() -> Exercise:
    generator = torch.Generator().manual_seed(0)
    months = 12.0 + 200.0 * torch.rand(6, generator=generator)
    predicted = months + 10.0 * torch.randn(6, generator=generator)

    def judge(answer: Callable[[Tensor, Tensor], Tensor]) -> Verdict:
        if not callable(answer):
            return wrong("Give the function itself, without brackets: ex.shapes.check(my_loss).")
        truth = float((predicted - months).abs().mean())
        if torch.as_tensor(answer(predicted, months)).ndim:
            return wrong("A loss is one number; yours still has an axis for the children. Take the mean.")
        column, flat = (float(answer(p, months)) for p in (predicted[:, None], predicted))
        all_pairs = float((predicted[:, None] - months).abs().mean())
        if _near(column, all_pairs):
            return wrong(f"Your loss compares every prediction with every label: {len(months) ** 2} distances for "
                         f"{len(months)} children. Bring both to the same shape before you subtract.")
        if _near(column, abs(float((predicted - months).mean()))):
            return wrong("You average first and take the distance afterwards. Then +10 and −10 cancel: that is the "
                         "bias, and it can be 0 for a network that is wrong about every child.")
        if _near(column, float(((predicted - months) ** 2).mean())):
            return wrong("These are squared months: the L2 loss. Asked is the mean absolute error, in months.")
        if not _near(column, truth):
            return wrong(f"For predictions (6, 1) it gives {column:.2f}, by hand it is {truth:.2f} months. Print the "
                         "shape of the difference inside your function.")
        if not _near(flat, truth):
            return wrong("A column (B, 1) works, but a flat (B,) now broadcasts: you changed the labels, and whether "
                         "that fits depends on the caller. Flatten the predictions instead.")
        return right("One distance per child, whichever way the predictions come. The package goes further: its "
                     "`age_loss` refuses shapes that differ, because a network whose output has the wrong shape has "
                     "a bug somewhere else, too.")

    return Exercise(
        question="Write my_loss(predicted, months): the mean absolute error in months for predictions (B, 1) or (B,).",
        judge=judge,
        hints=("What shape has predicted - months if predicted is (B, 1) and months is (B,)?",
               "reshape(-1) makes one flat axis of whatever comes in; it leaves a flat tensor as it is."),
        solution_value=mean_absolute_error,
        explanation="def my_loss(predicted, months): return (predicted.reshape(-1) - months).abs().mean(). "
                    "Not squeeze(): it also removes a batch axis of one.",
        likely_mistakes={
            "every prediction against every label": lambda p, m: (p - m).abs().mean(),
            "the mean first": lambda p, m: (p.reshape(-1) - m).mean().abs(),
            "squared": lambda p, m: ((p.reshape(-1) - m) ** 2).mean(),
            "the labels made a column": lambda p, m: (p - m[:, None]).abs().mean(),
            "no mean": lambda p, m: (p.reshape(-1) - m).abs(),
        },
    )


def _near(value: float, other: float) -> bool:
    return bool(np.isclose(value, other, rtol=1e-4))


# --- which loss for noisy labels ---

@lru_cache
def typical_miss() -> pd.DataFrame:
    """How far the best guess from 25 labels of one bone age typically is from that age: root mean square, months.

    Rows: the share of labels that slipped by SLIP_MONTHS upwards (`SHARES`), the others as the phantom's readers give
    them. Columns: the loss. From 4,000 draws with a fixed seed.
    """
    rng = np.random.default_rng(0)
    reading, luck = rng.normal(0.0, RATER_SD_MONTHS, (4000, 25)), rng.random((4000, 25))
    rows = {share: [np.sqrt((best_guess(reading + SLIP_MONTHS * (luck < share), loss) ** 2).mean()) for loss in LOSSES]
            for share in SHARES}
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(LOSSES)).rename_axis("slipped")


def _noise() -> Exercise:
    table = typical_miss().loc[list(REGISTRY)]
    regret = table.div(table.min(axis=1), axis=0).max()  # 1.0: the best, whichever way it turns out
    truth = str(regret.idxmin())
    honest, slipped = (table.loc[share] for share in REGISTRY)

    def judge(answer: Any) -> Verdict:
        chosen = {name.lower(): name for name in LOSSES}.get(str(answer).strip().lower())
        if chosen is None:
            return wrong(f"Choose one of {', '.join(LOSSES)}, as text.")
        if chosen == truth:
            return right(f"{truth} is the best in both rows, or so near to it that you need not know which row it will "
                         "be. Near zero it squares, like L2, and uses all that honest labels tell; "
                         "far out it is absolute, like L1, and lets no slip pull harder than the rest. The package's "
                         "default loss, smooth L1 turning at one year, is this one.")
        if chosen == "L2":
            return wrong(f"L2 is fine while every label is honest ({honest['L2']:.2f} months), but one slip in twenty "
                         f"takes it to {slipped['L2']:.2f}: a label that is 60 months off pulls sixty times as hard as "
                         "one that is 1 month off.")
        return wrong(f"L1 is safe against slips ({slipped['L1']:.2f} months). But look at the first row: with honest "
                     f"labels it misses by {honest['L1']:.2f} where {truth} misses by {honest[truth]:.2f}. A median "
                     "uses the middle label and the order of the rest, and throws their distances away.")

    return Exercise(
        question="Between none and one in twenty of your labels slipped; you do not know. L2, L1 or Huber?",
        judge=judge,
        hints=("Compare along each of the first two rows: which column is the smallest?",
               "You want a loss that you will not regret in either of the two rows."),
        solution_value=truth,
        explanation=f"{truth}: best or nearly best in both rows. With many slips L1 would win: the loss is a decision "
                    "about your labels.",
        likely_mistakes={"squares, out of habit": "L2", "absolute, to be safe": "L1", "not a loss": "accuracy"},
    )


# --- read a run off its learning curve ---

@lru_cache
def _children() -> tuple[Tensor, Tensor]:
    """Features (N, 60) and readers' labels (N,), months, of simulated children: how far each centre is, no pixels."""
    rng = np.random.default_rng(0)
    features, labels = [], []
    for number in range(TRAIN_CHILDREN + OTHER_CHILDREN):
        child = grow("FM"[number % 2], float(rng.uniform(*AGE_RANGE_MONTHS)), rng)
        features.append([value for centre in child.centres for value in (centre.emr, centre.fusion)])
        labels.append(child.bone_age_months + rng.normal(0.0, RATER_SD_MONTHS))
    table = np.array(features) + rng.normal(0.0, 0.25, (len(features), len(features[0])))
    own = table[:TRAIN_CHILDREN]
    table = (table - own.mean(0)) / (own.std(0) + 0.05)
    return torch.tensor(table, dtype=torch.float32), torch.tensor(labels, dtype=torch.float32)


@lru_cache
def four_runs() -> pd.DataFrame:
    """The curves of four runs of one tiny network that differ in one thing each: run, epoch, train, selection (MAE,
    months) and baseline (that of the median). Takes a second; the seeds are fixed."""
    features, labels = _children()
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(1)  # so small that a second thread would only wait
    try:
        rows = [row for run, fault in FAULTS.items() for row in _one_run(run, fault, features, labels)]
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)
    return pd.DataFrame(rows)


def _one_run(run: str, fault: str, features: Tensor, labels: Tensor) -> list[dict[str, float | str]]:
    known, other = slice(0, 16 if fault == "few" else TRAIN_CHILDREN), slice(TRAIN_CHILDREN, None)
    mean, std = labels[:TRAIN_CHILDREN].mean(), labels[:TRAIN_CHILDREN].std()
    baseline = float((labels[other] - labels[:TRAIN_CHILDREN].median()).abs().mean())
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(features.shape[1], 64), nn.GELU(), nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(network.parameters(), lr={"hot": 0.1}.get(fault, 1e-3))

    def error(part: slice) -> float:
        with torch.no_grad():
            return float((mean + std * network(features[part])[:, 0] - labels[part]).abs().mean())

    rows: list[dict[str, float | str]] = []
    for epoch in range(1, EPOCHS + 1):
        for batch in torch.randperm(len(labels[known])).split(16):
            predicted = mean + std * network(features[batch])
            loss = ((predicted if fault == "bug" else predicted[:, 0]) - labels[batch]).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        rows.append({"run": run, "epoch": epoch, "train": error(known), "selection": error(other),
                     "baseline": baseline})
    return rows


def draw_four_runs() -> Picture:
    """Training and selection MAE (months) against epoch, one panel for each run, the median's MAE dashed."""
    runs, baseline = four_runs(), float(four_runs()["baseline"].iloc[0])
    figure, axes = new_figure(9, 2.7, 1, len(FAULTS), sharey=True)
    told = []
    for ax, (run, log) in zip(axes, runs.groupby("run"), strict=True):
        ax.plot(log["epoch"], log["train"], color=MUTED, label="training")
        ax.plot(log["epoch"], log["selection"], color=SEX_COLOUR["M"], linewidth=2, label="selection")
        ax.axhline(baseline, color=ACCENT, linestyle="--", label="median")
        ax.set(title=f"run {run}", xlabel="epoch", ylim=(0, 1.9 * baseline))
        numbers = log.set_index("epoch")[["train", "selection"]].loc[[1, 8, 16, EPOCHS]].round()
        told.append(f"{run}: " + ", ".join(f"epoch {e} {a:.0f} and {b:.0f}" for e, a, b in numbers.itertuples()))
    axes[0].set_ylabel("MAE (months)")
    axes[-1].legend(fontsize=8)
    return Picture(figure, f"""Four learning curves, mean absolute error in months against epoch; the median's error
        is a dashed line at {baseline:.0f}. Training and selection error of run {'; of run '.join(told)}.""")


def _curves() -> Exercise:
    letter = {fault: run for run, fault in FAULTS.items()}

    def judge(answer: Any) -> Verdict:
        last = four_runs().groupby("run").last()
        run = str(answer).strip().upper()
        if run == letter["bug"]:
            return right(f"Run {run} stays at the dashed line ({last.loc[run, 'selection']:.0f} months, the median "
                         f"{last.loc[run, 'baseline']:.0f}), for training children too. Compared with every label at "
                         "once, the best a network can do is to say the median to everybody. It is the flatness *at "
                         "the baseline* that gives the bug away: no error was raised, and the loss did look busy.")
        if run == letter["few"]:
            return wrong(f"Run {run} learns its own children by heart: {last.loc[run, 'train']:.0f} months on them, "
                         f"{last.loc[run, 'selection']:.0f} on others. With the bug it could not even fit those. It "
                         "had 16 children.")
        if run == letter["hot"]:
            return wrong(f"Run {run} jumps up and down, and yet gets below the dashed line: its steps are too long (a "
                         "learning rate 100 times that of the others). The bug does not shake, it stalls.")
        if run == letter["healthy"]:
            return wrong(f"Run {run} is the healthy one: it falls at once and far below the dashed line. The small gap "
                         "that opens later between the two curves is usual.")
        return wrong(f"Answer with a letter: one of {', '.join(FAULTS)}.")

    return Exercise(
        question="Which of the four runs was trained with predictions (B, 1) against labels (B,)?",
        judge=judge,
        hints=("Under that bug every prediction is pulled to all labels at once. Which constant is that?",
               "So the curve must lie near the dashed line, on training children as well as on others."),
        solution_value=letter["bug"],
        explanation=f"Run {letter['bug']}: flat, at the median's error, on both curves. {letter['hot']} has too long "
                    f"steps, {letter['few']} learned 16 children by heart, {letter['healthy']} is healthy.",
        likely_mistakes={"memorising": letter["few"], "too long steps": letter["hot"], "healthy": letter["healthy"],
                         "not a letter": 7},
    )
