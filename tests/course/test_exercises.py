"""Every exercise of every notebook: an empty answer is not wrong, the solution passes, each mistake gets its answer."""

import ast
import builtins
import importlib
import pkgutil
import re
from functools import cache
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT

from bonexage_utils import course as package
from bonexage_utils.calibration import half_width
from bonexage_utils.cohort import Cohort
from bonexage_utils.course.exercise import (
    NOT_ATTEMPTED,
    Exercise,
    Verdict,
    answered,
    choice,
    listed,
    right,
    wrong,
)
from bonexage_utils.course.nb01 import exercises as nb01
from bonexage_utils.course.nb01.exploration import leak
from bonexage_utils.course.nb02 import exercises as nb02
from bonexage_utils.course.nb03 import exercises as nb03
from bonexage_utils.course.nb04 import exercises as nb04
from bonexage_utils.course.nb05 import exercises as nb05
from bonexage_utils.course.nb06 import exercises as nb06
from bonexage_utils.course.nb08 import exercises as nb08
from bonexage_utils.course.nb10.hospital import to_months
from bonexage_utils.course.start import PROFILES, Course
from bonexage_utils.labels import parse_sex
from bonexage_utils.model import GeM
from bonexage_utils.statistics import paired_difference
from tools.sources import convert
from tools.workshop import replace_stub

ROOMS = sorted(found.name for found in pkgutil.iter_modules(package.__path__) if found.ispkg)
NONSENSE = ["", "nonsense", -1, 0.5, [], {}, (), object(), len, lambda *_: 1 / 0, (None, None), float("nan")]


