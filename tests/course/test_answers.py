"""What learners write: what is right in sense is read, what takes an answer back is not."""

import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch

from bonexage_utils.course.answers import Choice, Unreadable, letters, number, numbers, share


@pytest.mark.parametrize("answer", [
    24, "24", " 24 months", "2 years", "2 yrs", "2y", np.float32(24), torch.tensor([24.0]), np.array([[24]]), (24,),
    {24},
    pd.Series([24]), Fraction(24), "about 24 months", "~24", "ca. 24", "24.", "+24", "24,0", "2.4e1", "48/2", "= 24",
    "MAE: 24", "an error of 24 months", "n ≥ 24", "at least 24", "24 or more", "24 films", "twenty-four",
    "24 months, by eye",
    "1 year 12 months", "1 year and 12 months", "month no. 24", "float32: 24", "24th",
])
def test_a_number_may_be_written_in_many_ways(answer: object) -> None:
    assert number(answer) == 24


@pytest.mark.parametrize(("answer", "value"), [
    ("−3", -3), ("0,125", 0.125), (".5", 0.5), ("1,000", 1000), ("2^-3", 0.125), ("2**-3", 0.125), ("2⁻³", 0.125),
    ("1.5·10^-5", 1.5e-5), ("128/2^10", 0.125), ("45 %", 0.45), ("45 per cent", 0.45), ("45 out of 100", 0.45),
    ("8 of 16", 0.5), ("np.inf", math.inf), ("month nine", 9), ("the ninth", 9), ("3 years 4 months", 40),
    ("8/17.9 = 0.45", 0.45), ("0.95/0.05 = 19", 19), ("3/4 = 0.75", 0.75), ("1 - 0.05 = 0.95", 0.95), ("–0.5", -0.5),
    ("- 0.5", -0.5), ("minus 0.5", -0.5), ("a difference of minus 0.5 months", -0.5), ("x = −.5", -0.5),
])
def test_kinds_of_numbers(answer: str, value: float) -> None:
    assert number(answer) == pytest.approx(value)


@pytest.mark.parametrize("answer", [
    True, np.True_, "x", "1 2", "", None, "19 or 20", "not 19", "less than 19", "> 19", "< 19", "19 or less", "after 9",
    "up to 9", "19 to 30", "9 ± 1", "1.2.3", "82kg", [1, 2], {"F": 1, "M": 2}, pd.Series([1, 2]), len, float, 1j,
    object(),
])
def test_no_number(answer: object) -> None:
    with pytest.raises(Unreadable):
        number(answer)


@pytest.mark.parametrize("answer", [
    "0.4, 0.2", "(0.4 0.2)", "0.4,0.2", "0,4; 0,2", "0,4, 0,2", "0,4 0,2", "0.4 and 0.2", "0.4 ± 0.2", "0.4 +- 0.2",
    "40 %, 20 %",
    "mean 0.4, SD 0.2", "mean = 0.4; standard deviation = 0.2", "3 months: 0.4, 12 months: 0.2", "0.4 mm, 0.2 mm",
    "4e-1 2e-1", "std 0.2, mean 0.4", "Std: 0.2; Mean: 0.4", "0.2 (std), 0.4 (mean)", "mean, std = 0.4, 0.2",
    [0.4, "0.2"], (0.4, (0.2,)), np.array([[0.4, 0.2]]), torch.tensor([0.4, 0.2], dtype=torch.float64), map(float,
    (0.4, 0.2)),
    pd.Series([0.4, 0.2]), {"mean": 0.4, "std": 0.2}, {"std": 0.2, "mean": 0.4}, pd.Series({"std": 0.2,
    "mean": 0.4}), {1: 0.4, 2: 0.2},
])
def test_two_numbers_may_be_written_in_many_ways(answer: object) -> None:
    assert numbers(answer, ("mean", "std")).tolist() == pytest.approx([0.4, 0.2])


