"""The exercises of notebook 07: the gap between neighbours, six lines to put right, a profile to decide by, what a run
needs to go on, and a loop from memory."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from bonexage_utils.course.answers import letters, numbers
from bonexage_utils.course.exercise import Exercise, Verdict, choice, right, wrong
from bonexage_utils.course.nb07.formats import FORMATS, gap
from bonexage_utils.course.nb07.speed import PARTS, draw_timeline
from bonexage_utils.course.start import Course
from bonexage_utils.figures import Picture, new_figure

AGE = 200.0  # months
CLOSE = 0.05
# Milliseconds of each part of one step, made up for the exercise.
RUNS = {"A": {"films": 4, "augment": 6, "forward": 60, "backward": 115, "update": 15},
        "B": {"films": 150, "augment": 6, "forward": 14, "backward": 24, "update": 6},
        "C": {"films": 4, "augment": 6, "forward": 26, "backward": 44, "update": 120},
        "D": {"films": 4, "augment": 90, "forward": 34, "backward": 62, "update": 10}}


def build(course: Course) -> SimpleNamespace:
    """`gap` (three numbers), `order` (six letters), `profile` and `resume` (decisions), `loop` (write a function). None
    of them depends on the course's films."""
    return SimpleNamespace(gap=_gap(), order=_order(), resume=_resume(), profile=_profile(), loop=_loop())


# --- the gap between neighbours ---

def _gap() -> Exercise:
    truth = np.array([gap(AGE, kind) for kind in FORMATS])
    relative = np.array([gap(1.0, kind) for kind in FORMATS])
    shown = ", ".join(f"{value:.3g}" for value in truth)
    known = [(relative, "Those are the gaps right above 1. Numbers lie wider apart the larger they are: from 128 to "
                        "256 it is 128 times that."),
             (relative * AGE, "Nearly: that is the gap at 1, times 200. But the gap doubles at every power of two and "
                              "stays the same in between: from 128 to 256 it is 128 times that at 1."),
             (truth / 2, "That is the largest error of rounding, half a gap. Asked is the gap itself."),
             (truth * 2, "Twice too wide: 200 lies between 2⁷ and 2⁸, and the gap is that of the lower, 2⁷ = 128."),
             (truth[[0, 2, 1]], "Right numbers, the two last exchanged. bfloat16 has 7 bits for the fraction, float16 "
                                "has 10: who pays more for the exponent has the wider gap.")]

    def judge(answer: Any) -> Verdict:
        found = numbers(answer, list(FORMATS))
        if found.shape != (3,):
            return wrong("Three numbers, please: for float32, bfloat16 and float16.")
        for values, message in known:
            if np.allclose(found, values, rtol=CLOSE):
                return wrong(message)
        good = np.abs(found - truth) <= CLOSE * truth
        if good.all():
            return right(f"{shown} months. In bfloat16 ages from 128 to 256 months come in whole months, below that in "
                         "halves and less: the answer itself must not be computed in it.")
        place = int(np.argmin(good))
        return wrong(f"In {list(FORMATS)[place]} it is not {found[place]:.3g}. With n bits for the fraction, the gap "
                     "from 128 to 256 is 128 / 2ⁿ.")

    return Exercise(
        question="How far apart are neighbouring numbers at 200 months in float32, bfloat16 and float16? A list of "
                 "three numbers.",
        judge=judge,
        hints=("The fractions have 23, 7 and 10 bits. Right above 1 the gaps are 2⁻²³, 2⁻⁷ and 2⁻¹⁰.",
               "The gap doubles at every power of two. 200 lies between 128 and 256, so it is 128 times that at 1.",
               "[128 / 2**23, 128 / 2**7, 128 / 2**10]"),
        solution_value=truth.tolist(),
        explanation=f"[128 / 2**23, 128 / 2**7, 128 / 2**10]: {shown} months.",
        likely_mistakes={
            "the gaps at one": relative.tolist(),
            "times 200": (relative * AGE).tolist(),
            "half a gap": (truth / 2).tolist(),
            "of the power above": (truth * 2).tolist(),
            "the last two exchanged": truth[[0, 2, 1]].tolist(),
            "two numbers": truth[1:].tolist(),
            "another number": [truth[0], truth[1], 0.2],
        },
    )


