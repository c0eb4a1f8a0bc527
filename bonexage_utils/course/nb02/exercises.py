"""The exercises of notebook 02: from the square back to the film, changes, a shared transform, two numbers."""

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from bonexage_utils.cohort import Cohort
from bonexage_utils.course.answers import letters, numbers
from bonexage_utils.course.exercise import Exercise, Verdict, choice, listed, right, wrong
from bonexage_utils.course.nb02.pixels import BLUR_MM, CHANGES, six_changes, stand_ins
from bonexage_utils.course.start import Course
from bonexage_utils.decoding import read_gray
from bonexage_utils.images import letterbox

FILMS, SIDE = 200, 64  # films and px of the exercise on mean and standard deviation
DESTROY = frozenset("CF")  # of the six changes
Shape = tuple[int, int]
Point = tuple[float, float]


def build(course: Course) -> SimpleNamespace:
    """`back` (write a function), `keeps` (a decision from a figure), `looks` (write a test), `shared` (a decision by
    experiment), `numbers` (two numbers from the cohort)."""
    return SimpleNamespace(back=_back(), keeps=_keeps(), looks=_looks(), shared=_shared(),
                           numbers=_numbers(course.cohort))


# --- from the square back to the film ---

def film_place(row: float, column: float, shape: Shape, size: int) -> Point:
    """The exercise's solution: (row, column) in the square of `size` px to (row, column) on the film of `shape`."""
    height, width = shape
    scale = size / max(height, width)
    top, left = (size - height * scale) / 2, (size - width * scale) / 2
    return (row - top) / scale, (column - left) / scale


def _each(undo: Callable[[float, float, float], float]) -> Callable[..., Point]:
    """A way back with one rule for row and column: `undo` takes the position, the scale and the width of the bar."""

    def place(row: float, column: float, shape: Shape, size: int) -> Point:
        scale = size / max(shape)
        return tuple(undo(value, scale, (size - side * scale) / 2)
                     for value, side in zip((row, column), shape, strict=True))

    return place


def _upright_only(row: float, column: float, shape: Shape, size: int) -> Point:
    scale = size / shape[0]
    return row / scale, (column - (size - shape[1] * scale) / 2) / scale


BACK_MISTAKES = {
    "squashed": (lambda row, column, shape, size: (row * shape[0] / size, column * shape[1] / size),
                 "You go back as if the film had been squashed: one scale for rows and another for columns. A "
                 "letterbox has one scale, and black bars."),
    "no bars": (_each(lambda value, scale, bar: value / scale),
                "The scale is right, but the film does not begin at the edge of the square: take the black bar off "
                "first."),
    "bars after the scale": (_each(lambda value, scale, bar: value / scale - bar),
                             "You take the bar off after going back to the film's pixels, but its width is in pixels "
                             "of the square. First subtract, then divide."),
    "bars added": (_each(lambda value, scale, bar: (value + bar) / scale),
                   "You add the bar. On the way to the square it was added; on the way back it comes off."),
    "the other way": (_each(lambda value, scale, bar: value * scale + bar),
                      "That is the way *to* the square. Asked is the way back: undo the steps in the opposite order."),
    "swapped": (lambda *case: film_place(*case)[::-1],
                "Row and column have changed places. In an array the row, downwards, comes first."),
    "upright films only": (_upright_only,
                           "Right for an upright film. On one that lies across, the *width* sets the scale: it is "
                           "size / max(height, width)."),
}


