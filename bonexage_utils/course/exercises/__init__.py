"""The exercises of the notebooks, one module each: `nb00` for notebook 00 and so on.

Every module `nbNN` has one function `build(course) -> types.SimpleNamespace`, whose values are `Exercise`s and
nothing else. The truth is computed from that course's cohort or from the phantom, inside `build` or in the judge,
and never stored. A notebook writes:

    from bonexage_utils.course.exercises import nb00

    ex = nb00.build(course)          # once, near the top
    ex.first.check(...)              # in each exercise cell; ... counts as not attempted

`tests/test_exercises.py` finds the modules by their name and goes through every stub, solution and likely mistake.
"""

from bonexage_utils.course.exercises.base import NOT_ATTEMPTED, Exercise, Verdict, choice, right, wrong

__all__ = ["NOT_ATTEMPTED", "Exercise", "Verdict", "choice", "right", "wrong"]
