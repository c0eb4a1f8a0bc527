"""The exercises of notebook 03: a loss that broadcasts, a loss for noisy labels, a bug found in a learning curve."""

from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from bonexage_utils.course.exercise import Exercise, Verdict, choice, listed, right, wrong
from bonexage_utils.course.nb03.losses import LOSSES, best_guess
from bonexage_utils.course.start import Course
from bonexage_utils.figures import ACCENT, SEX_COLOUR, Picture, new_figure
from bonexage_utils.phantom import grow
from bonexage_utils.phantom.dataset import AGE_RANGE_MONTHS
from bonexage_utils.phantom.labels import RATER_SD_MONTHS

SLIP_MONTHS = 60.0
SHARES = (0.0, 0.05, 0.2)  # of labels that slipped
REGISTRY = (0.0, 0.05)  # what the exercise asks about
TRAIN_CHILDREN, FEW_CHILDREN, SELECTION_CHILDREN = 600, 8, 200
STEPS, RECORD_EVERY, BATCH = 240, 10, 16
LR, HOT = 1e-3, 100  # the learning rate, and how many times too high it is in one run
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
    # Labels and predictions are in different orders, so that sorting both pairs the wrong children.
    months = torch.tensor([150.0, 36.0, 90.0, 204.0, 61.0, 118.0])
    predicted = torch.tensor([131.0, 48.0, 97.0, 120.0, 44.0, 171.0])

    def judge(answer: Callable[[Tensor, Tensor], Tensor]) -> Verdict:
        truth = float((predicted - months).abs().mean())
        column = torch.as_tensor(answer(predicted[:, None].clone(), months.clone()))
        try:
            flat = torch.as_tensor(answer(predicted.clone(), months.clone()))
        except IndexError:
            return wrong("It takes a column (B, 1), but stops at a flat (B,), which has no second axis to take the "
                         "first of. reshape(-1) makes either one flat.")
        if flat.numel() != 1 or column.ndim == 2:
            return wrong("A loss is one number; yours still has an axis for the children. Take the mean.")
        pairs = (f"Your loss compares every prediction with every label: {len(months) ** 2} distances for "
                 f"{len(months)} children. Bring both to the same shape before you subtract.")
        all_pairs = float((predicted[:, None] - months).abs().mean())
        if column.numel() != 1:
            return wrong(pairs)
        if _near(column, float((predicted.sort()[0] - months.sort()[0]).abs().mean())):
            return wrong("You sort before you compare, so a child meets another child's label: leave the order alone.")
        if _near(column, all_pairs):
            return wrong(pairs)
        if _near(column, truth * len(months)):
            return wrong("That is the sum over the children. With a batch twice as large it would be twice as large, "
                         "and so would every step: take the mean.")
        turned = float(torch.as_tensor(answer(months[:, None].clone(), predicted.clone())))
        if _near(abs(column), abs(float((predicted - months).mean()))) and min(column, turned) < 0:
            return wrong("The signs are still there, so +10 and −10 cancel, and a network that is wrong about every "
                         "child may have a loss of 0, or one below. Take .abs() before the mean.")
        if _near(column, abs(float((predicted - months).mean()))):
            return wrong("You average first and take the distance afterwards. Then +10 and −10 cancel: that is the "
                         "bias, and it can be 0 for a network that is wrong about every child.")
        if _near(column, float(((predicted - months) ** 2).mean())):
            return wrong("These are squared months: the L2 loss. Asked is the mean absolute error, in months.")
        if _near(column, float(((predicted - months) ** 2).mean().sqrt())):
            return wrong("That is the root of the mean square error. Asked is the mean *absolute* error: .abs().")
        if not _near(column, truth):
            return wrong(f"For predictions (6, 1) it gives {column:.2f}, by hand it is {truth:.2f} months. Print the "
                         "shape of the difference inside your function.")
        if not _near(flat, truth):
            return wrong("A column (B, 1) works, but a flat (B,) now broadcasts: you changed the labels, and whether "
                         "that fits depends on the caller. Flatten the predictions instead.")
        if not _has_gradient(answer, predicted[:, None], months):
            return wrong("The number is right, but no gradient gets through, so the network would not learn from it. "
                         "Stay with torch from end to end: no .item(), .detach(), float(), NumPy, or change in place.")
        return right("One distance per child, whichever way the predictions come. The package goes further: its "
                     "`age_loss` refuses shapes that differ, because a network whose output has the wrong shape has "
                     "a bug somewhere else, too.")

    return Exercise(
        question="Write my_loss(predicted, months): the mean absolute error in months for predictions (B, 1) or (B,).",
        judge=judge,
        hints=("What shape has predicted - months if predicted is (B, 1) and months is (B,)?",
               "reshape(-1) makes one flat axis of whatever comes in; it leaves a flat tensor as it is."),
        solution_value=mean_absolute_error,
        explanation="Both are flat before they meet. squeeze() passes, too, but of a batch of one child it leaves no "
                    "axis at all.",
        code="""
def my_loss(predicted, months):
    return (predicted.reshape(-1) - months).abs().mean()
""",
        likely_mistakes={
            "every prediction against every label": lambda p, m: (p - m).abs().mean(),
            "the mean first": lambda p, m: (p.reshape(-1) - m).mean().abs(),
            "the sum": lambda p, m: (p.reshape(-1) - m).abs().sum(),
            "with their signs": lambda p, m: (p.reshape(-1) - m).mean(),
            "squared": lambda p, m: ((p.reshape(-1) - m) ** 2).mean(),
            "the labels made a column": lambda p, m: (p - m[:, None]).abs().mean(),
            "no mean": lambda p, m: (p.reshape(-1) - m).abs(),
            "no gradient": lambda p, m: (p.reshape(-1) - m).abs().mean().item(),
            "columns alone": lambda p, m: (p[:, 0] - m).abs().mean(),
            "both sorted": lambda p, m: (p.reshape(-1).sort()[0] - m.sort()[0]).abs().mean(),
        },
    )