def test_numbers_need_an_order() -> None:
    with pytest.raises(Unreadable, match="A set has no order"):
        numbers({0.4, 0.2})
    assert numbers("3,11.4, 60").tolist() == [3, 11.4, 60]
    assert numbers("low 1, high 2, gain 3", ("gain", "low", "high")).tolist() == [3, 1, 2]
    assert numbers("bfloat16 3, float32 1, float16 2", ("float32", "float16", "bfloat16")).tolist() == [1, 2, 3]
    assert numbers("against my guess: low 1, high 2, gain 3", ("gain", "low", "high")).tolist() == [3, 1, 2]
    assert numbers("0.4 or 0.2").size == 0


def test_a_share_may_be_per_cent() -> None:
    assert [share(a) for a in (0.45, 45, "45", "45 %", "45 percent", "0.45 of them")] == [0.45] * 6
    assert share("0.45 %") == pytest.approx(0.0045)
    assert share("150 %") == pytest.approx(1.5)
    with pytest.raises(Unreadable):
        share("45 films")


@pytest.mark.parametrize("answer", [
    "CF", "cf", "c, f", "C and F", "only C, then F", ["c", "F"], ("C", "f"), np.array(["C", "F"]), {"C": 1, "F": 2},
    "C+F",
    "C and F destroy the label", "changes C, F", "C (zoom) and F (blur)", "C is a zoom, F a blur",
    "I would say C and F",
    {"A": False, "C": True, "F": True}, "all but A, B, D and E",
])
def test_letters_may_be_written_in_many_ways(answer: object) -> None:
    assert letters(answer, "ABCDEF") == "CF"


def test_letters_that_are_not_meant() -> None:
    for answer in ("not C", "neither C nor F", "all but nothing", "none", "", "destroy", "C and F, not D"):
        assert letters(answer, "ABCDEF") == "", answer
    assert letters("C, X", "ABCDEF") == "CX"
    assert letters({"C", "F"}, "CF") == letters(frozenset("FC"), "CF") == "CF"
    assert letters({"C", "F"}, "CF", ordered=True) == letters("C or F", "CF", ordered=True) == ""
    for answer in ("A to F", "a-f", "A…F", "from A up to F", "A-C, D-F", ["A–F"]):
        assert letters(answer, "ABCDEFGHI", spans=True) == "ABCDEF", answer
    assert letters("C - F", "ABCDEF") == "CF"


LETTERS = Choice({name: name for name in "ABCD"}, "ABCD")
POWERS = Choice({name: name for name in ("1", "2", "3", "10")}, ("1", "2", "3", "10"))


@pytest.mark.parametrize(("choice", "answer"), [
    *((LETTERS, answer) for answer in (
        "C", "c", "(C)", "c)", "the one labelled C", "I would say C", "C, because it is flat", "C: a clear case",
        "run C gains least",
        "C's", "I'd say C", "it'll be C", ["C"], {"C"}, np.array(["C"]), "only C", "C because of a bump")),
    *((POWERS, answer) for answer in (3, 3.0, "3.0", "p = 3", "three", "the third", "No. 3", torch.tensor(3.0),
    Fraction(3), (3,))),
])
def test_a_choice_may_come_with_words(choice: Choice, answer: object) -> None:
    assert choice.meant(answer) in ({"C"}, {"3"})


@pytest.mark.parametrize(("choice", "answer"), [
    *((LETTERS, answer) for answer in (
        "not C", "C is wrong", "hardly C", "I'd guess",
        "anything but C", "all but C", "C or D", "C, D", "B, not C", "it isn't C", "certainly not C", "CD",
        "", len, ("C", None))),
    *((POWERS, answer) for answer in (
        -3, "-3", 3.5, "3.5", "< 3", "p ≠ 3", "30", "3 %", "3e2", "1/3", "2 to 3", "below 3", True, "3 months")),
])
def test_no_choice(choice: Choice, answer: object) -> None:
    assert len(choice.meant(answer)) != 1
