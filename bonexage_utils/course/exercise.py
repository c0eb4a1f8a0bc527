"""Exercises: a check that tells an empty answer from a wrong one, hints one at a time, and a solution to paste.

Each notebook's are in `nbNN/exercises.py`. Its function `build(course)` returns a `types.SimpleNamespace` of
`Exercise`s and nothing else. The truth is computed from that course's cohort or from the phantom, inside `build` or in
the judge, and never stored. A notebook writes:

    from bonexage_utils.course.exercise import answered
    from bonexage_utils.course.nb00 import exercises

    ex = exercises.build(course)     # once, near the top
    my_first = ...                   # a stub; that of a function is `def my_share(months, step): ...`
    ex.first.check(my_first)         # in each exercise cell
    answered(ex)                     # at the end: what is done, what is open

A judge reads what a learner wrote with `choice` or with the functions of `answers`, so that what is right in sense is
right. `tests/course/test_exercises.py` pastes every solution and every likely mistake into the notebook's own cell.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from inspect import isroutine
from pprint import pformat
from types import SimpleNamespace
from typing import Any

import numpy as np

from bonexage_utils.course.answers import Choice, Unreadable

NOT_ATTEMPTED = ...  # what a stub holds until the learner replaces it


@dataclass(frozen=True)
class Verdict:
    """The result of a judge: whether the answer is right, and one or two sentences why or why not."""

    right: bool
    message: str


def right(message: str) -> Verdict:
    return Verdict(True, message)


def wrong(message: str) -> Verdict:
    return Verdict(False, message)


# --- a choice ---

def listed(options: Iterable[str], last: str = "or") -> str:
    """Answers to choose from, in a fixed order that does not give the truth away: 'A', 'B' or 'C'."""
    *others, final = [repr(option) for option in sorted(options, key=_by_number)]
    return f"{', '.join(others)} {last} {final}" if others else final


def _by_number(text: str) -> tuple[float, str]:
    """Sorts "2 to 4" before "10 to 15", and what has no number by the alphabet."""
    found = re.match(r"\d+", text)
    return (float(found[0]) if found else np.inf, text.lower())


def choice(options: Mapping[str, str], truth: str, synonyms: Mapping[str, str] | None = None
           ) -> Callable[[Any], Verdict]:
    """A judge of one answer among several texts, in whatever case: "6-8 years" is "6 to 8", "run C" is "C", 3 is "3".

    `options` maps each answer to the message it gets, `synonyms` other names to the answer they stand for.
    """
    names = Choice({**{option: option for option in options}, **(synonyms or {})}, options)

    def judge(answer: Any) -> Verdict:
        chosen = names.meant(answer)
        if len(chosen) != 1:
            return wrong(f"Choose one: {listed(options)}.")
        (option,) = chosen
        return (right if option == truth else wrong)(options[option])

    return judge


# --- an exercise ---

def _stub(): ...


def _stub_with_docstring():
    """What an exercise asks for."""


def _is_stub(answer: Any) -> bool:
    """Whether this is still what stood in the cell: ..., nothing, or a function without a body."""
    code = getattr(answer, "__code__", None)
    if code:
        empty = {_stub.__code__.co_code, _stub_with_docstring.__code__.co_code}
        return code.co_code in empty and code.co_consts[-1] is None  # `return 1` differs in its constant alone
    return answer is NOT_ATTEMPTED or answer is None


class _Watched:
    """A learner's function that remembers whether a call failed, gave nothing back or changed what it was given."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.calls, self.nothing, self.failed, self.changed = function, 0, 0, False, False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        before = [_contents(arg) for arg in args]
        self.failed = True  # unless it comes to the end
        result = self.function(*args, **kwargs)
        self.failed = False
        self.calls += 1
        self.nothing += result is None or result is NOT_ATTEMPTED
        self.changed |= before != [_contents(arg) for arg in args]
        if isroutine(result):
            raise Unreadable("This is a function, not what it gives: the brackets () are missing")
        return result


def _contents(value: Any) -> bytes | None:
    """What an array, a tensor or a column holds; None for anything else."""
    if not hasattr(value, "shape"):
        return None
    return np.asarray(value.detach() if hasattr(value, "detach") else value).tobytes()