def _has_gradient(loss: Callable[[Tensor, Tensor], Tensor], predicted: Tensor, months: Tensor) -> bool:
    """Whether `loss` gives each prediction a gradient; a function that fails on a tensor with a gradient gives none."""
    leaf = predicted.clone().requires_grad_()
    try:
        loss(leaf, months).backward()
    except (AttributeError, RuntimeError, TypeError):
        return False
    return leaf.grad is not None and bool((leaf.grad != 0).all())


def _near(value: float, other: float) -> bool:
    return bool(np.isclose(value, other, rtol=1e-4))


# --- which loss for noisy labels ---

@lru_cache
def typical_miss() -> pd.DataFrame:
    """The root mean square error, in months, of the best guess from 25 labels of one bone age.

    Rows: the share of labels that slipped by SLIP_MONTHS upwards (`SHARES`), the others as the phantom's readers give
    them. Columns: the loss. From 4,000 draws with a fixed seed.
    """
    rng = np.random.default_rng(0)
    reading, uniform = rng.normal(0.0, RATER_SD_MONTHS, (4000, 25)), rng.random((4000, 25))
    rows = {}
    for share in SHARES:
        error = reading + SLIP_MONTHS * (uniform < share)
        rows[share] = [np.sqrt((best_guess(error, loss) ** 2).mean()) for loss in LOSSES]
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(LOSSES)).rename_axis("slipped")


