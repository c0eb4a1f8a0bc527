"""Exercises: a check that tells an empty answer from a wrong one, hints one at a time, and a solution.

Each notebook's are in `nbNN/exercises.py`. Its function `build(course)` returns a `types.SimpleNamespace` of
`Exercise`s and nothing else. The truth is computed from that course's cohort or from the phantom, inside `build` or in
the judge, and never stored. A notebook writes:

    from bonexage_utils.course.nb00 import exercises

    ex = exercises.build(course)     # once, near the top
    ex.first.check(...)              # in each exercise cell; ... counts as not attempted

`tests/course/test_exercises.py` goes through every stub, solution and likely mistake.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

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


def choice(options: Mapping[str, str], truth: str, synonyms: Mapping[str, str] | None = None
           ) -> Callable[[Any], Verdict]:
    """A judge of one answer among several texts, written in whatever case; "6-8" is "6 to 8".

    `options` maps each answer to the message it gets, `synonyms` other names (lower case) to the answer they stand for.
    """

    def normalised(text: str) -> str:
        text = re.sub(r"(?<=\d)\s*[-–]\s*(?=\d)", " to ", text)
        return " ".join(text.lower().split())

    known = {normalised(option): option for option in options} | dict(synonyms or {})

    def judge(answer: Any) -> Verdict:
        chosen = known.get(normalised(answer)) if isinstance(answer, str) else None
        if chosen is None:
            return wrong(f"Choose one of: {', '.join(repr(option) for option in options)}.")
        return (right if chosen == truth else wrong)(options[chosen])

    return judge


@dataclass(frozen=True)
class Exercise:
    """One exercise of a notebook.

    `judge` takes the learner's answer (a value or a function) and returns a Verdict; it computes the truth from the
    cohort at hand, never from a stored number. `solution` is an answer that passes, `explanation` what
    `.solution()` prints. `likely_mistakes` maps a name to a wrong answer that must get a message of its own; the
    tests try all of them. A wrong answer never raises an error: the cells that follow still run.
    """

    question: str
    judge: Callable[[Any], Verdict]
    hints: tuple[str, ...]
    solution_value: Any
    explanation: str
    likely_mistakes: dict[str, Any] = field(default_factory=dict)

    def verdict(self, answer: Any) -> Verdict | None:
        """None for an answer not attempted; a wrong one of an unexpected kind is wrong, not an error."""
        if answer is NOT_ATTEMPTED or answer is None:
            return None
        try:
            return self.judge(answer)
        except Exception as error:  # a learner's function may do anything
            if isinstance(error, TypeError) and "axis" in str(error):  # what np.mean makes of a tensor
                return wrong("These are torch tensors: write x.mean() and x.log(), not np.mean(x) and np.log(x).")
            if callable(answer):
                return wrong(f"Your function stopped with {type(error).__name__}: {error}. Try it alone in a cell.")
            return wrong(f"That is not the kind of answer asked for. {self.question}")

    def check(self, answer: Any = NOT_ATTEMPTED) -> None:
        """Print whether the answer is right, and why not if it is not."""
        verdict = self.verdict(answer)
        if verdict is None:
            print("○ Not attempted yet: replace the ... with your answer and run the cell again.")
        else:
            print(("✔ Right. " if verdict.right else "✘ Not yet. ") + verdict.message)

    def hint(self, number: int = 1) -> None:
        """Print the first hint, or a later one: hint(2)."""
        number = min(max(number, 1), len(self.hints))
        more = f" (hint {number} of {len(self.hints)})" if len(self.hints) > 1 else ""
        print(f"Hint: {self.hints[number - 1]}{more}")

    def solution(self) -> None:
        """Print the solution and why it is right."""
        print(f"Solution: {self.explanation}")

    def __repr__(self) -> str:
        return f"Exercise: {self.question}  → .check(answer), .hint(), .solution()"