@dataclass(frozen=True)
class Exercise:
    """One exercise of a notebook.

    `judge` takes the learner's answer (a value, or a function where `solution_value` is one) and returns a Verdict; it
    computes the truth from the cohort at hand, never from a stored number. `solution_value` is an answer that passes.
    `code` is what `.solution()` prints to be pasted in place of the stub: for a function its whole `def`; for a value
    it is the value itself unless something better is given. `explanation` is the reason, printed below.
    `likely_mistakes` maps a name to a wrong answer that must get a message of its own; the tests try all of them. A
    wrong answer never raises an error: the cells that follow still run.
    """

    question: str
    judge: Callable[[Any], Verdict]
    hints: tuple[str, ...]
    solution_value: Any
    explanation: str
    likely_mistakes: dict[str, Any] = field(default_factory=dict)
    code: str = ""
    _answers: list[bool] = field(default_factory=list, init=False, repr=False, compare=False)

    def verdict(self, answer: Any) -> Verdict | None:
        """None for an answer not attempted; a wrong one of an unexpected kind is wrong, not an error."""
        if _is_stub(answer):
            return None
        if not callable(self.solution_value):
            if isinstance(answer, float) and np.isnan(answer):
                return wrong(f"That is NaN: somewhere a missing value went in. {self.question}")
            return self._judged(answer)
        if not callable(answer):
            return wrong("Give the function itself, without brackets.")
        function = _Watched(answer)
        found = self._judged(function)
        if function.nothing and not found.right and "return" in self.pasted:
            if function.nothing < function.calls:
                return wrong("For some inputs your function gives nothing back: one way through it has no return.")
            return wrong("Your function gives nothing back. Is the return missing?")
        if function.changed and found.right:
            return wrong("The result is right, but your function changes what it is given, and whoever calls it still "
                         "needs that. Make a new array, or work on a copy.")
        return found

    def _judged(self, answer: Any) -> Verdict:
        try:
            return self.judge(answer)
        except Exception as error:  # a learner's function may do anything
            if isinstance(error, TypeError) and "axis" in str(error):  # what np.mean makes of a tensor
                return wrong("These are torch tensors: write x.mean() and x.log(), not np.mean(x) and np.log(x).")
            if isinstance(answer, _Watched) and answer.failed:
                return wrong(f"Your function stopped with {type(error).__name__}: {error}. Try it alone in a cell.")
            said = f"{error}." if isinstance(error, Unreadable) else ""
            if isinstance(answer, _Watched):
                return wrong(f"What your function gives back is not what is asked for. {said or self.question}")
            return wrong(f"{said or 'That is not the kind of answer asked for.'} {self.question}")

    def check(self, answer: Any = NOT_ATTEMPTED) -> None:
        """Print whether the answer is right, and why not if it is not."""
        verdict = self.verdict(answer)
        if verdict is None:
            print("○ Not attempted yet: replace the ... with your answer and run the cell again.")
        else:
            self._answers.append(verdict.right)
            print(("✔ Right. " if verdict.right else "✘ Not yet. ") + verdict.message)

    def hint(self, number: int = 1) -> None:
        """Print the first hint, or a later one: hint(2)."""
        number = min(max(number, 1), len(self.hints))
        more = f" (hint {number} of {len(self.hints)})" if len(self.hints) > 1 else ""
        print(f"Hint: {self.hints[number - 1]}{more}")

    def solution(self) -> None:
        """Print code to paste in place of the stub, then the reason."""
        place = "the def ..." if callable(self.solution_value) else "the ..."
        print(f"Solution, in place of {place}\n\n{self.pasted}\n\nWhy: {self.explanation}")

    @property
    def pasted(self) -> str:
        """The code that `.solution()` prints."""
        return self.code.strip() or pformat(self.solution_value, compact=True)

    def __repr__(self) -> str:
        return f"Exercise: {self.question}  → .check(answer), .hint(), .solution()"


def answered(exercises: SimpleNamespace) -> None:
    """Print which exercises are done, which were tried, and which are open."""
    done = {name: exercise._answers[-1:] for name, exercise in vars(exercises).items()}
    for name, last in done.items():
        print(f"{'✔ done   ' if last == [True] else '✘ not yet' if last else '○ open   '} ex.{name}")
    print(f"{sum(last == [True] for last in done.values())} of {len(done)} done.")