def _noise() -> Exercise:
    table = typical_miss().loc[list(REGISTRY)]
    regret = table.div(table.min(axis=1), axis=0).max()  # 1.0: the best loss in every row
    truth = str(regret.idxmin())
    clean, slipped = (table.loc[share] for share in REGISTRY)

    options = {
        "L2": f"L2 is fine while every label is honest ({clean['L2']:.2f} months), but one slip in twenty takes it to "
              f"{slipped['L2']:.2f}: a label that is 60 months off pulls sixty times as hard as one that is 1 month "
              "off.",
        "L1": f"L1 is safe against slips ({slipped['L1']:.2f} months). But look at the first row: with honest labels "
              f"it misses by {clean['L1']:.2f} where {truth} misses by {clean[truth]:.2f}. A median uses the middle "
              "label and the order of the rest, and throws their distances away.",
        "Huber": f"{truth} is the best in both rows, or so near to it that you need not know which row it will be. "
                 "Near zero it squares, like L2, and uses all that honest labels tell; far out it is absolute, like "
                 "L1, and lets no slip pull harder than the rest. The package's default loss, smooth L1 turning at "
                 "one year, is this one.",
    }
    synonyms = {"mse": "L2", "squared": "L2", "mseloss": "L2", "mae": "L1", "absolute": "L1", "l1loss": "L1",
                **dict.fromkeys(("smooth l1", "smoothl1", "smoothl1loss", "huberloss"), "Huber")}

    return Exercise(
        question="Between none and one in twenty of your labels slipped; you do not know. "
                 f"{listed(options)}?",
        judge=choice(options, truth, synonyms),
        hints=("Compare along each of the first two rows: which column is the smallest?",
               "You want a loss that you will not regret in either of the two rows."),
        solution_value=truth,
        explanation="It is best or nearly best in both rows. With many slips L1 would win: the loss is a decision "
                    "about your labels.",
        likely_mistakes={"squares, out of habit": "L2", "absolute, to be safe": "L1", "not a loss": "accuracy"},
    )


# --- learning curves ---

@lru_cache
def _children() -> tuple[Tensor, Tensor]:
    """Features (N, 60) and readers' labels (N,), months, of simulated children: how mature each centre is."""
    rng = np.random.default_rng(0)
    features, labels = [], []
    for number in range(TRAIN_CHILDREN + SELECTION_CHILDREN):
        child = grow("FM"[number % 2], float(rng.uniform(*AGE_RANGE_MONTHS)), rng)
        features.append([value for centre in child.centres for value in (centre.emr, centre.fusion)])
        labels.append(child.bone_age_months + rng.normal(0.0, RATER_SD_MONTHS))
    table = np.array(features) + rng.normal(0.0, 0.15, (len(features), len(features[0])))
    train = table[:TRAIN_CHILDREN]
    table = (table - train.mean(0)) / (train.std(0) + 0.05)
    return torch.tensor(table, dtype=torch.float32), torch.tensor(labels, dtype=torch.float32)


@lru_cache
def four_runs() -> pd.DataFrame:
    """The curves of four runs of one tiny network that differ in one thing each: run, step, train, selection (MAE,
    months) and baseline (that of the median). Takes seconds; the seeds are fixed."""
    features, labels = _children()
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(1)  # the network is so small that a second thread would only wait
    try:
        rows = [row for run, fault in FAULTS.items() for row in _one_run(run, fault, features, labels)]
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)
    return pd.DataFrame(rows)


