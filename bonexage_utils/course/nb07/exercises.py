"""The exercises of notebook 07: the gap between neighbours, the order within a step, shares of micro-batches, a profile
to decide by, and what a run needs to go on."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

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
    """`gap` (three numbers), `order` (a list of words), `shares` (write a function), `profile` and `resume`
    (decisions). None of them depends on the course's films."""
    return SimpleNamespace(gap=_gap(), order=_order(), shares=_shares(), profile=_profile(), resume=_resume())


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
        found = np.asarray([float(value) for value in answer])
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


# --- the order within a step ---

ORDER = ("scale", "backward", "unscale", "clip", "step", "update")
# What goes wrong where the first does not come before the second.
BEFORE = {
    ("scale", "backward"): "Scale before backward: what has become zero on the way back, no factor brings to life.",
    ("backward", "unscale"): "Unscale after backward: before it there are no gradients to divide.",
    ("unscale", "clip"): "Unscale before clip. Else the limit of 5 is held against gradients 65,536 times too long: "
                         "all of them are cut, and what the optimizer gets is next to nothing.",
    ("backward", "clip"): "Clip after backward: before it there are no gradients to cut.",
    ("clip", "step"): "Clip before step: the optimizer uses the gradients as it finds them.",
    ("unscale", "step"): "Unscale before step: weights must not move by scaled gradients.",
    ("step", "update"): "The scaler's update comes last: it looks at whether this step was taken, and chooses the "
                        "scale for the next.",
}


def _order() -> Exercise:
    def judge(answer: Any) -> Verdict:
        if not isinstance(answer, list | tuple) or not all(isinstance(word, str) for word in answer):
            return wrong(f"A list of the six words, please: {list(sorted(ORDER))} in your order.")
        words = [word.strip().lower() for word in answer]
        if sorted(words) != sorted(ORDER):
            missing = [word for word in ORDER if word not in words]
            return wrong(f"Each of the six words once; {'missing: ' + ', '.join(missing) if missing else 'too many'}.")
        for (first, second), message in BEFORE.items():
            if words.index(first) > words.index(second):
                return wrong(message)
        return right("Scale the loss, go backward, bring the gradients back to size, cut them, step, and let the "
                     "scaler look at what happened. So does `Trainer._step`.")

    def moved(first: str, second: str) -> list[str]:
        words = [word for word in ORDER if word != second]
        return [*words[:words.index(first)], second, *words[words.index(first):]]

    return Exercise(
        question="In which order? A list of the six words 'backward', 'clip', 'scale', 'step', 'unscale', 'update'.",
        judge=judge,
        hints=("The loss is scaled so that nothing is lost on the way back. So which two come first?",
               "The limit of 5 is meant for gradients of their true size.",
               "The scaler's own update comes last."),
        solution_value=list(ORDER),
        explanation=" → ".join(ORDER),
        likely_mistakes={
            "clip before unscale": moved("unscale", "clip"),
            "scale too late": moved("scale", "backward"),
            "update too early": moved("step", "update"),
            "step before clip": moved("clip", "step"),
            "unscale before backward": moved("backward", "unscale"),
            "one forgotten": [word for word in ORDER if word != "unscale"],
        },
    )


# --- shares of micro-batches ---

SIZES = ((8, 8), (8, 8, 4), (1, 3, 12, 16))


def film_shares(sizes: list[int]) -> list[float]:
    """The exercise's solution: each micro-batch counts as many films as it has."""
    return [size / sum(sizes) for size in sizes]


def _shares() -> Exercise:
    def judge(answer: Callable[[list[int]], Any]) -> Verdict:
        if not callable(answer):
            return wrong("Give the function itself, without brackets: ex.shares.check(my_shares).")
        found = [np.asarray([float(value) for value in answer(list(sizes))]) for sizes in SIZES]
        for sizes, values in zip(SIZES, found, strict=True):
            if values.shape != (len(sizes),):
                return wrong(f"For {list(sizes)} it should give {len(sizes)} numbers, one for each micro-batch; it "
                             f"gives {values.size}.")
        last, films = found[-1], np.asarray(SIZES[-1], float)
        known = [(np.ones(len(films)), "All ones: the gradients then add up to the sum over micro-batches, several "
                                       "times too long. That is the bug of the forgotten division."),
                 (np.full(len(films), 1 / len(films)),
                  "Right as long as all are of one size. But in [8, 8, 4] a film of the last one would count twice as "
                  "much as one of the first."),
                 (films, "The proportions are right, the size is not: the shares should add up to 1."),
                 (1 / films, "Upside down: a small micro-batch must count less, not more."),
                 (films / films.max(), "The proportions are right, but the shares should add up to 1.")]
        for values, message in known:
            if np.allclose(last, values):
                return wrong(message)
        for sizes, values in zip(SIZES, found, strict=True):
            if not np.allclose(values, film_shares(list(sizes)), rtol=1e-3):
                return wrong(f"For {list(sizes)} it gives {np.round(values, 3).tolist()}, which add up to "
                             f"{values.sum():.3g}. Every *film* should count the same.")
        return right("Every film counts the same, whichever micro-batch it came in, and the shares add up to 1. With "
                     "micro-batches of one size that is 1 over their number, as the package has it.")

    return Exercise(
        question="Write my_shares(sizes): by what is the mean loss of each micro-batch multiplied before its backward?",
        judge=judge,
        hints=("The mean over 20 films is the sum over 20 films, divided by 20. How much of it comes from the first 8?",
               "The mean over 8 films, times 8, is their sum; and then everything is divided by 20.",
               "[size / sum(sizes) for size in sizes]"),
        solution_value=film_shares,
        explanation="return [size / sum(sizes) for size in sizes]",
        likely_mistakes={
            "nothing divided": lambda sizes: [1.0 for _ in sizes],
            "all alike": lambda sizes: [1 / len(sizes) for _ in sizes],
            "the sizes": lambda sizes: list(sizes),
            "upside down": lambda sizes: [1 / size for size in sizes],
            "by the largest": lambda sizes: [size / max(sizes) for size in sizes],
            "one number": lambda sizes: [1 / sum(sizes)],
            "by the first": lambda sizes: [size / (sizes[0] * len(sizes)) for size in sizes],
        },
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
        if isinstance(answer, dict) or not isinstance(answer, str | list | tuple | set | frozenset):
            return wrong("Letters, please, such as 'AB'.")
        letters = {letter for word in answer for letter in str(word).upper() if letter.isalpha()}
        if not letters or not letters <= set(THINGS) or any(len(str(word)) > 1 for word in answer):
            return wrong(f"Letters from {''.join(THINGS)}, please, such as 'AB'.")
        for letter in sorted(NEEDED - letters):
            return wrong(f"{letter} is missing, {THINGS[letter]}. {MISSING[letter]}")
        for letter in sorted(letters - NEEDED):
            return wrong(f"{letter}, {THINGS[letter]}, can be left out. {NEEDLESS[letter]}")
        return right("Everything that the next update depends on and that cannot be computed again, and nothing else. "
                     "The table above has A, B, C and F; E is in the same file as text, and so is D where there is a "
                     "scaler.")

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
