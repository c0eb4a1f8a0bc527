"""The exercises of notebook 10: the memory of a step, a run that is begun again with another setting, a comparison that
may be quoted, and sentences that a run allows."""

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from bonexage_utils.course.exercise import Exercise, Verdict, choice, right, wrong
from bonexage_utils.course.memory import COPIES, GB
from bonexage_utils.course.start import Course
from bonexage_utils.figures import ACCENT, BOYS, Picture, new_figure
from bonexage_utils.settings import TrainConfig

CASES = ((28e6, 300e6, 16), (5e6, 40e6, 64), (100e6, 1.2e9, 4))  # numbers learned, bytes a film keeps, films
ORDER = "BCDA"  # of the panels below: what is wrong, and last the fair one
RUNS = {  # drawn for the exercise: MAE of each seed (months), hours, weights
    "hours": {"ConvNeXt": ([7.1, 7.3, 6.9, 7.2, 7.0], "3 h, ImageNet-1k"),
              "ResNet": ([8.3, 8.0, 8.4, 8.1, 8.2], "1 h, ImageNet-1k")},
    "weights": {"ConvNeXt": ([6.8, 7.0, 6.7, 6.9, 6.9], "2 h, ImageNet-22k"),
                "ResNet": ([7.9, 8.1, 7.8, 8.0, 8.2], "2 h, ImageNet-1k")},
    "one seed": {"ConvNeXt": ([7.0], "2 h, ImageNet-1k"), "ResNet": ([7.6], "2 h, ImageNet-1k")},
    "fair": {"ConvNeXt": ([7.3, 7.9, 7.1, 7.7, 7.4], "2 h, ImageNet-1k"),
             "ResNet": ([7.6, 7.2, 7.8, 7.5, 8.0], "2 h, ImageNet-1k")},
}
SENTENCES = {
    "A": "It reads as well as a radiologist.",
    "B": "On these test films its MAE is such and such, with this 95 % interval.",
    "C": "In other hospitals it is off by as much.",
    "D": "Its 90 % intervals hold nine labels in ten, for girls under five as for everybody.",
    "E": "On these films it is nearer the label than the median by sex, and the two intervals are far apart.",
    "F": "With another backbone it would have been worse.",
}
ALLOWED = {"B", "E"}


def build(course: Course) -> SimpleNamespace:
    """`memory` (write a function), `again`, `fair` and `sentences` (decisions)."""
    return SimpleNamespace(memory=_memory(), again=_again(), fair=_fair(), sentences=_sentences())


# --- the memory of a step ---

def step_memory(parameters: float, kept_per_film: float, films: float) -> float:
    """The exercise's solution, GB: 20 bytes for each number learned, and what each film keeps."""
    return (sum(COPIES.values()) * parameters + kept_per_film * films) / GB


