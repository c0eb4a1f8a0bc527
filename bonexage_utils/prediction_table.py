"""The table that `predict` writes, and what can be told of it before the network is there: this needs no torch."""

import json
from pathlib import Path

import pandas as pd

from bonexage_utils.decoding import read_gray
from bonexage_utils.errors import BoneXageError, printable
from bonexage_utils.files import atomic_file, check_outputs, only_writer, short_name
from bonexage_utils.tables import write_table
from bonexage_utils.tags import COLUMNS as HEADER

SEX_UNKNOWN = "sex unknown: give --sex M or F, a sex column, or --unknown-sex mean"
COLUMNS = ["id", "image", "sex", "bone_age_months", "bone_age", "low_months", "high_months", "error", "note"]
HANDFUL = 20  # films that are told one by one


def outputs(out: Path | str) -> tuple[Path, Path]:
    """The files that `predict_to_file` writes: the table `out`, and its description, of the same name with `.json`.

    Raises BoneXageError where both would be one file, or where one would replace what no earlier prediction wrote.
    """
    out = Path(out)
    if not out.name or out.suffix.lower() == ".json":
        raise BoneXageError(f"{out}: the description of the table goes there; name the table itself, as in ages.csv")
    description = out.with_suffix(".json")
    if description.is_file() and not _describes(description, out.name):
        raise BoneXageError(f"{description}: the description of {out.name} would be written over it; name another "
                            "table")
    if out.is_file() and not _is_ours(out):
        raise BoneXageError(f"{out}: holds something else than predictions, or more; name another table")
    return out, description


def parts_of(out: Path) -> Path:
    """The folder where a prediction that is stopped puts its films aside."""
    return out.with_name(f".{short_name(out)}.parts")


def refuse_parts(out: Path) -> None:
    """Raise BoneXageError where a stopped prediction of `out` could be gone on with."""
    if any(parts_of(out).glob("*.json")):
        raise BoneXageError(f"{out}: a stopped prediction put films aside; go on with --resume, or remove "
                            f"{parts_of(out)}")


def known_error(row: dict, needs_sex: bool) -> str:
    """Why a film (`sex`, `error`) will get no age, or nothing: it cannot be used, or its sex is unknown and needed."""
    return row.get("error") or (SEX_UNKNOWN if needs_sex and row["sex"] not in ("F", "M") else "")


def all_fail(films: pd.DataFrame, needs_sex: bool) -> pd.DataFrame | None:
    """The table of predictions for a handful of films of which none can be predicted; None for any other."""
    errors: list[str] = []
    for row in films.to_dict("records") if len(films) <= HANDFUL else ():
        error = known_error(row, needs_sex)
        try:
            if not error:
                read_gray(row["image"])
                return None
        except BoneXageError as reason:
            error = str(reason)
        errors.append(error)
    header = [name for name in HEADER if name in films]
    return films.assign(error=errors, note="").reindex(columns=[*COLUMNS, *header]) if errors else None


def save_failures(table: pd.DataFrame, out: Path | str) -> None:
    """Write the table of `all_fail`. There is no network to describe beside it.

    Raises BoneXageError when `outputs` or `files.check_outputs` refuse `out`, or another process writes it.
    """
    out, description = outputs(out)
    check_outputs([out, description], table["image"])
    with only_writer(description, out):
        refuse_parts(out)
        with atomic_file(out) as temporary:
            write_table(table, temporary)
        description.unlink(missing_ok=True)


def _describes(path: Path, table: str) -> bool:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return "table_sha256" in stored and stored.get("table", table) == printable(table)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return False


def _is_ours(table: Path) -> bool:
    names = ",".join([*COLUMNS, *HEADER])
    with open(table, "rb") as file:
        start = file.read(len(names) + 2).decode(errors="replace")
    before = [name for name in COLUMNS if name != "note"]  # tables had no notes once
    return not start.strip("\r\n") or start.splitlines()[0].split(",") in (COLUMNS, [*COLUMNS, *HEADER], before)
