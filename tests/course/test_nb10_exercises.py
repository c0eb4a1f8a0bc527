"""Notebook 10's exercises, beyond what every exercise has to do."""

import re

import pytest

from bonexage_utils.course.exercise import Exercise
from bonexage_utils.course.nb10 import exercises as nb10
from bonexage_utils.course.nb10.hospital import CODES


def said(exercise: Exercise, answer: object) -> str:
    verdict = exercise.verdict(answer)
    assert verdict is not None
    return ("right: " if verdict.right else "wrong: ") + verdict.message


MONTHS, CODE, OUT, SENTENCES = nb10._months(), nb10._codes(), nb10._out(), nb10._sentences()


def by_splitting(text: str) -> float:
    parts = text.split()
    return sum(int(part[:-1]) * {"y": 12, "m": 1}[part[-1]] for part in parts) if text[-1] in "ym" else int(text)


@pytest.mark.parametrize(("function", "expected"), [
    (by_splitting, "right"),
    (lambda text: str(by_splitting(text)), "right"),
    (lambda text: 12 * int(text.split("y")[0]) + int(text.split()[1][:-1]) if "y" in text else int(text),
     "It stops at '7y'"),
    (lambda text: by_splitting(text) // 12 * 12 if text[-1] in "ym" else int(text), "months behind the years"),
    (lambda text: by_splitting(text) + 1, "by hand it is 82"),
    (lambda text: by_splitting(text) * (12 if text == "14" else 1), "small number"),
])
def test_ages_may_be_read_in_several_ways(function: object, expected: str) -> None:
    assert expected in said(MONTHS, function)


def test_the_code_may_be_a_number_or_a_text() -> None:
    for answer in (CODES["F"], int(CODES["F"]), f" {CODES['F']} "):
        assert said(CODE, answer).startswith("right")
    assert "RSNA's column `male`" in said(CODE, int(CODES["M"]))


@pytest.mark.parametrize("answer", ["ABEFHI", "ihfeba", "A, B, E, F, H and I", list("ABEFHI"), set("ABEFHI")])
def test_what_goes_may_be_written_in_several_ways(answer: object) -> None:
    assert said(OUT, answer).startswith("right")


def test_every_kind_has_an_answer_of_its_own() -> None:
    for letter in nb10.KINDS:
        answer = nb10.OUT.replace(letter, "") if letter in nb10.OUT else nb10.OUT + letter
        assert said(OUT, answer).startswith(f"wrong: {letter}")


@pytest.mark.parametrize("answer", ["BE", "eb", "B, E", "B and E", "B+E", ["b", "E"], {"B", "E"}, ["BE"]])
def test_letters_may_be_written_in_several_ways(answer: object) -> None:
    assert said(SENTENCES, answer).startswith("right")


def test_the_first_wrong_sentence_is_answered() -> None:
    assert said(SENTENCES, "ABCE").startswith("wrong: A: no radiologist read these films.")
    assert "1 more of yours" in said(SENTENCES, "ABCE")


def refute(truth: float, **known: float) -> Exercise:
    told = {name: (value, f"that is {name}") for name, value in known.items()}
    return nb10._refutation("?", truth, "yes", told, ("look",), "1", "because")


def test_a_number_is_right_to_its_decimal() -> None:
    exercise = refute(9.37, half=4.7)
    for answer in (9.37, "9.4", "9.4 months", 9.36999):
        assert said(exercise, answer) == "right: yes"
    assert said(exercise, 9.5).startswith("wrong: That is another number")
    assert said(exercise, 4.7) == "wrong: that is half"


def test_a_mistake_that_gives_the_right_number_is_no_mistake() -> None:
    exercise = refute(9.37, lucky=9.4, other=4.0, as_well=4.05)
    assert set(exercise.likely_mistakes) == {"other", "a guess"}


def test_a_share_may_be_per_cent() -> None:
    exercise = nb10._refutation("?", 0.63, "yes", {}, ("look",), "1", "because", decimals=2, is_share=True)
    for answer in (0.63, 63, "63 %", "0.63"):
        assert said(exercise, answer) == "right: yes"
    assert re.match("wrong", said(exercise, 0.5))