def _memory() -> Exercise:
    def with_bytes(each: float) -> Callable:
        return lambda p, k, n: (each * p + k * n) / GB

    truth = np.array([step_memory(*case) for case in CASES])
    known: dict[str, tuple[Callable, str]] = {
        "weights alone": (with_bytes(4), "Only the weights. In training each of them has a gradient, two moments of "
                          "AdamW and an average beside it."),
        "no optimizer": (with_bytes(8), "Weights and gradients, 8 bytes. AdamW keeps two numbers of its own for each, "
                         "and the course averages the weights."),
        "no gradient": (with_bytes(16), "16 bytes for each number: one of the copies is missing. Weights 4, gradient "
                        "4, two moments 8, average 4."),
        "one moment": (with_bytes(12), "12 bytes for each number. AdamW keeps two moments, not one, and the averaged "
                       "weights are a copy as well."),
        "copies not in bytes": (with_bytes(5), "Five copies, that is right. But each number has four bytes."),
        "per film": (lambda p, k, n: n * (20 * p + k) / GB, "There is one set of weights, however many films go "
                     "through it. Only what a film keeps counts for each film."),
        "one film": (lambda p, k, n: (20 * p + k) / GB, "That is for one film. What a film keeps counts for each of "
                     "them."),
        "films alone": (lambda p, k, n: k * n / GB, "That is what the films keep. The weights and their copies are "
                        "missing."),
        "in bytes": (lambda p, k, n: 20 * p + k * n, "That is in bytes. Divide by 10⁹."),
        "in GiB": (lambda p, k, n: (20 * p + k * n) / 2**30, "That is in GiB, of 2³⁰ bytes. Asked are GB, of 10⁹; "
                   "both are in use, and 7 % apart."),
    }

    def judge(answer: Callable[..., Any]) -> Verdict:
        if not callable(answer):
            return wrong("Give the function itself, without brackets: ex.memory.check(my_memory).")
        found = np.array([float(answer(*case)) for case in CASES])
        for value, message in known.values():
            if np.allclose(found, [value(*case) for case in CASES], rtol=1e-3):
                return wrong(message)
        if not np.allclose(found, truth, rtol=1e-3):
            if np.allclose(found, truth, atol=0.06):
                return wrong("Nearly: give the number as it is, not rounded.")
            return wrong(f"For {CASES[0][0] / 1e6:.0f} million numbers, {CASES[0][1] / 1e6:.0f} MB a film and "
                         f"{CASES[0][2]} films it gives {found[0]:.3g}; by hand it is {truth[0]:.2f} GB.")
        share = sum(COPIES.values()) * CASES[0][0] / GB / truth[0]
        return right(f"{truth[0]:.1f} GB for the first case, and only {share:.0%} of that is the network. What a step "
                     "needs is mostly what the films keep: halve the films, and it is almost halved.")

    return Exercise(
        question="Write my_memory(parameters, kept_per_film, films): GB (10⁹ bytes) for a training step with float32 "
                 "weights, AdamW and averaged weights; kept_per_film is in bytes.",
        judge=judge,
        hints=("How many float32 numbers are there in memory for each number the network learns? Count the list above.",
               "Weight, gradient, two moments, average: five, of four bytes each.",
               "(20 * parameters + kept_per_film * films) / 1e9"),
        solution_value=step_memory,
        explanation="Five float32 numbers for each one learned, 20 bytes, and what each film keeps.",
        code="""
def my_memory(parameters, kept_per_film, films):
    return (20 * parameters + kept_per_film * films) / 1e9
""",
        likely_mistakes={name: function for name, (function, _) in known.items()}
        | {"minus": lambda p, k, n: (20 * p - k * n) / GB},
    )


# --- decisions ---

def _again() -> Exercise:
    fixed = "lr" in TrainConfig().fixed()  # the truth is the package's
    refuses = ("That is this program's policy: one run, one recipe, the one that config.json and the card name. Other "
               "programs go on with the new rate and write down from when; that is honest, too. What none may do is "
               "to change the recipe and tell nobody.")
    options = {
        "refuses": refuses,
        "goes on with the new rate": "Many programs do, and where they log it, it is honest. This one does not: its "
                                     "config.json and its card name one recipe for a run.",
        "goes on with the old rate": "Then what was typed would silently not hold. A setting that is ignored is worse "
                                     "than one that is refused.",
        "starts over": "Then a slip of the finger would cost a night's training. Nothing that was trained is thrown "
                       "away unasked.",
    }
    return Exercise(
        question="A run with --lr 2e-4 was stopped at epoch 12. A colleague types the same line with --lr 1e-4 and "
                 f"--resume. What does `bonexage train` do? {', '.join(repr(name) for name in options)}?",
        judge=choice(options, "refuses" if fixed else "goes on with the new rate", {"refuse": "refuses"}),
        hints=("config.json and the model card name one recipe for a run. Which answers fit that?",
               "Which of these leaves every file true as it is written, and loses nothing?"),
        solution_value="refuses" if fixed else "goes on with the new rate",
        explanation="'refuses': 'begun with other settings (lr); resume with the same, or train into another folder'.",
        likely_mistakes={"convenient": "goes on with the new rate", "silent": "goes on with the old rate",
                         "from the beginning": "starts over", "a number": 12},
    )


