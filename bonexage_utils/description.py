"""What a file says of the network it holds, checked before anything is built from it: a file may come from anywhere."""

import math
import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, replace
from itertools import pairwise
from typing import Any

from bonexage_utils.batches import SEX_CODE
from bonexage_utils.errors import BoneXageError
from bonexage_utils.images import Preprocessing
from bonexage_utils.model import MAX_AGE, OUTPUTS, POOLINGS, WEIGHTS, is_backbone
from bonexage_utils.settings import LIMITS

COUNT = 10**12


@dataclass(frozen=True)
class Rule:
    """What one value has to be: `words` for people, and `holds` for any value that JSON can give."""

    words: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class Section:
    """A table of named rules. `whole`: every name must be there; `closed`: no other may be; `optional`: it may be null.
    `agree` is a rule on the table whose names hold."""

    rules: dict[str, "Rule | Section"]
    whole: bool = True
    closed: bool = True
    optional: bool = False
    agree: Rule | None = None


def number(low: float, high: float) -> Rule:
    kinds = (int, float)  # not bool, which is an int to Python
    return Rule(f"a number from {low:g} to {high:g}", lambda value: type(value) in kinds and low <= value <= high)


def integer(low: int, high: int) -> Rule:
    return Rule(f"a whole number from {low:,} to {high:,}", lambda value: type(value) is int and low <= value <= high)


def one_of(*choices: Any) -> Rule:
    return Rule(" or ".join(map(repr, choices)), lambda value: (type(value), value) in [(type(c), c) for c in choices])


def each(rule: Rule, names: tuple[str, ...] | None = None) -> Rule:
    """A table of such values under any names, or some of `names`."""
    return Rule(f"a table with {rule.words} for each of its names", lambda value: isinstance(value, dict) and all(
        (names is None or name in names) and rule.holds(part) for name, part in value.items()))


def _whole(section: Section) -> Section:
    rules = {name: _whole(rule) if isinstance(rule, Section) else rule for name, rule in section.rules.items()}
    return replace(section, rules=rules, whole=True)


FLAG = Rule("true or false", lambda value: type(value) is bool)
TEXT = Rule("a text", lambda value: isinstance(value, str))
SHA256 = Rule("64 hexadecimal digits", lambda value: TEXT.holds(value) and bool(re.fullmatch("[0-9a-f]{64}", value)))
MONTHS = number(0, MAX_AGE)
WIDTH = number(0, 100 * MAX_AGE)  # an output without bounds may be far off

MODEL = Section({
    "backbone": Rule("the name of a timm model", is_backbone), "pooling": one_of(*POOLINGS), "use_sex": FLAG,
    "output": one_of(*OUTPUTS), "max_age": number(1, MAX_AGE), "months_mean": MONTHS, "months_std": MONTHS})
# The rules that this version goes by are the only ones it can repeat.
PREPROCESSING = Section({
    "image_size": integer(1, LIMITS["--image-size"][1]), "mean": number(0, 1), "std": number(0.001, 1),
    **{field.name: one_of(field.default) for field in fields(Preprocessing) if field.default is not MISSING}})
# Nothing here changes an age; a report tells it.
TRAINING = Section({
    "cohort": TEXT, "label_hashes": each(TEXT), "films": integer(0, COUNT), "parameters": integer(0, COUNT),
    "median_months_by_sex": each(MONTHS, tuple(SEX_CODE)), "epoch": integer(0, COUNT),
    "selection_mae_months": number(0, COUNT), "config": Section({
        "epochs": integer(1, COUNT), "batch_size": integer(1, COUNT), "grad_accum": integer(1, COUNT),
        "lr": number(0, 1e38), "loss": TEXT, "seed": integer(-2**64, 2**64), "weights": one_of(*WEIGHTS)},
        whole=False, closed=False),
}, whole=False, closed=False)
_HALF_WIDTHS = Rule("a list of half-widths or null", lambda value: isinstance(value, list) and all(
    width is None or WIDTH.holds(width) for width in value))
CALIBRATION = Section({
    "coverage": number(1e-6, 1 - 1e-6), "tta": FLAG, "max_age": number(1, MAX_AGE), "films": integer(1, COUNT),
    "splits": each(integer(0, COUNT)), "half_width": WIDTH,
    "bands": Rule("a list of rising months", lambda value: isinstance(value, list) and len(value) > 1 and all(
        map(MONTHS.holds, value)) and all(low < high for low, high in pairwise(value))),
    "groups": Section({"F": _HALF_WIDTHS, "M": _HALF_WIDTHS})}, optional=True, agree=Rule(
        "a table with a half-width for each band", lambda value: all(
            len(widths) == len(value["bands"]) - 1 for widths in value["groups"].values())))
_SAME_MAX_AGE = Rule("one whose calibration.max_age is its model.max_age", lambda value: (
    value["calibration"] is None or value["calibration"]["max_age"] == value["model"]["max_age"]))
DESCRIPTION = Section({
    "format": one_of(1), "model": MODEL, "preprocessing": PREPROCESSING,
    "sex_coding": Rule(f"{SEX_CODE}", lambda value: value == SEX_CODE), "training": TRAINING,
    "calibration": CALIBRATION}, agree=_SAME_MAX_AGE)
# What stands in the JSON file beside a table of predictions, as far as a report tells it.
PROVENANCE = Section({
    **DESCRIPTION.rules, "training": _whole(TRAINING), "sha256": SHA256, "network_sha256": SHA256,
    "tta": FLAG}, closed=False, agree=_SAME_MAX_AGE)
# The state of a run that can be gone on with. What else a run keeps there is its own.
STATE = Section({"format": one_of(1), "progress": Section({
    "epoch": integer(0, COUNT), "batch": integer(0, COUNT), "update": integer(0, COUNT),
    "best": number(0, math.inf),  # before the first epoch's end
    "sums": Rule("three numbers", lambda value: isinstance(value, list) and len(value) == 3 and all(
        map(number(0, COUNT**2).holds, value))),
    "log": Rule("a list of epochs", lambda value: isinstance(value, list) and all(isinstance(r, dict) for r in value)),
    "scaler": Section({}, closed=False), "config": Section({}, closed=False)}, closed=False)})


def check_description(description: Any, section: Section = DESCRIPTION, name: str = "") -> None:
    """Raises BoneXageError, in one line, for the first thing in `description`, as JSON gives it, that breaks a rule of
    `section`: an absent or unknown name, or a value of another kind or range. `name` is where it stands."""
    if section.optional and description is None:
        return
    place = f"{name}." if name else ""
    if not isinstance(description, dict):
        raise BoneXageError(f"{name or 'its description'} is {_short(description)}, not a table of settings")
    for key, rule in section.rules.items():
        if key not in description:
            if section.whole:
                raise BoneXageError(f"{place}{key} is absent")
        elif isinstance(rule, Section):
            check_description(description[key], rule, place + key)
        elif not rule.holds(description[key]):
            raise BoneXageError(f"{place}{key} is {_short(description[key])}, not {rule.words}")
    unknown = [key for key in description if key not in section.rules]
    if section.closed and unknown:
        raise BoneXageError(f"{place}{_short(unknown[0])[1:-1]} is a setting that this version does not know")
    if section.agree and not section.agree.holds(description):
        raise BoneXageError(f"{name or 'its description'} is {_short(description)}, not {section.agree.words}")


def _short(value: Any) -> str:
    """A value as one short line of plain characters."""
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."