# --- six lines to put right ---

LINES = {"A": "scaler.step(optimizer)", "B": "optimizer.zero_grad()", "C": "scaler.scale(loss).backward()",
         "D": "scaler.update()", "E": "torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)",
         "F": "scaler.unscale_(optimizer)"}
ORDER = "CFEADB"
ROUNDS, SAME = 4, 1e-4
# What goes wrong where the first does not come before the second.
BEFORE = {
    ("C", "F"): "F needs gradients to divide, and C makes them.",
    ("F", "E"): "Unscale before you clip: F, then E. Else the limit of 5 is held against gradients that are too long "
                "by the scale: all of them are cut, and what the optimizer gets is next to nothing.",
    ("C", "E"): "E needs gradients to cut, and C makes them.",
    ("E", "A"): "Clip before the step: A uses the gradients as it finds them, so E comes before it.",
    ("F", "A"): "Unscale before the step: after A has stepped, F refuses.",
    ("A", "D"): "D comes after A: it looks at whether this step could be taken, and chooses the scale for the next. "
                "Called before, it forgets that the gradients are unscaled already, and A divides them again.",
}
EMPTIED = "B empties the gradients. Between C and A they are still needed."


def run_lines(order: str) -> Tensor:
    """The weights of a small network after ROUNDS rounds of the lines in that order. Raises what torch raises."""
    rng = torch.Generator().manual_seed(0)
    films, widths = torch.randn(ROUNDS, 8, 3, generator=rng), 9 * torch.randn(ROUNDS, 8, generator=rng)
    net = nn.Linear(3, 1)
    for weight in net.parameters():
        nn.init.constant_(weight, 0.5)
    scope = {"torch": torch, "net": net, "optimizer": torch.optim.SGD(net.parameters(), 0.05),
             "scaler": torch.amp.GradScaler("cpu", 2.0**8, growth_interval=1)}
    for image, width in zip(films, widths, strict=True):
        scope["loss"] = nn.functional.mse_loss(net(image)[:, 0], width)
        for letter in order:
            exec(LINES[letter], scope)
    return torch.cat([weight.detach().flatten() for weight in net.parameters()])


def trains_alike(order: str) -> bool:
    """Whether the lines in that order end in the weights of ORDER."""
    try:
        return torch.allclose(run_lines(order), run_lines(ORDER), atol=SAME)
    except (RuntimeError, AssertionError):  # the scaler's own word that something is out of turn
        return False


def what_is_wrong(order: str) -> str | None:
    """The first rule that an order breaks; None if it breaks none."""
    for (first, second), message in BEFORE.items():
        if order.index(first) > order.index(second):
            return message
    return EMPTIED if order.index("C") < order.index("B") < order.index("A") else None


def _order() -> Exercise:
    def judge(answer: Any) -> Verdict:
        order = letters(answer, LINES, ordered=True)
        if sorted(order) != sorted(LINES):
            missing = [letter for letter in LINES if order and letter not in order]
            return wrong("Each of the six letters once, in one order, please"
                         + (f"; missing: {', '.join(missing)}." if missing else "."))
        if trains_alike(order):
            return right("Your lines were run, and the weights are right. Scale and go backward, bring the gradients "
                         "back to size, cut them, step, and let the scaler look at what happened. The gradients may be "
                         "emptied anywhere after the step, or before the next backward.")
        return wrong(what_is_wrong(order) or "Run in this order, the weights come out otherwise.")

    def moved(first: str, second: str) -> str:
        rest = ORDER.replace(second, "")
        return rest.replace(first, second + first)

    return Exercise(
        question="In which order do the six lines train? Six letters, such as 'ABCDEF'.",
        judge=judge,
        hints=("Only one of the lines needs no gradients and makes them.",
               "The limit of 5 is meant for gradients of their true size.",
               "The scaler's own update comes after the step. Where may the gradients be emptied?"),
        solution_value=ORDER,
        explanation=f"{ORDER!r}, or with B at the beginning: " + "; ".join(LINES[letter] for letter in ORDER),
        likely_mistakes={
            "clip before unscale": moved("F", "E"), "update before step": moved("A", "D"),
            "step before clip": moved("E", "A"), "unscale first": moved("C", "F"),
            "emptied too early": "CBFEAD", "one forgotten": "CFEAD", "a number": 6,
        },
    )