def draw_four_comparisons() -> Picture:
    """Four comparisons of two backbones, A to D: a point for each seed, and under each name its hours and weights."""
    figure, axes = new_figure(10, 3.6, 1, 4, sharey=True)
    parts = []
    panels = dict(zip(ORDER, RUNS.values(), strict=True))
    for ax, letter in zip(axes, sorted(panels), strict=True):
        runs = []
        for place, (name, (maes, how)) in enumerate(panels[letter].items()):
            ax.plot(place + np.linspace(-0.12, 0.12, len(maes)), maes, "o" if place else "s", markersize=6,
                    color=ACCENT if place else BOYS)
            runs.append(f"{name} ({how}) {', '.join(f'{mae:.1f}' for mae in maes)}")
        ax.set_xticks((0, 1), [f"{name}\n" + how.replace(", ", "\n") for name, (_, how) in panels[letter].items()],
                      fontsize=8)
        ax.set(title=letter, xlim=(-0.5, 1.5), ylim=(6, 9))
        parts.append(f"{letter}: {'; '.join(runs)}")
    axes[0].set_ylabel("MAE on the same films (months)")
    return Picture(figure, f"""Four panels of invented numbers, each with a point for each seed of two backbones, and
        under each name the hours of training and the starting weights. {'. '.join(parts)}.""")


def _fair() -> Exercise:
    letters = dict(zip(RUNS, ORDER, strict=True))
    options = {
        letters["hours"]: "A clear gap over five seeds, but one was trained three times as long. Perhaps the ResNet, "
                          "too, gets better in three hours. Read the first line under the names.",
        letters["weights"]: "The same time and a clear gap. But the ConvNeXt began with weights from a collection "
                            "of photographs more than ten times as large. Is it the backbone, or where it came from? "
                            "Read the last line under the names.",
        letters["one seed"]: "Time and weights agree. But there is one point each. In the other panels the points of "
                             "*one* backbone differ by about as much as these two.",
        letters["fair"]: "The same hours, weights from the same collection, five seeds each, the same films. What it "
                         "says is less exciting: no difference that these runs can show. It is the only one that says "
                         "something about backbones.",
    }
    return Exercise(
        question="Which of the four may be quoted as a comparison of two backbones, whatever it says? 'A', 'B', 'C' or "
                 "'D'?",
        judge=choice({letter: options[letter] for letter in sorted(options)}, letters["fair"]),
        hints=("Do not look for the largest gap. Read the two lines under each name first.",
               "Same hours? Same weights? More than one point?"),
        solution_value=letters["fair"],
        explanation=f"{letters['fair']!r}: the only one with the same time, the same pretraining and several seeds.",
        likely_mistakes={name: letter for name, letter in letters.items() if name != "fair"} | {"a number": 3},
    )


def _sentences() -> Exercise:
    why_not = {
        "A": "A: no radiologist read these films. The label is one reader's, and being near a label is not reading as "
             "well as its author.",
        "C": "C: at most one other place was measured, and a place that nobody measured is unknown.",
        "D": "D: nine in ten was promised, and checked, over all films together. Girls under five are few here: their "
             "row of the table is a dash or very wide.",
        "F": "F: in this run there was one backbone. What was not run cannot have been worse.",
    }
    missed = {
        "B": "B is missing: a number with its films and its interval is exactly what was measured.",
        "E": "E is missing: both errors are in the report, of the same films, with intervals that do not come near "
             "each other.",
    }

    def judge(answer: Any) -> Verdict:
        parts = answer if isinstance(answer, list | tuple | set | str) else ()
        text = re.sub(r"\bAND\b", " ", " ".join(map(str, parts if not isinstance(parts, str) else [parts])).upper())
        letters = re.findall(r"\w", text)  # "B and E" and ["BE"] as well
        if not letters or not set(letters) <= set(SENTENCES):
            return wrong("Give the letters of the sentences, such as 'AC'.")
        too_many, absent = sorted(set(letters) - ALLOWED), sorted(ALLOWED - set(letters))
        if too_many:
            return wrong(why_not[too_many[0]] + (f" (And {len(too_many) - 1} more of yours.)" if too_many[1:] else ""))
        if absent:
            return wrong(missed[absent[0]])
        return right("B and E: numbers with their films and intervals. The other four are what such a report is "
                     "usually read as, and what you will be asked for.")

    return Exercise(
        question="Which of the sentences may stand in your report? Give their letters, such as 'AC'.",
        judge=judge,
        hints=("For each sentence: which file of the report would you open to show it?",
               "Nobody else read the films, one backbone was trained, small groups have no number."),
        solution_value="BE",
        explanation="'BE'. A needs readers, C other hospitals, D more films of that group, F another run.",
        likely_mistakes={"as a radiologist": "ABE", "elsewhere": "BCE", "small groups": "BDE", "other backbones": "BEF",
                         "forgot the error": "E", "forgot the median": "B", "all": "ABCDEF", "no letters": "XYZ"},
    )