@pytest.fixture(scope="module")
def course(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Course:
    return Course(PROFILES["fast"], torch.device("cpu"), cohort, True, 0, tmp_path_factory.mktemp("course"))


def build(room: str, course: Course) -> SimpleNamespace:
    return importlib.import_module(f"{package.__name__}.{room}.exercises").build(course)


@pytest.fixture(scope="module", params=ROOMS)
def built(request: pytest.FixtureRequest, course: Course) -> SimpleNamespace:
    return build(request.param, course)


def test_every_notebook_has_its_room() -> None:
    assert ROOMS
    sources = (ROOT / "notebooks" / "source").glob("*.py")
    assert sorted(f"nb{source.name[:2]}" for source in sources) == ROOMS


def test_there_are_enough_exercises(built: SimpleNamespace) -> None:
    assert len(vars(built)) >= 2
    for name, exercise in vars(built).items():
        assert isinstance(exercise, Exercise), name
        assert all((exercise.question.strip(), exercise.explanation.strip(), *exercise.hints)), name
        assert exercise.hints, name
        assert len(exercise.likely_mistakes) >= 2, f"{name}: name two mistakes that a learner may well make"


def test_empty_answer_is_not_attempted(built: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    for name, exercise in vars(built).items():
        for empty in ((), (NOT_ATTEMPTED,), (None,)):
            exercise.check(*empty)
            assert "Not attempted" in capsys.readouterr().out, name


def test_solution_passes(built: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    for name, exercise in vars(built).items():
        exercise.check(exercise.solution_value)
        shown = capsys.readouterr().out
        assert shown.startswith("✔ Right."), f"{name}: {shown}"


def test_each_mistake_gets_its_own_answer(built: SimpleNamespace) -> None:
    for name, exercise in vars(built).items():
        verdicts = {mistake: exercise.verdict(answer) for mistake, answer in exercise.likely_mistakes.items()}
        for mistake, verdict in verdicts.items():
            assert verdict is not None, f"{name}: {mistake} counts as not attempted"
            assert not verdict.right, f"{name}: {mistake} passes"
            assert "stopped with" not in verdict.message, f"{name}: {mistake} meets an error, not an explanation"
        messages = [verdict.message for verdict in verdicts.values()]
        assert len(set(messages)) == len(messages), f"{name}: two mistakes get the same answer"


def test_nonsense_is_wrong_and_never_an_error(built: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    for name, exercise in vars(built).items():
        for answer in NONSENSE:
            exercise.check(answer)
            assert capsys.readouterr().out.startswith("✘ Not yet."), f"{name}: {answer!r}"


# --- the notebook's own cells ---

@cache
def cells_of(room: str) -> tuple[str, ...]:
    """The code cells of a room's notebook, without the lines that are Jupyter's own (%run, %%writefile)."""
    (source,) = (ROOT / "notebooks" / "source").glob(f"{room[2:]}_*.py")
    return tuple(re.sub(r"^%.*$", "", cell.source, flags=re.MULTILINE)
                 for cell in convert(source).cells if cell.cell_type == "code")


def loaded(node: ast.AST) -> set[str]:
    """Names that a piece of code reads, but for those that are a function's own."""
    names = {node.id} if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) else set()
    names = names.union(*map(loaded, ast.iter_child_nodes(node)))
    if not isinstance(node, ast.FunctionDef | ast.Lambda):
        return names
    return names - {n.arg if isinstance(n, ast.arg) else n.id for n in ast.walk(node) if isinstance(n, ast.arg) or (
        isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))}


def bound(statement: ast.stmt) -> set[str]:
    """Names that a statement gives a value to."""
    inner = {id(n) for c in ast.walk(statement) if isinstance(c, ast.comprehension) for n in ast.walk(c.target)}
    names = {n.id for n in ast.walk(statement)
             if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store) and id(n) not in inner}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        names |= {(alias.asname or alias.name).split(".")[0] for alias in statement.names}
    return names | ({statement.name} if isinstance(statement, ast.FunctionDef | ast.ClassDef) else set())


def run_with_what_it_needs(code: str, before: tuple[str, ...], namespace: dict) -> None:
    """Run `code` after those statements of the cells `before` it that its names come from, and after no others."""
    wanted, chosen = loaded(ast.parse(code)) - set(namespace) - set(dir(builtins)), []
    for statement in reversed([statement for cell in before for statement in ast.parse(cell).body]):
        if bound(statement) & wanted:
            chosen.insert(0, statement)
            wanted = wanted - bound(statement) | loaded(statement) - set(namespace)
    exec(compile(ast.Module(chosen, []), "cells above", "exec"), namespace)
    exec(compile(code, "cell", "exec"), namespace)


def paste(room: str, course: Course, ex: SimpleNamespace, name: str, code: str | None = None, value: object = ...
          ) -> None:
    """Run the cell of exercise `name` as a learner does: as it stands, with `code` in place of the stub, or `value`."""
    cells = cells_of(room)
    place = next(i for i, cell in enumerate(cells) if f"ex.{name}.check(" in cell)
    answer = re.search(rf"ex\.{name}\.check\((\w+)\)", cells[place])[1]
    # A guess may stand further up.
    home = max(i for i, cell in enumerate(cells[:place + 1]) if replace_stub(cell, answer, "") != cell)
    cell = cells[home] if home == place else f"{cells[home]}\nex.{name}.check({answer})"
    if code is None and value is not ...:
        code = f"{answer} = pasted"
    elif code and not callable(getattr(ex, name).solution_value):
        code = f"{answer} = {code}"
    if code:
        cell = replace_stub(cell, answer, code)
    lines = [line for line in cell.splitlines() if not line.startswith("ex = ")]
    run_with_what_it_needs("\n".join(lines), cells[:home], {"course": course, "ex": ex, "pasted": value})


@pytest.mark.parametrize("room", ROOMS)
def test_the_notebooks_cell_takes_stub_solution_and_mistakes(
        room: str, course: Course, capsys: pytest.CaptureFixture[str]) -> None:
    """As it stands a cell is not attempted; with the printed solution it is right; with a mistake it is not yet."""
    ex = build(room, course)
    for name, exercise in vars(ex).items():
        paste(room, course, ex, name)
        assert "Not attempted" in capsys.readouterr().out, f"{name}: the stub"
        exercise.solution()
        assert exercise.pasted in capsys.readouterr().out, name
        paste(room, course, ex, name, exercise.pasted)
        shown = capsys.readouterr().out
        assert "✔ Right." in shown, f"{name}: the printed solution: {shown}"
        for mistake, value in exercise.likely_mistakes.items():
            paste(room, course, ex, name, value=value)
            assert "✘ Not yet." in capsys.readouterr().out, f"{name}: {mistake}"


def test_a_function_is_solved_by_code_and_a_value_by_itself(built: SimpleNamespace) -> None:
    for name, exercise in vars(built).items():
        if callable(exercise.solution_value):
            assert exercise.pasted.startswith("def my_"), f"{name}: give `code`, the whole def"
        assert max(map(len, exercise.pasted.splitlines())) <= 88, f"{name}: a line too wide for a cell"


def test_a_forgotten_return_is_named(built: SimpleNamespace) -> None:
    for name, exercise in vars(built).items():
        if callable(exercise.solution_value):
            missing = "Is the return missing?" in said(exercise, lambda *args: print(end=""))
            assert missing == ("return" in exercise.pasted), name
            assert "without brackets" in said(exercise, 7), name


def test_choices_do_not_give_the_truth_away() -> None:
    judge = choice({"C": "", "10 to 15": "", "A": "", "2 to 4": ""}, "C")
    assert "'2 to 4', '10 to 15', 'A' or 'C'" in judge("D").message
    assert listed(["off", "on"]) == "'off' or 'on'"


def test_answered_tells_done_from_open(capsys: pytest.CaptureFixture[str]) -> None:
    def judge(answer: object) -> Verdict:
        return right("") if answer == 1 else wrong("")

    ex = SimpleNamespace(**{name: Exercise("One?", judge, ("look",), 1, "") for name in "abcd"})
    ex.a.check(1)
    ex.b.check(2)
    ex.c.check(2)
    ex.c.check(1)
    ex.d.check(...)
    capsys.readouterr()
    answered(ex)
    assert capsys.readouterr().out.splitlines() == [
        "✔ done    ex.a", "✘ not yet ex.b", "✔ done    ex.c", "○ open    ex.d", "2 of 4 done."]


# Exercise, and answers that are right in sense; each was refused once.
IN_SENSE = {
    ("nb00", "ahead"): ["that is usual", "normal", "not unusual", "usual (within 2 SD)", "not unusual at all",
                        "within two SD",
                        "usual, because it is within 2 SD"],
    ("nb00", "first"): [("girls", 24), ("F", 24), ("Girl", "24 months"), ["girl", np.int64(24)], "girl, 24",
                        "the boy is 24 months after the girl", "before the boy by 24 months: the girl",
                        "the girl, 24 months before the boy", "the boy comes 24 months later",
                        ("girl", "2 years"), (24, "girl"), ("the girl", 24), "the girl by 24 months",
                        ("girl", "24 months before the boy"), {"girl": 24}, ("girl", "2 yrs"), ("girl", "two years"),
                        ("girl", "1 year and 11 months"), ("she", 24), "the girl leads by twenty-four months"],
    ("nb00", "order"): ["C A B", "c, a, b", ["C", "A", "B"], ("c", "a", "b"), "C, then A, then B",
                        "girl C, girl A, girl B", "C (3 y), A (9 y), B (15 y)",
                        "youngest: C, middle: A, oldest: B"],
    ("nb00", "plateau"): ["6-8 years", "6 to 8 years", "between 6 and 8", (6, 8), "72 to 96 months",
                          "from 6 to 8 years", "six to eight", {6, 8}, "girls of 6 to 8 years", "6y to 8y",
                          "6 through 8"],
    ("nb01", "table"): ["table B", "b", "Table B", "(B)", "I choose B", ["B"], "send B back",
                        "B, because some ages are in years"],
    ("nb02", "keeps"): ["C and F", ("c", "f"), "C, then F", "only C and F", "C or F", "C and F destroy the label",
                        "C is a zoom, F a blur",
                        dict.fromkeys("ABDE", False) | {"C": True, "F": True}],
    ("nb02", "shared"): ["off, off", "Off and off", "off/off", ("off", "off"), "both are off", "off for both",
                         "training off, selection off", (False, False), "off on both", "both are switched off",
                         "it is off in both parts"],
    ("nb03", "curves"): ["run C", "c", "Run c.", "C has the bug", "curve C"],
    ("nb03", "noise"): ["huber", "Huber loss", "smooth L1", "smooth_l1", "HuberLoss", "SmoothL1Loss",
                        "I choose Huber", torch.nn.HuberLoss, torch.nn.functional.huber_loss,
                        "Huber, it is good in both rows"],
    ("nb04", "bits"): ["32 bits", "float 32", torch.float32, "single precision", np.float32, "32 bit float",
                       "float32 is enough"],
    ("nb04", "power"): ["p=3", "p = 3", 3, 3.0, "3", "p=3.0", torch.tensor(3), "three", "the largest is 3",
                        "p=3, because there half takes ten places"],
    ("nb05", "spread"): ["at no age", "never", "none", "not at any age", "none of the three",
                         "nowhere (all about 1 SD)"],
    ("nb05", "unknown"): ["the mean of both", "mean", "the average", "mean of the two", "take the mean of both",
                          "mean of girl and boy", "the average of the two",
                          "both, averaged"],
    ("nb06", "clamp"): ["the clamped one", "hard clamp"],
    ("nb06", "clinic"): ["clinic C", "toddlers", "C: toddlers", "C (toddlers)", "Clinic C, the toddlers"],
    ("nb06", "slope"): ["3, 11.4, 60, 11.4", np.array([2.96, 11.4, 60, 11.4]), "2,96; 11,4; 60; 11,4",
                        {3: 2.96, 12: 11.4, 120: 60, 228: 11.4}, "3 months, 11.4 months, 60 months, 11.4 months",
                        "2,96, 11,4, 60, 11,4",
                        {228: 11.4, 120: 60, 12: 11.4, 3: 2.96}],
    ("nb07", "gap"): ["0.0000153, 1, 0.125", (2**-16, "1", 0.125), torch.tensor([2**-16, 1, 0.125]),
                      "1.5e-05, 1, 0.125", "2^-16, 1, 1/8",
                      {"float16": 0.125, "bfloat16": 1, "float32": 2**-16}],
    ("nb07", "order"): ["c f e a d b", "C, F, E, A, D, B", list("CFEADB"), ("B", "C", "F", "E", "A", "D"),
                        "first C, then F, E, A, D and B"],
    ("nb07", "profile"): ["run B", "b"],
    ("nb07", "resume"): ["abcdef", "A to F", "A–F", "a, b, c, d, e and f", set("ABCDEF"), "A..F", "from A to F",
                         "all but G, H and I",
                         "the letters A to F"],
    ("nb08", "lock"): ["c", "option C", "(C)"],
    ("nb08", "pairs"): ["comparison 1", "1", 1, "the first", "the 1st", "No. 1",
                        "only in comparison 1, zero is outside"],
    ("nb08", "readers"): ["reader A", "a", "reader A, always too high", "those of A", "A becomes good"],
    ("nb08", "strip"): ["d", "D."],
    ("nb09", "few"): ["nineteen", "19 films", "n ≥ 19", "at least 19", 0.95 / 0.05, 1 / (1 - 0.95) - 1],
    ("nb09", "noted"): ["roughly 45 %", "45 in 100", "0.45 of them", "8/17.9", 45],
    ("nb09", "since"): ["the ninth month", "from month 9 on", "9th", "month no. 9"],
    ("nb10", "codes"): ["girls = 1", "the girls' code is 1", "girls 1, boys 0", {"F": 1}],
    ("nb10", "out"): ["A, B, E, F, H and I have to go", "all but C, D and G"],
    ("nb10", "sentences"): ["B and E may stand", "I would keep B and E"],
}


@pytest.mark.parametrize(("room", "name"), IN_SENSE)
def test_right_in_sense_is_right(room: str, name: str, course: Course) -> None:
    exercise = getattr(build(room, course), name)
    for answer in IN_SENSE[room, name]:
        assert said(exercise, answer).startswith("right"), answer


# Exercise, and answers that are not right; each passed once.
NOT_IN_SENSE = {
    ("nb00", "first"): ["girl or boy, 24", "not the girl, 24"],
    ("nb00", "order"): [{"C", "A", "B"}, "C, A or B", "C=A=B"],
    ("nb00", "plateau"): ["6 to 8 months"],
    ("nb04", "power"): ["p < 3", "> 3", "p ≠ 3", "3 %", "at least 3"],
    ("nb07", "gap"): [{2**-16, 1, 0.125}],
    ("nb10", "codes"): ["boys = 1", "boys 1, girls 0", "1 = boys", "1 is for boys", "1 male"],
}


@pytest.mark.parametrize(("room", "name"), NOT_IN_SENSE)
def test_what_only_looks_right_is_wrong(room: str, name: str, course: Course) -> None:
    exercise = getattr(build(room, course), name)
    for answer in NOT_IN_SENSE[room, name]:
        assert said(exercise, answer).startswith("wrong"), answer


# What a function gives back may be of several kinds.
GIVEN_BACK = {
    ("nb01", "comb"): [lambda m, s: torch.tensor(m[~np.isnan(m)] % s == 0).float().mean(),
                       lambda m, s: f"{100 * nb01.share_of_multiples(m, s):.0f} %"],
    ("nb02", "back"): [lambda *case: dict(zip(("row", "column"), nb02.film_place(*case), strict=True))],
    ("nb05", "encode"): [lambda c: map(nb05.encode(c).__getitem__, range(len(c))),
                         lambda c: pd.Series(nb05.encode(c)).to_frame(), lambda c: dict(enumerate(nb05.encode(c)))],
    ("nb05", "gain"): [lambda a, b: (lambda g: (g.value, (g.low, g.high)))(paired_difference(b, a)),
                       lambda a, b: (lambda g: {"low": g.low, "high": g.high, "gain": g.value})(paired_difference(b,
                       a))],
    ("nb06", "score"): [lambda m: round(float(nb06.clamped_score(m)), 2)],
    ("nb08", "limits"): [lambda p, m: (lambda b, low, high: {"upper": high, "lower": low, "bias": b})(*nb08.limits(p,
                         m)),
                         lambda p, m: np.array([nb08.limits(p, m)])],
    ("nb08", "enrich"): [lambda m, r: [np.abs(m)[r].mean() / np.abs(m).mean()]],
    ("nb09", "half"): [lambda e, c: (lambda half: "inf" if np.isinf(half) else [half])(half_width(e, c))],
    ("nb10", "months"): [lambda text: [to_months(text)]],
}


@pytest.mark.parametrize(("room", "name"), GIVEN_BACK)
def test_what_is_given_back_may_be_of_several_kinds(room: str, name: str, course: Course) -> None:
    exercise = getattr(build(room, course), name)
    for function in GIVEN_BACK[room, name]:
        assert said(exercise, function).startswith("right")


def _in_place(months: np.ndarray, step: int) -> float:
    months[np.isnan(months)] = 0.5
    return (months % step == 0).sum() / (months != 0.5).sum()


# Exercise, a function, and what is said of it.
SAID_OF = [
    ("nb01", "comb", _in_place, "changes what it is given"),
    ("nb01", "comb", lambda m, s: np.isNaN(m), "AttributeError: module 'numpy' has no attribute 'isNaN'"),
    ("nb01", "comb", lambda m, s: "many", "gives back is not what is asked for. 'many' is not a number."),
    ("nb03", "shapes", lambda p, m: (p - m).abs().mean(-1), "compares every prediction with every label"),
    ("nb03", "shapes", lambda p, m: (m - p.reshape(-1)).mean(), "The signs are still there"),
    ("nb03", "shapes", lambda p, m: ((p.reshape(-1) - m) ** 2).mean().sqrt(), "the root of the mean square"),
    ("nb03", "shapes", lambda p, m: (p.reshape(-1) - m).abs().mean, "the brackets () are missing"),
    ("nb04", "gem", lambda x, p: nb04.generalised_mean(x, 2.5), "not for p = 4"),
    ("nb04", "slope", lambda x, p: x * x.log(), "One number is asked; this has 5"),
    ("nb05", "encode", lambda c: columns, "NameError: name 'columns'"),  # noqa: F821
    ("nb05", "encode", list, "not what is asked for"),
    ("nb06", "score", lambda m: nb06.clamped_score(min(max(m, 12), 228)), "For 3 months it gives -2.944"),
    ("nb09", "half", lambda e, c: None if np.isinf(half_width(e, c)) else half_width(e, c), "For some inputs"),
    ("nb10", "months", lambda text: text, "not what is asked for"),
]


@pytest.mark.parametrize(("room", "name", "function", "expected"), SAID_OF)
def test_a_function_is_told_what_it_did(
        room: str, name: str, function: object, expected: str, course: Course) -> None:
    exercise = getattr(build(room, course), name)
    assert expected in said(exercise, function)
    assert said(exercise, exercise.solution_value).startswith("right")  # nothing is left behind


def test_a_number_is_told_why_it_is_none(course: Course) -> None:
    exercise = nb01.build(course).baseline
    for answer, expected in ((float("nan"), "That is NaN"), (pd.Series([1.0, 2.0]), "this has 2"),
                             (pd.Series([1.0]).mean, "the brackets () are missing"), ("19 or 20",
                             "One number is asked")):
        assert expected in said(exercise, answer)
    assert "Nobody spoiled" in said(nb01.build(course).twelve, [
        *nb01.build(course).twelve.solution_value, nb01.build(course).twelve.likely_mistakes["too many"][-1]])


def test_hints_solution_and_repr_can_be_read(built: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    for name, exercise in vars(built).items():
        for place in range(-1, len(exercise.hints) + 2):
            exercise.hint(place)
            assert capsys.readouterr().out.startswith("Hint: "), name
        exercise.solution()
        assert exercise.explanation in capsys.readouterr().out
        assert exercise.question in repr(exercise)


@pytest.mark.parametrize("room", ROOMS)
def test_every_exercise_is_in_its_notebook(room: str, course: Course) -> None:
    (source,) = (ROOT / "notebooks" / "source").glob(f"{room[2:]}_*.py")
    text = source.read_text(encoding="utf-8")
    names = list(vars(build(room, course)))
    assert names
    for name in names:
        for method in ("check", "hint", "solution"):
            assert f"ex.{name}.{method}(" in text, f"{source.name}: no ex.{name}.{method}"


def said(exercise: Exercise, answer: object) -> str:
    verdict = exercise.verdict(answer)
    assert verdict is not None
    return ("right: " if verdict.right else "wrong: ") + verdict.message


def test_a_learners_error_is_explained() -> None:
    exercise = Exercise("A function?", lambda answer: right("") if answer() else wrong(""), ("look",), lambda: True, "")
    assert "ZeroDivisionError: division by zero" in said(exercise, lambda: 1 / 0)
    assert said(exercise, 7) == "wrong: Give the function itself, without brackets."


@pytest.mark.parametrize("answer", ["6 to 8", " 6-8", "6 – 8", "6 TO  8"])
def test_a_choice_may_be_written_in_several_ways(answer: str) -> None:
    judge = choice({"2 to 4": "no", "6 to 8": "yes"}, "6 to 8", {"late": "6 to 8"})
    assert judge(answer) == judge("late") == right("yes")
    assert not judge("68").right


@pytest.mark.parametrize("answer", ["not A", "A and B", "A, B", "C?", "maybe", ("A", "B"), "", (), True])
def test_a_choice_is_one_and_meant(answer: object) -> None:
    judge = choice({"A": "yes", "B": "no", "either": "no"}, "A", {"the first": "A"})
    assert judge("A, the first") == right("yes")
    assert judge(answer) == wrong("Choose one: 'A', 'B' or 'either'.")


def test_a_baseline_may_be_given_in_fewer_decimals(course: Course) -> None:
    exercise = nb01.build(course).baseline
    for decimals in (1, 2, 3):
        assert said(exercise, round(exercise.solution_value, decimals)).startswith("right")
    assert not said(exercise, round(exercise.solution_value, 1) + 0.1).startswith("right")


def test_a_leak_is_answered_by_what_was_read_off(course: Course) -> None:
    row = leak(course.cohort).set_index("twice").loc[0.4]
    exercise = nb01.build(course).leak
    for answer, expected in ((row["by film"], "vendor's own"), (row["by child"] - row["by film"], "*difference*"),
                             (row["median"], "dotted line"), (row["by child"], "right: ")):
        assert expected in said(exercise, answer)


LOSSES = {
    "index": (lambda p, m: (p[:, 0] - m if p.ndim == 2 else p - m).abs().mean(), "right"),
    "squeezed": (lambda p, m: (p.squeeze() - m).abs().mean(), "right"),
    "in place": (lambda p, m: p.reshape(-1).sub_(m).abs().mean(), "no gradient"),
    "detached": (lambda p, m: (p.reshape(-1).detach() - m).abs().mean(), "no gradient"),
    "a number": (lambda p, m: float((p.reshape(-1) - m).abs().mean()), "no gradient"),
    "NumPy": (lambda p, m: np.abs(p.numpy().ravel() - m.numpy()).mean(), "no gradient"),
    "NumPy on tensors": (lambda p, m: np.mean(np.abs(p.reshape(-1) - m)), "torch tensors: write x.mean()"),
    "both sorted": (lambda p, m: (p.reshape(-1).sort()[0] - m.sort()[0]).abs().mean(), "sort"),
    "one child's": (lambda p, m: (p.reshape(-1) - m).abs()[0], "by hand it is"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # a learner's mistake may be one, too
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_must_teach(course: Course, name: str) -> None:
    loss, expected = LOSSES[name]
    assert expected in said(nb03.build(course).shapes, loss)


def test_the_four_runs_show_what_their_faults_do() -> None:
    """What notebook 03 says of them: every run takes as many steps, and each fault has a face of its own."""
    last = nb03.four_runs().groupby("run").last()
    hot, few, bug, healthy = (last.loc[{fault: run for run, fault in nb03.FAULTS.items()}[fault]]
                              for fault in ("hot", "few", "bug", "healthy"))
    assert len(set(last["step"])) == 1
    assert 0.75 < bug.selection / bug.baseline < 1
    assert bug.train > 0.75 * bug.baseline
    assert few.train < 2
    assert few.selection > 1.5 * healthy.selection  # 1.66 times measured
    assert healthy.selection < 0.3 * healthy.baseline
    assert healthy.selection - healthy.train < 3
    assert hot.selection > 1.5 * healthy.selection
    assert "step 240" in nb03.draw_four_runs().alt


PLACES = {
    "as the package rounds": (lambda row, column, shape, size: (
        (row - (size - round(shape[0] * size / max(shape))) // 2) * max(shape) / size,
        (column - (size - round(shape[1] * size / max(shape))) // 2) * max(shape) / size), "right"),
    "a pixel's middle": (lambda *case: tuple(place + 0.5 for place in nb02.film_place(*case)), "right"),
    "a list": (lambda *case: list(nb02.film_place(*case)), "right"),
    "the middle of the film": (lambda row, column, shape, size: (shape[0] / 2, shape[1] / 2), "by hand it is"),
    "one number": (lambda row, *_: row, "Two numbers"),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_place_may_be_a_pixels_corner_or_its_middle(course: Course, name: str) -> None:
    place, expected = PLACES[name]
    assert expected in said(nb02.build(course).back, place)


LOOKED_AT = {
    "allclose": (lambda part: any(not torch.allclose(part[row], part[row]) for row in range(len(part))), "right"),
    "a list": (lambda part: max(bool((part[row] != part[row]).any()) for row in range(len(part))), "right"),
    "the same object": (lambda part: part[0] is not part[0], "same object"),
    "one film, the wrong way round": (lambda part: torch.equal(part[0], part[0]), "wrong way round"),
    "sorted pixels": (lambda part: any(not torch.equal(part[row].flatten().sort()[0], part[row].flatten().sort()[0])
                                       for row in range(len(part))), "mirrored"),
    "never ends": (lambda part: any(not torch.equal(first, second) for first, second in zip(part, part, strict=True)),
                   "right"),
}


@pytest.mark.parametrize("name", LOOKED_AT)
def test_a_test_must_ask_the_films(course: Course, name: str) -> None:
    test, expected = LOOKED_AT[name]
    assert expected in said(nb02.build(course).looks, test)


def test_letters_may_be_written_in_several_ways(course: Course) -> None:
    exercise = nb02.build(course).keeps
    for answer in ("CF", "fc", "C, F", ["c", "F"], ("F", "C"), {"C", "F"}):
        assert said(exercise, answer).startswith("right"), answer


def test_two_numbers_may_be_rounded(course: Course) -> None:
    exercise = nb02.build(course).numbers
    for digits in (2, 3, 4):
        assert said(exercise, np.round(exercise.solution_value, digits)).startswith("right")
    assert "selection" in said(exercise, exercise.likely_mistakes["with the selection films"])


def test_the_colleagues_two_parts_share_one_transform() -> None:
    """What notebook 02's exercise `shared` rests on: `random_split` makes no copies."""
    films = torch.utils.data.TensorDataset(torch.arange(10))
    first, second = torch.utils.data.random_split(films, [6, 4])
    first.dataset.transform = len
    assert second.dataset.transform is len


GEMS = {
    "mean by hand": (lambda x, p: (x.float().clamp(min=1e-6) ** p).flatten(2).mean(2) ** (1 / p), "right"),
    "largest taken out": (lambda x, p: GeM(p)(x), "right"),
    "a loop": (lambda x, p: torch.stack([nb04.generalised_mean(row[None], p)[0] for row in x]), "right"),
    "keepdim": (lambda x, p: nb04.generalised_mean(x, p)[..., None, None], "keepdim"),
    "no mean": (lambda x, p: x, "whole map"),
    "one number": (lambda x, p: x.mean(), "yours became ()"),
    "wrong axes": (lambda x, p: x.float().clamp(min=1e-6).pow(p).mean((-3, -1)).pow(1 / p), "yours became (2, 4)"),
    "no power at all": (lambda x, p: x.amax((-2, -1)), "In this order"),
    "clamped at one": (lambda x, p: nb04.generalised_mean(x.float().clamp(min=1), p), "In this order"),
}


@pytest.mark.parametrize("name", GEMS)
def test_a_gem_of_ones_own(course: Course, name: str) -> None:
    gem, expected = GEMS[name]
    assert expected in said(nb04.build(course).gem, gem)


def test_a_slope_by_nudging_is_right_too(course: Course) -> None:
    def nudged(x: torch.Tensor, p: float) -> torch.Tensor:
        return ((x ** (p + 1e-5)).mean() ** (1 / (p + 1e-5)) - (x**p).mean() ** (1 / p)) / 1e-5

    assert said(nb04.build(course).slope, nudged).startswith("right")


def test_the_slope_is_that_of_the_package() -> None:
    for p in (1.0, 3.0, 12.0):
        x, layer = torch.rand(7, dtype=torch.float64) + 0.1, GeM(p).double()
        layer(x.reshape(1, 1, 1, 7)).sum().backward()
        torch.testing.assert_close(layer.log_p.grad / p, nb04.slope_in_p(x, p))  # d p = p · d log p


def test_the_exercise_on_p_asks_what_its_figure_shows(course: Course) -> None:
    exercise, told = nb04.build(course).power, nb04.draw_powers().alt
    held = {int(p): [float(share) for share in shares.split(", ")]
            for p, shares in re.findall(r"p = (\d+): ([\d., ]+\d)", told)}
    assert tuple(held) == nb04.POWERS_OFFERED
    at_ten = {p: shares[2] for p, shares in held.items()}  # for 1, 3, 10, … places
    assert max(p for p, share in at_ten.items() if share < 0.5) == exercise.solution_value
    assert max(at_ten.values()) > 0.5  # a larger p on offer fails
    assert said(exercise, str(exercise.solution_value)) == said(exercise, float(exercise.solution_value))
    assert said(exercise, True).startswith("wrong: Choose one:")


ENCODERS = {
    "a key error refuses, too": (lambda c: [{"F": 0, "M": 1}[parse_sex(x)] for x in c], "right"),
    "NumPy": (lambda c: np.array(nb05.encode(c)), "right"),
    "torch": (lambda c: torch.tensor(nb05.encode(c)), "right"),
    "truth of M": (lambda c: [int(x != "F") for x in c], "'female'"),
    "unknown is a boy": (lambda c: [int(parse_sex(x) != "F") for x in c], "nan becomes a boy"),
    "unknown is two": (lambda c: [{"F": 0, "M": 1}.get(parse_sex(x), 2) for x in c], "the code 2"),
    "one for all": (lambda c: 1, "rows went in"),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_no_unknown_becomes_a_sex(course: Course, name: str) -> None:
    function, expected = ENCODERS[name]
    assert expected in said(nb05.build(course).encode, function)


def test_a_gain_may_be_computed_in_other_ways(course: Course) -> None:
    """The normal approximation is near enough; an interval upside down is not."""
    exercise = nb05.build(course).gain

    def by_formula(told: np.ndarray, not_told: np.ndarray) -> tuple[float, ...]:
        gain = np.abs(not_told) - np.abs(told)
        reach = 1.96 * gain.std(ddof=1) / np.sqrt(len(gain))
        return gain.mean(), gain.mean() - reach, gain.mean() + reach

    assert said(exercise, by_formula).startswith("right")
    assert "then low, then high" in said(exercise, lambda a, b: (by_formula(a, b)[0], *by_formula(a, b)[:0:-1]))


SCORES = {
    "NumPy": (lambda m: np.log(np.clip(m / 240, 0.01, 0.99) / (1 - np.clip(m / 240, 0.01, 0.99))), "right"),
    "torch": (lambda m: torch.logit(torch.tensor(m / 240).clamp(0.01, 0.99)), "right"),
    "another clamp": (lambda m: torch.logit(torch.tensor(m / 240), eps=0.001), "right"),
    "torch without one": (lambda m: torch.logit(torch.tensor(m / 240)), "no finite one"),
    "divides by zero": (lambda m: np.log(1 / (240 / m - 1)), "no finite one"),
    "of the months": (lambda m: torch.logit(torch.tensor(m)), "divide by 240 first"),
    "twice": (lambda m: 2 * nb06.clamped_score(m), "For 12 months it gives -5.889"),
}


@pytest.mark.parametrize("name", SCORES)
def test_a_score_may_be_found_in_several_ways(course: Course, name: str) -> None:
    score, expected = SCORES[name]
    assert expected in said(nb06.build(course).score, score)


def test_slopes_may_be_rounded_and_of_any_kind(course: Course) -> None:
    exercise = nb06.build(course).slope
    for answer in ([2.96, 11.4, 60, 11.4], (3, 11.4, 60.0, 11.4), np.array(exercise.solution_value),
                   torch.tensor(exercise.solution_value)):
        assert said(exercise, answer).startswith("right")
    assert "At 12 months it is not 14.0" in said(exercise, [3, 14, 60, 11.4])


def test_the_clinics_are_what_their_figure_shows(course: Course) -> None:
    labels, told = nb06.clinic_labels(course), nb06.draw_clinics(course).alt
    assert len(labels["A"]) == course.cohort.table["months"].notna().sum()
    for name, (who, low, high) in nb06.CLINICS.items():
        assert f"{name}, {who}: labels mostly from" in told
        assert ((labels[name] >= low) & (labels[name] < high)).all()
    assert nb06.build(course).clinic.solution_value == "C"