def _back() -> Exercise:
    cases = [(30, 128, (800, 600), 256), (100, 60, (800, 600), 256), (90, 20, (400, 1000), 200), (7, 40, (90, 60), 64)]

    def same(answer: Callable[..., Point], other: Callable[..., Point]) -> bool:
        # An error of one pixel of the square is none: bars are whole pixels, and a place is a corner or a middle.
        return all(np.allclose(answer(*case), other(*case), atol=max(case[2]) / case[3]) for case in cases)

    def judge(answer: Callable[..., Point]) -> Verdict:
        def placed(*case: Any) -> np.ndarray:
            return numbers(answer(*case), ("row", "column"))

        if placed(*cases[0]).shape != (2,):
            return wrong("Two numbers are asked, the row and the column: return row, column.")
        if same(placed, film_place):
            return right("So a bright spot in the square can be shown to a doctor on the film; with the bars "
                         "forgotten, it would point beside the bone.")
        for mistake, message in BACK_MISTAKES.values():
            if same(placed, mistake):
                return wrong(message)
        row, column, shape, size = cases[1]
        given, truth = placed(row, column, shape, size), film_place(row, column, shape, size)
        return wrong(f"For row {row}, column {column} in a square of {size} and a film of {shape} it gives "
                     f"({given[0]:.0f}, {given[1]:.0f}); by hand it is ({truth[0]:.0f}, {truth[1]:.0f}).")

    return Exercise(
        question="Write my_place(row, column, shape, size): where on the film, as (row, column), lies that pixel of "
                 "the square? shape is the film's (height, width), size the square's side.",
        judge=judge,
        hints=("The way there: times scale, plus the bar. Go back in the opposite order.",
               "scale = size / max(height, width), one for both directions.",
               "The bar above is (size - height * scale) / 2 pixels of the square; that on the left, with the width."),
        solution_value=film_place,
        explanation="On the way to the square: times the scale, plus the bar. On the way back: minus the bar, divided "
                    "by the scale.",
        code="""
def my_place(row, column, shape, size):
    scale = size / max(shape)
    top, left = (size - shape[0] * scale) / 2, (size - shape[1] * scale) / 2
    return (row - top) / scale, (column - left) / scale
""",
        likely_mistakes={name: mistake for name, (mistake, _) in BACK_MISTAKES.items()}
        | {"one number": lambda row, column, shape, size: row, "a film's corner": lambda *_: (0.0, 0.0)},
    )


# --- what keeps the label ---

def _keeps() -> Exercise:
    _, visible, gap = six_changes()
    harmless = {
        "A": "a hand lies a little differently on every film. The bones are the same, and so is the label.",
        "B": "it is what the child's other hand looks like, and its bone age is practically the same. Whether a mirror "
             "is worth while is another question; few films lie so.",
        "D": "it is another exposure. Brightness comes from the machine, not from the child.",
        "E": "turn your head: every bone is there. Whether it is worth a network's effort is another question.",
    }

    def judge(answer: Any) -> Verdict:
        given = frozenset(letters(answer, CHANGES))
        if not given or not given <= set(CHANGES):
            return wrong(f"Answer with letters, such as 'AB': those of {', '.join(CHANGES)} that destroy the label.")
        if given == DESTROY:
            return right(f"C has {visible:.0%} of the ossification centres left, and the fingertips and wrist are "
                         f"gone. In F a blur of {BLUR_MM:g} mm has closed growth gaps of at most {gap:.1f} mm: the "
                         "film looks older, its label does not know. Trained on such films, a network learns wrong "
                         "answers.")
        if given == set(CHANGES) - DESTROY:
            return wrong("These are the four that *keep* the label. Asked are the others.")
        extra = sorted(given - DESTROY)
        if extra:
            return wrong(f"Not {extra[0]}: {harmless[extra[0]]} Ask of each: would a reader still say the same age?")
        if "C" in given:
            return wrong(f"C, yes. One more: look for the dark growth gaps, {gap:.1f} mm at most. On which film would "
                         "a reader believe that they had closed?")
        return wrong("F, yes. One more: count the bones. On which film is much of what a reader needs no longer there?")

    return Exercise(
        question="Which of the six changes destroy the label? Their letters, such as 'AB'.",
        judge=judge,
        hints=("A change keeps the label if a reader who sees only the changed film would still say the same age.",
               "Readers look at the wrist, at the fingertips, and at the growth gaps.", "There are two."),
        solution_value="".join(sorted(DESTROY)),
        explanation="In C there is nothing left to read the age from; in F it reads as another one.",
        likely_mistakes={"the mirror too": "BCF", "the quarter turn too": "CEF", "brightness too": "CDF",
                         "the tilt too": "ACF", "only the zoom": "C", "only the blur": "F",
                         "those that keep it": "ABDE", "not a letter": "X"},
    )


# --- a transform that is shared ---

def changes_between_looks(part: Any) -> bool:
    """The exercise's solution: whether any film differs when it is read several times."""
    return any(not torch.equal(part[row], part[row]) for row in range(len(part)) for _ in range(5))


