"""Every exercise of every notebook: an empty answer is not wrong, the solution passes, each mistake gets its answer."""

import importlib
import pkgutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT

from bonexage_utils.cohort import Cohort
from bonexage_utils.course import exercises
from bonexage_utils.course.exercises import NOT_ATTEMPTED, Exercise, right, wrong
from bonexage_utils.course.start import PROFILES, Course

MODULES = sorted(found.name for found in pkgutil.iter_modules(exercises.__path__) if found.name.startswith("nb"))
NONSENSE = ["", "nonsense", -1, 0.5, [], {}, (), object(), len, lambda *_: 1 / 0, (None, None), float("nan")]


@pytest.fixture(scope="module")
def course(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Course:
    return Course(PROFILES["fast"], torch.device("cpu"), cohort, True, 0, tmp_path_factory.mktemp("course"))


@pytest.fixture(scope="module", params=MODULES)
def built(request: pytest.FixtureRequest, course: Course) -> SimpleNamespace:
    return importlib.import_module(f"{exercises.__name__}.{request.param}").build(course)


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


def test_hints_solution_and_repr_can_be_read(built: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    for name, exercise in vars(built).items():
        for number in range(-1, len(exercise.hints) + 2):
            exercise.hint(number)
            assert capsys.readouterr().out.startswith("Hint: "), name
        exercise.solution()
        assert exercise.explanation in capsys.readouterr().out
        assert exercise.question in repr(exercise)


def test_every_exercise_is_in_its_notebook(course: Course) -> None:
    for module in MODULES:
        sources: list[Path] = sorted((ROOT / "notebooks" / "source").glob(f"{module[2:]}_*.py"))
        for source in sources:
            text = source.read_text(encoding="utf-8")
            for name in vars(importlib.import_module(f"{exercises.__name__}.{module}").build(course)):
                for method in ("check", "hint", "solution"):
                    assert f"ex.{name}.{method}(" in text, f"{source.name}: no ex.{name}.{method}"


def test_a_learners_error_is_explained() -> None:
    exercise = Exercise("?", lambda answer: right("") if answer() else wrong(""), ("look",), lambda: True, "")
    verdict = exercise.verdict(lambda: 1 / 0)
    assert verdict is not None
    assert not verdict.right
    assert "ZeroDivisionError: division by zero" in verdict.message