# --- the loop from memory ---

GROUP = 2  # batches in an update
# How far off the widths of each update are: some gradients are longer than 5, some are not, the last are infinite.
LOUD = (1.0, 9.0, 0.3, 1e6)


class Radius(nn.Module):
    """Images (B, 1, 4, 4) to widths in mm (B,), float32; `cast`: whether every call stood under autocast in float16."""

    def __init__(self) -> None:
        super().__init__()
        self.line, self.cast = nn.Linear(16, 1), True
        for weight in self.parameters():
            nn.init.constant_(weight, 0.1)

    def forward(self, images: Tensor) -> Tensor:
        self.cast = (self.cast and torch.is_autocast_enabled("cpu")
                     and torch.get_autocast_dtype("cpu") == torch.float16)
        return self.line(images.flatten(1))[:, 0].float()


def trained_by(loop: Callable) -> tuple[Tensor, bool]:
    """The weights of a Radius that `loop` trained, and whether it did so under autocast."""
    rng = torch.Generator().manual_seed(1)
    batches = [(torch.rand(4, 1, 4, 4, generator=rng), loud * (1 + torch.rand(4, generator=rng)))
               for loud in LOUD for _ in range(GROUP)]
    net = Radius()
    scaler = torch.amp.GradScaler("cpu", 4.0, growth_interval=2)
    loop(net, torch.optim.SGD(net.parameters(), 0.02), scaler, batches, GROUP)
    return torch.cat([weight.detach().flatten() for weight in net.parameters()]), net.cast


def loop_without(*left_out: str) -> Callable:
    """The exercise's solution, or one of its mistakes, by what is left out."""

    def loop(net: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, batches: list,
             accumulate: int) -> None:
        for step, (images, widths) in enumerate(batches, "first" not in left_out):
            with torch.autocast("cpu", torch.float16, enabled="autocast" not in left_out):
                read = net(images)
            loss = nn.functional.mse_loss(read, widths) / (1 if "share" in left_out else accumulate)
            (loss if "scale" in left_out else scaler.scale(loss)).backward()
            if "group" not in left_out and step % accumulate:
                continue
            if "unscale" not in left_out:
                scaler.unscale_(optimizer)
            if "clip" not in left_out:
                nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimizer.step() if "look" in left_out else scaler.step(optimizer)
            if "update" not in left_out:
                scaler.update()
            if "zero_grad" not in left_out:
                optimizer.zero_grad()

    return loop


def _eager(net: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, batches: list,
           accumulate: int) -> None:
    for images, widths in batches:
        with torch.autocast("cpu", torch.float16):
            read = net(images)
        scaler.scale(nn.functional.mse_loss(read, widths) / accumulate).backward()
        scaler.unscale_(optimizer)


def _forward_alone(net: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, batches: list,
                   accumulate: int) -> None:
    for images, _ in batches:
        net(images)


FORGOTTEN = {
    "zero_grad": "The gradients are never emptied: each update still holds those of all before it.",
    "share": "Each loss counts in full. Divide it by accumulate, or the gradients are as many times too long.",
    "group": "The network moves after every batch. Wait until step % accumulate == 0.",
    "first": "You count the batches from 0, so the first update comes after one batch: enumerate(batches, 1).",
    "unscale": "Clip without unscale_: the limit of 5 is held against scaled gradients, and little is left.",
    "clip": "Nothing is clipped: one update here has a gradient that is longer than 5.",
}
SOLUTION = """def my_loop(net, optimizer, scaler, batches, accumulate):
    for step, (images, widths) in enumerate(batches, 1):
        with torch.autocast("cpu", torch.float16):
            read = net(images)
        loss = torch.nn.functional.mse_loss(read, widths) / accumulate
        scaler.scale(loss).backward()
        if step % accumulate == 0:
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()"""