def _looks() -> Exercise:
    def judge(answer: Callable[[Any], bool]) -> Verdict:
        sets = stand_ins()
        raw = {name: answer(part) for name, (part, _) in sets.items()}
        if any(torch.as_tensor(value).ndim for value in raw.values()):
            return wrong("One answer is asked for the whole set, True or False; yours has one for each pixel or film.")
        given = {name: bool(value) for name, value in raw.items()}
        if given == {name: truth for name, (_, truth) in sets.items()}:
            return right("It asks the films and not the code, looks at the same film twice, and at more than one. Put "
                         "it in your tests: this bug raises no error, ever.")
        if given["still"] and not given["brighter"]:
            return wrong("The wrong way round: True if the films *change*.")
        if given == {name: part.transform is not None for name, (part, _) in sets.items()}:
            return wrong("You ask the code what it means to do. One set here has a transform that does nothing, and "
                         "one changes its films without having any. Ask the films: draw one twice.")
        if all(given.values()):
            return wrong("It says True of a set whose films never change. Are you comparing two *different* films? Or "
                         "whether two tensors are the same object (`is`), which they never are?")
        if not any(given.values()):
            return wrong("It says False of a set whose films are brighter at every look. Draw the same row twice, and "
                         "compare all pixels.")
        if not given["mirrored"]:
            return wrong("It misses a set whose films are mirrored at every second look. The mean of a film does not "
                         "notice that, nor do its sorted pixels: compare pixel by pixel, torch.equal(a, b).")
        if not given["rare"]:
            return wrong("It misses a set of which only every third film changes. One film is no evidence: look at "
                         "all of them, or at many.")
        names = ", ".join(name for name, (_, truth) in sets.items() if given[name] != truth)
        return wrong(f"It is wrong about {names}. Draw each film twice, and compare all pixels.")

    return Exercise(
        question="Write my_test(part): True if films of `part` change from one look to the next. len(part) is how "
                 "many there are, part[0] the first, a tensor (1, H, W).",
        judge=judge,
        hints=("part[0] twice: two looks at one film.", "torch.equal(a, b) is True if all pixels agree.",
               "any(... for row in range(len(part))): it is enough if one of the films changes."),
        solution_value=changes_between_looks,
        explanation="Each film is drawn twice and compared with itself, pixel by pixel; one that differs is enough.",
        code="""
def my_test(part):
    looks = [(part[row], part[row]) for row in range(len(part))]
    return any(not torch.equal(first, second) for first, second in looks)
""",
        likely_mistakes={
            "asks the code": lambda part: part.dataset.transform is not None,
            "two different films": lambda part: not torch.equal(part[0], part[1]),
            "one film": lambda part: not torch.equal(part[0], part[0]),
            "the mean": lambda part: any(part[row].mean() != part[row].mean() for row in range(len(part))),
            "the wrong way round": lambda part: not changes_between_looks(part),
            "one answer a pixel": lambda part: part[0] != part[0],
            "always still": lambda part: False,
        },
    )


def _shared() -> Exercise:
    options = {
        "on and off": "That is what the two lines *say*, and what the colleague believes. Do the experiment: draw a "
                      "film of each part twice, and compare.",
        "off and off": "random_split makes no copies. Both parts hold the *same* set of films, with one transform, and "
                       "the last line has switched it off for both. Nothing complains. Give each split a set of its "
                       "own; or, as the package does, give the films no transform at all and augment in the training "
                       "loop.",
        "on and on": "So it would be with the two lines in the other order: the last one to speak wins. It happens as "
                     "well, and then the ruler trembles: each epoch measures other films.",
        "off and on": "It cannot be: both parts hold the same set of films, so whatever is true of one is true of the "
                      "other.",
    }
    named = {"True": "on", "False": "off"}
    return Exercise(
        question="Is the augmentation on or off, for the training part and for the selection part? "
                 f"{listed(options)}?",
        judge=choice(options, "off and off", {
            **{name: f"{a} and {b}" for a in ("on", "off") for b in ("on", "off")
               for name in (f"training {a}, selection {b}", f"{a} training, {b} selection")},
            **{name: f"{a} and {a}" for a in ("on", "off") for name in (f"both {a}", f"both parts {a}", f"{a} both",
                                                                f"{a} on both")},
            **{f"{a} and {b}": f"{named[a]} and {named[b]}" for a in named for b in named},
            "neither on": "off and off", "neither off": "on and on"}),
        hints=("Draw training_part[0] twice and compare. Then selection_part[0].",
               "training_part.dataset is selection_part.dataset: what does Python say?"),
        solution_value="off and off",
        explanation="The two parts share one set of films, and so one transform; the last line wins.",
        likely_mistakes={option: option for option in options if option != "off and off"},
    )