def _one_run(run: str, fault: str, features: Tensor, labels: Tensor) -> list[dict[str, float | str]]:
    count = FEW_CHILDREN if fault == "few" else TRAIN_CHILDREN
    train, selection = slice(0, count), slice(TRAIN_CHILDREN, None)
    mean, std = labels[:TRAIN_CHILDREN].mean(), labels[:TRAIN_CHILDREN].std()
    baseline = float((labels[selection] - labels[:TRAIN_CHILDREN].median()).abs().mean())
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(features.shape[1], 64), nn.GELU(), nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR * (HOT if fault == "hot" else 1))
    rows: list[dict[str, float | str]] = []

    def record(step: int) -> None:
        with torch.no_grad():
            errors = [float((mean + std * network(features[part])[:, 0] - labels[part]).abs().mean())
                      for part in (train, selection)]
        rows.append({"run": run, "step": step, "train": errors[0], "selection": errors[1], "baseline": baseline})

    # Every run takes the same number of steps and of children a step, so that the few children are seen more often.
    order = torch.cat([torch.randperm(count) for _ in range(-(-STEPS * BATCH // count))])
    record(0)
    for step, batch in enumerate(order[:STEPS * BATCH].split(BATCH), 1):
        predicted = mean + std * network(features[batch])
        loss = ((predicted if fault == "bug" else predicted[:, 0]) - labels[batch]).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % RECORD_EVERY == 0:
            record(step)
    return rows


def draw_four_runs() -> Picture:
    """Training and selection MAE (months) against the step, one panel for each run, the median's MAE dashed."""
    runs, baseline = four_runs(), float(four_runs()["baseline"].iloc[0])
    figure, axes = new_figure(9, 3.1, 1, len(FAULTS), sharey=True)
    parts = []
    for ax, (run, log) in zip(axes, runs.groupby("run"), strict=True):
        ax.plot(log["step"], log["selection"], color=SEX_COLOUR["M"], linewidth=3, label="other children (selection)")
        ax.plot(log["step"], log["train"], color="black", linewidth=1, label="training children")
        ax.axhline(baseline, color=ACCENT, linestyle="--", label="the median, on the others")
        ax.set(title=f"run {run}", xlabel="step", ylim=(0, 1.6 * baseline), xticks=range(0, STEPS + 1, STEPS // 2))
        numbers = log.set_index("step")[["train", "selection"]].loc[[0, STEPS // 4, STEPS // 2, STEPS]].round()
        parts.append(f"{run}: " + ", ".join(f"step {step} {a:.0f} and {b:.0f}" for step, a, b in numbers.itertuples()))
    axes[0].set_ylabel("MAE (months)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return Picture(figure, f"""Four learning curves, mean absolute error in months against the step; the median's error
        is a dashed line at {baseline:.0f}. Training and selection error of run {'; of run '.join(parts)}.""")


def _curves() -> Exercise:
    letter = {fault: run for run, fault in FAULTS.items()}
    last, late = four_runs().groupby("run").last(), four_runs().query("step >= @STEPS / 2").groupby("run")
    baseline = last["baseline"].iloc[0]
    lowest, highest = (late["selection"].agg(which)[letter["bug"]] for which in ("min", "max"))
    options = {
        letter["bug"]: f"Run {letter['bug']} stays a little below the dashed line ({lowest:.0f} to {highest:.0f} "
                       f"months in its second half, the median {baseline:.0f}), on training children too. Compared "
                       "with every label of the batch at once, the best a network can do is to say nearly the median "
                       f"to everybody; nearly, because one of the {BATCH} labels is the child's own. It is the "
                       "flatness *by the baseline* that gives the bug away: no error was raised.",
        letter["few"]: f"Run {letter['few']} learns its own children by heart: {last.train[letter['few']]:.0f} months "
                       f"on them, {last.selection[letter['few']]:.0f} on others. With the bug it could not even fit "
                       f"its own. It had {FEW_CHILDREN} children.",
        letter["hot"]: f"Run {letter['hot']} jumps up and down, and now and then gets far below the dashed line: its "
                       f"steps are too long (a learning rate {HOT} times that of the others). The bug does not get far "
                       "below, ever.",
        letter["healthy"]: f"Run {letter['healthy']} is the healthy one: both curves fall at once and far below the "
                           f"dashed line, to {last.train[letter['healthy']]:.0f} months on its own children and "
                           f"{last.selection[letter['healthy']]:.0f} on others. A small gap between the two is usual.",
    }
    return Exercise(
        question="Which of the four runs was trained with predictions (B, 1) against labels (B,)? "
                 f"{listed(options)}?",
        judge=choice(options, letter["bug"]),
        hints=("Under that bug every prediction is pulled to all labels of its batch at once. Which constant is that?",
               "So both curves stay near the dashed line, a little below it, and never get far.",
               "A run that fits its own children, however few, cannot have the bug."),
        solution_value=letter["bug"],
        explanation=f"Run {letter['bug']} is flat, by the median's error, on both curves. {letter['hot']} has too long "
                    f"steps, {letter['few']} learned {FEW_CHILDREN} children by heart, {letter['healthy']} is healthy.",
        likely_mistakes={"memorising": letter["few"], "too long steps": letter["hot"], "healthy": letter["healthy"],
                         "not a letter": 7},
    )