def _loop() -> Exercise:
    def judge(answer: Callable) -> Verdict:
        try:
            found, cast = trained_by(answer)
        except (RuntimeError, AssertionError) as error:  # the scaler's own words
            if "after step()" in str(error):
                return wrong("After a step comes scaler.update(); without it the scaler refuses the next unscale_.")
            if "already been called" in str(error):
                return wrong("unscale_ is called twice in one update. It belongs to the update, not to every batch.")
            if "scale" in str(error):
                return wrong("Is the loss scaled? scaler.scale(loss).backward() comes before all else.")
            raise
        before, _ = trained_by(lambda *_: None)
        if torch.equal(found, before):
            return wrong("The network has not moved. Is there a backward, and a scaler.step(optimizer)?")
        if found.isnan().any():
            return wrong("One batch here has infinite gradients. scaler.step(optimizer) skips such a step; "
                         "optimizer.step() takes it, and the weights are spoiled.")
        if not cast:
            return wrong("The forward pass does not stand under torch.autocast('cpu', torch.float16). (Without a "
                         "format it is bfloat16 on a processor.)")
        if torch.allclose(found, trained_by(loop_without())[0], atol=SAME):
            return right("The weights are those of train.py's loop. With a data set and an optimizer of your own, this "
                         "trains whatever you like.")
        for part, message in FORGOTTEN.items():
            if torch.allclose(found, trained_by(loop_without(part))[0], atol=SAME):
                return wrong(message)
        return wrong("It trains, but the weights come out otherwise. Compare each line with the update of train.py: "
                     "share, scale, unscale, clip, step, update, empty.")

    return Exercise(
        question="Write my_loop(net, optimizer, scaler, batches, accumulate): one epoch in float16.",
        judge=judge,
        hints=("Forward under autocast, the loss divided by accumulate, scale and backward: for every batch.",
               "if step % accumulate == 0: the five other lines of the exercise above.",
               SOLUTION),
        solution_value=loop_without(),
        explanation="It is train.py's loop: what a forward and a backward give, each batch adds; the other lines stand "
                    "once for all batches of an update.",
        code=SOLUTION,
        likely_mistakes={f"without {part}": loop_without(part) for part in
                         ("zero_grad", "share", "group", "first", "unscale", "clip", "update", "scale", "autocast",
                          "look")}
        | {"unscale for every batch": _eager, "forward alone": _forward_alone, "its name": "my_loop",
           "twice forgotten": loop_without("clip", "share")},
    )


# --- decisions ---

def gain_by_halving(run: dict[str, float]) -> float:
    """How many times faster a step gets when its forward and backward take half the time."""
    whole = sum(run.values())
    return whole / (whole - (run["forward"] + run["backward"]) / 2)


def draw_four_profiles() -> Picture:
    """Two steps of each of RUNS, made up, along the time."""
    figure, axes = new_figure(9.5, 4.6, 2, 2, sharex=True)
    described = []
    for ax, (name, run) in zip(axes.flat, RUNS.items(), strict=True):
        rows, now = [], 0.0
        for _ in range(2):
            for part in PARTS:
                rows.append((part, now, now + run[part]))
                now += run[part]
        draw_timeline(ax, pd.DataFrame(rows, columns=["part", "start", "end"]))
        ax.set(title=name)
        described.append(f"{name}: " + ", ".join(f"{part} {run[part]} ms" for part in PARTS))
    for ax in axes[1]:
        ax.set_xlabel("time (ms)")
    return Picture(figure, f"""Four made-up profiles of two training steps each, the parts as bars along the time. One
        step of {'; of '.join(described)}.""")