# --- two numbers for the network ---

def _numbers(cohort: Cohort) -> Exercise:
    def squares(split: str, most: int) -> np.ndarray:
        paths = cohort.split(split)["image"].head(most)
        return np.stack([letterbox(read_gray(path), SIDE) for path in paths]).astype(np.float64)

    films, other = squares("train", FILMS), squares("selection", FILMS // 4)
    unit, both = films / 255, np.concatenate([films, other]) / 255
    truth = (unit.mean(), unit.std())
    others = {
        "bytes": ((films.mean(), films.std()), "These are of the bytes, 0 to 255. The network gets films on the 0–1 "
                                               "scale: divide by 255 first."),
        "variance": ((unit.mean(), unit.var()), "The mean is right; the second number is the variance. Its square "
                                                "root is asked."),
        "each film's own": ((unit.mean(), unit.std((1, 2)).mean()),
                            "You took the standard deviation of each film and averaged. That leaves out how much the "
                            "films differ from *one another*; take it over all pixels of all films at once."),
        "swapped": (truth[::-1], "The mean comes first, then the standard deviation."),
        "with the selection films": ((both.mean(), both.std()),
                                     "The selection films are among them. They are there to judge by, and nothing "
                                     "that the network depends on may come from them: training films only."),
        "of ImageNet, red": ((0.485, 0.229),
                             "0.485 and 0.229 are ImageNet's, of the *red* channel of photographs. They go with "
                             "weights trained on those; a network that starts anew wants those of its own grey films."),
        "of ImageNet": ((0.449, 0.226), "These are of ImageNet's photographs of dogs and cars. They go with weights "
                                        "trained on them; a network that starts anew wants those of its own films."),
    }
    distinct = {name: pair for name, pair in others.items() if not np.allclose(pair[0], truth, atol=2e-4)}

    def judge(answer: Iterable[float]) -> Verdict:
        given = numbers(answer, ("mean", "std"))
        if given.shape != (2,):
            return wrong("Two numbers are asked: (mean, std).")
        if not np.isfinite(given).all():
            return wrong("A mean and a standard deviation are finite numbers.")
        if any(np.allclose(given, np.round(truth, digits), rtol=0, atol=1e-9) for digits in (2, 3, 4)):
            given = np.array(truth)  # rounding is no mistake
        known = {"": truth} | {name: pair for name, (pair, _) in distinct.items()}
        closest = min(known, key=lambda name: float(np.abs(given - known[name]).max()))
        if np.abs(given - known[closest]).max() > 0.01 * max(1.0, abs(known[closest][0])):
            return wrong("Not these. Stack the films, divide by 255, then one mean and one standard deviation over "
                         "all pixels.")
        if closest:
            return wrong(distinct[closest][1])
        return right(f"Mean {truth[0]:.3f}, standard deviation {truth[1]:.3f}. They are part of the network from now "
                     "on: the package writes them into its checkpoint, and no film is read with any others.")

    return Exercise(
        question=f"The mean and the standard deviation of the first {FILMS} training films, letterboxed to {SIDE} px, "
                 "on the 0–1 scale: (mean, std).",
        judge=judge,
        hints=("from_train / 255 brings the films to the 0–1 scale.", "(a.mean(), a.std()): over everything in `a`."),
        solution_value=truth,
        explanation=f"({truth[0]:.3f}, {truth[1]:.3f}): over all pixels of all the training films at once.",
        code="((from_train / 255).mean(), (from_train / 255).std())",
        likely_mistakes={**{name: pair for name, (pair, _) in distinct.items()}, "one number": (0.5,),
                         "something else": (7.0, 3.0)},
    )
