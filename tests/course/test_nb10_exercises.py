"""Notebook 10's exercises, beyond what every exercise has to do."""

import pytest

from bonexage_utils.course.exercise import Exercise
from bonexage_utils.course.nb10 import exercises as nb10


def said(exercise: Exercise, answer: object) -> str:
    verdict = exercise.verdict(answer)
    assert verdict is not None
    return ("right: " if verdict.right else "wrong: ") + verdict.message


EXERCISES = nb10.build(None)  # none of them asks the cohort


def test_sixteen_films_of_the_full_recipe() -> None:
    """By hand: 20 bytes for each of 28 million numbers are 0.56 GB, 16 films of 300 MB are 4.8 GB."""
    assert nb10.step_memory(28e6, 300e6, 16) == pytest.approx(0.56 + 4.8)
    assert "5.4 GB for the first case, and only 10% of that is the network" in said(EXERCISES.memory, nb10.step_memory)


@pytest.mark.parametrize(("function", "expected"), [
    (lambda p, k, n: 2e-8 * p + 1e-9 * k * n, "right"),
    (lambda p, k, n: (4 + 4 + 8 + 4) * p / 1e9 + n * k / 1e9, "right"),
    (lambda parameters, kept_per_film, films: 4 * parameters / 1e9, "by hand it is 5.36 GB"),
    (lambda p, k, n: (20 * p + k * n) / 2**30, "GiB"),
    (5.4, "Give the function itself"),
])
def test_memory_may_be_written_in_several_ways(function: object, expected: str) -> None:
    assert expected in said(EXERCISES.memory, function)


@pytest.mark.parametrize("answer", ["BE", "eb", "B, E", "B and E", "B+E", ["b", "E"], {"B", "E"}, ["BE"]])
def test_letters_may_be_written_in_several_ways(answer: object) -> None:
    assert said(EXERCISES.sentences, answer).startswith("right")


def test_the_first_wrong_sentence_is_answered() -> None:
    assert said(EXERCISES.sentences, "ABCE").startswith("wrong: A: no radiologist read these films.")
    assert "1 more of yours" in said(EXERCISES.sentences, "ABCE")


def test_the_panels_are_what_is_said_of_them() -> None:
    told = nb10.draw_four_comparisons().alt
    letters = dict(zip(nb10.RUNS, nb10.ORDER, strict=True))
    assert EXERCISES.fair.solution_value == letters["fair"]
    for fault, letter in letters.items():
        runs = nb10.RUNS[fault]
        (a, how_a), (b, how_b) = runs.values()
        assert f"{letter}: ConvNeXt ({how_a})" in told
        same_hours, same_weights = (x == y for x, y in zip(how_a.split(", "), how_b.split(", "), strict=True))
        assert (same_hours, same_weights) == (fault != "hours", fault != "weights")
        assert (len(a) > 1) == (len(b) > 1) == (fault != "one seed")
    gap = {fault: min(b) - max(a) for fault, ((a, _), (b, _)) in
           ((fault, runs.values()) for fault, runs in nb10.RUNS.items())}
    assert gap["fair"] < 0 < min(gap["hours"], gap["weights"])