def _profile() -> Exercise:
    gains = {name: gain_by_halving(run) for name, run in RUNS.items()}
    truth = min(gains, key=gains.__getitem__)
    why = {"films": "It waits for its films: read them from a cache, or give the loader workers.",
           "augment": "It waits for the augmentation: move that to the device, or do less of it.",
           "update": "It waits for the update: larger batches make fewer of them, and a fused optimizer is quicker.",
           "forward": "", "backward": "It computes, as it should."}

    def feedback(name: str) -> str:
        run = RUNS[name]
        longest = max(run, key=run.__getitem__)
        share = (run["forward"] + run["backward"]) / sum(run.values())
        return (f"Forward and backward are {share:.0%} of a step of {name}; with them halved it would be "
                f"{gains[name]:.2f} times as fast. {why[longest]}"
                + ("" if name == truth else " There is one that gets less."))

    return Exercise(
        question="Which run gets the least from a number format that halves forward and backward? 'A', 'B', 'C' or "
                 "'D'.",
        judge=choice({name: feedback(name) for name in RUNS}, truth),
        hints=("What is not forward or backward stays as long as it is.",
               "Where are blue and red together the smallest part of a step?"),
        solution_value=truth,
        explanation=f"{truth!r}; times as fast: " + ", ".join(f"{name} {gain:.2f}" for name, gain in gains.items()),
        likely_mistakes={f"the one that {what}": name for name, what in
                         {"A": "computes most", "C": "updates long", "D": "augments long"}.items()} | {"a number": 2},
    )


THINGS = {"A": "the weights", "B": "the averaged weights", "C": "AdamW's moments and step counts",
          "D": "the scaler's scale", "E": "how many epochs and updates are done", "F": "where the random stream stands",
          "G": "the gradients", "H": "the films in the cache", "I": "the learning rate"}
NEEDED = frozenset("ABCDEF")
MISSING = {"A": "Without the weights there is nothing to go on with.",
           "B": "The averaged weights are what is measured and kept in the end. Begun anew they would have forgotten "
                "everything before the stop.",
           "C": "AdamW divides by a memory of earlier gradients. Without it the first steps after the stop are as wild "
                "as the first of all, and there is no warm-up any more.",
           "D": "Without its scale the scaler begins at 65,536 again, and may skip steps that the other run took.",
           "E": "Without the counts, learning rate, order of the films and augmentation would begin at epoch 1 again.",
           "F": "Dropout draws from the random stream. Begun anew, it would drop other units than in the run that was "
                "never stopped: as good, but not the same."}
NEEDLESS = {"G": "The gradients are set to zero after each update, and the state is written between updates.",
            "H": "The cache is made from the films again, whenever it is missing.",
            "I": "The learning rate is a function of the count of updates (E). Saved as well, it could only disagree."}


def _resume() -> Exercise:
    def judge(answer: Any) -> Verdict:
        chosen = set(letters(answer, THINGS, spans=True))
        if not chosen or not chosen <= set(THINGS):
            return wrong(f"Letters from {''.join(THINGS)}, please, such as 'AB'.")
        for letter in sorted(NEEDED - chosen):
            return wrong(f"{letter} is missing, {THINGS[letter]}. {MISSING[letter]}")
        for letter in sorted(chosen - NEEDED):
            return wrong(f"{letter}, {THINGS[letter]}, can be left out. {NEEDLESS[letter]}")
        return right("Everything that the next update depends on and that cannot be computed again, and nothing else. "
                     "`save` writes them under the names net, ema, optimizer, scaler, epoch, update and random.")

    everything = "".join(sorted(NEEDED))
    return Exercise(
        question="Which must be in the file, so that a run in float16 ends as if it had never stopped? Letters, such "
                 "as 'AB'.",
        judge=judge,
        hints=("Which of them could be computed again from the rest, or from the films?",
               "Three can be left out.",
               "At the end of an update the gradients are thrown away; the cache can be made again; the learning rate "
               "follows from the count of updates."),
        solution_value=everything,
        explanation=f"{everything!r}: " + "; ".join(f"{letter} {THINGS[letter]}" for letter in everything) + ".",
        likely_mistakes={f"without {THINGS[letter]}": everything.replace(letter, "") for letter in everything}
        | {f"with {THINGS[letter]}": everything + letter for letter in NEEDLESS} | {"a word": "everything"},
    )
