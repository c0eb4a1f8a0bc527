"""What a data folder is: its layout, its label table and its four splits."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from bonexage_utils.errors import BoneXageError

SPLITS = ("train", "selection", "calibration", "test")
MAX_MONTHS = 240.0

# The salt makes our splits ours: a hash of the bare id would agree with anybody else's.
SPLIT_SALT = "bonexage-1"
# Shares of a training table that has to provide a split itself: test, calibration, selection; the rest trains.
SPLIT_SHARE = 0.08

# Names in circulation (Kaggle `kmader/rsna-bone-age`, flat copies of it, the RSNA archives), lower case.
ID_COLUMNS = ("id", "image id", "case id")
MONTHS_COLUMNS = ("boneage", "bone age (months)", "ground truth bone age (months)")
SEX_COLUMNS = ("male", "sex")
SEX_VALUES = {"m": "M", "male": "M", "true": "M", "1": "M", "f": "F", "female": "F", "false": "F", "0": "F"}

SETS = ("training", "validation", "test")


@dataclass(frozen=True)
class Cohort:
    """A folder of radiographs and what is known of each.

    `table` has one row per film: `id` (str), `image` (path, str), `months` (float, 0–240, NaN if unlabelled),
    `sex` ("M" or "F") and `split` ("train", "selection", "calibration", "test", or "unlabelled").
    `label_hashes` maps each label file's name to the SHA-256 of its text with LF line ends.
    """

    root: Path
    table: pd.DataFrame
    label_hashes: dict[str, str]

    def split(self, name: str) -> pd.DataFrame:
        """The rows of one split, in a fixed order, with a fresh index."""
        return self.table[self.table["split"] == name].reset_index(drop=True)

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        counts = self.table["split"].value_counts()
        parts = ", ".join(f"{name} {counts[name]:,}" for name in (*SPLITS, "unlabelled") if name in counts)
        return f"Cohort of {len(self):,} films in {self.root.name}: {parts}"


def parse_sex(value: object) -> str | None:
    """ "M" or "F" for the spellings of `SEX_VALUES` (any case); None for everything else, NaN included."""
    return SEX_VALUES.get(str(value).strip().lower())


def split_of(film_id: str, provided: frozenset[str] = frozenset()) -> str:
    """The split of a film of the training table, decided by a salted SHA-256 of its id alone.

    `provided` names the splits that an official set already fills; their share of the hash line then trains.
    Adding or removing other films therefore never moves this one.
    """
    digest = hashlib.sha256(f"{SPLIT_SALT}:{film_id}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    for number, name in enumerate(("test", "calibration", "selection"), start=1):
        if position < number * SPLIT_SHARE:
            return "train" if name in provided else name
    return "train"


def read_labels(path: Path | str) -> pd.DataFrame:
    """Read a label table: columns `id` (str), `months` (float or NaN) and `sex` ("M"/"F"), rows as in the file.

    Raises BoneXageError for an unreadable table, an absent column, a missing or repeated id, an age that is not
    a number from 0 to 240 months, or a sex that is not one of the known spellings.
    """
    path = Path(path)
    try:
        raw = pd.read_csv(path, dtype=str, sep=None, engine="python", encoding="utf-8-sig")
    except (OSError, ValueError, pd.errors.ParserError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BoneXageError(f"{path}: not a readable label table ({reason}); save it as CSV in UTF-8") from None
    raw.columns = [str(name).strip().lower() for name in raw.columns]

    def column(kind: str, names: tuple[str, ...], required: bool = True) -> pd.Series | None:
        for name in names:
            if name in raw.columns:
                return raw[name].str.strip()
        if required:
            found = ", ".join(raw.columns[:8])
            raise BoneXageError(
                f"{path}: no {kind} column; name it '{names[0]}' (found: {found})"
            )
        return None

    def refuse(bad: pd.Series, what: str, remedy: str) -> None:
        if bad.any():
            rows = [int(i) + 2 for i in bad.to_numpy().nonzero()[0][:3]]  # +2: header, and lines count from 1
            values = ", ".join(f"line {row}" for row in rows)
            more = f" and {int(bad.sum()) - 3} more" if bad.sum() > 3 else ""
            raise BoneXageError(f"{path}: {what} at {values}{more}; {remedy}")

    ids = column("film id", ID_COLUMNS)
    sex_text = column("sex", SEX_COLUMNS)
    months_text = column("bone age", MONTHS_COLUMNS, required=False)
    refuse(ids.isna() | (ids == ""), "no film id", "give every row the name of its image without ending")
    refuse(ids.duplicated(keep=False), "the same id twice", "keep one row per film")

    sex = sex_text.map(parse_sex)
    refuse(sex.isna(), "unknown sex", "write True/False under 'male', or M/F under 'sex'")

    if months_text is None:
        months = pd.Series(float("nan"), index=raw.index)
    else:
        months = pd.to_numeric(months_text, errors="coerce")
        # Not `~between`: a comparison with NaN must refuse, not pass.
        refuse(~((months >= 0) & (months <= MAX_MONTHS)), f"an age that is not 0–{MAX_MONTHS:g} months",
               "give the bone age in months as a number")
    return pd.DataFrame({"id": ids, "months": months.astype(float), "sex": sex})


def _label_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def _find_set(root: Path, name: str) -> tuple[Path, Path] | None:
    """The label file and the image folder of one set, flat or nested as Kaggle unpacks it; None if absent."""
    stem = f"boneage-{name}-dataset"
    labels, folder = root / f"{stem}.csv", root / stem
    if not labels.is_file() or not folder.is_dir():
        return None
    nested = folder / stem
    return labels, nested if nested.is_dir() else folder


def load_cohort(root: Path | str) -> Cohort:
    """Load a folder in the RSNA layout, flat or nested, and split it.

    Expects `boneage-training-dataset.csv` beside `boneage-training-dataset/ID.png`; `validation` and `test` sets
    of the same form are used where present. An official validation set becomes half selection and half
    calibration; a labelled official test set is the test. Whether each image can be read shows when it is read.

    Raises BoneXageError when the folder is absent, is not such a folder, or its labels cannot be trusted.
    """
    root = Path(root)
    if not root.is_dir():
        raise BoneXageError(f"{root}: no such folder; give the folder that holds boneage-training-dataset.csv")
    found = {name: place for name in SETS if (place := _find_set(root, name))}
    if "training" not in found:
        raise BoneXageError(
            f"{root}: not a cohort; it needs boneage-training-dataset.csv beside the folder boneage-training-dataset"
        )

    tables = {}
    for name, (labels, folder) in found.items():
        table = read_labels(labels)
        table.insert(1, "image", [str(folder / f"{film}.png") for film in table["id"]])
        tables[name] = table
    if tables["training"]["months"].isna().all():
        raise BoneXageError(f"{found['training'][0]}: no bone age column; name it 'boneage', in months")

    provided: set[str] = set()
    if "validation" in tables and tables["validation"]["months"].notna().all():
        provided |= {"selection", "calibration"}
    if "test" in tables and tables["test"]["months"].notna().all():
        provided |= {"test"}
    for name, table in tables.items():
        if name == "training":
            splits = [split_of(film, frozenset(provided)) for film in table["id"]]
        elif table["months"].isna().any():
            splits = ["unlabelled"] * len(table)
        elif name == "test":
            splits = ["test"] * len(table)
        else:
            splits = [_half_of(film) for film in table["id"]]
        table["split"] = splits
    whole = pd.concat(tables.values(), ignore_index=True)
    twice = whole["id"].duplicated(keep=False)
    if twice.any():
        raise BoneXageError(
            f"{root}: film {whole.loc[twice, 'id'].iloc[0]} is in two of the label files; keep each film in one"
        )
    hashes = {labels.name: _label_hash(labels) for labels, _ in found.values()}
    return Cohort(root=root, table=whole, label_hashes=hashes)


def _half_of(film_id: str) -> str:
    """Half of an official validation set selects, half calibrates, again by the salted hash."""
    digest = hashlib.sha256(f"{SPLIT_SALT}:validation:{film_id}".encode()).digest()
    return "selection" if digest[0] < 128 else "calibration"


def sample_cohort(cohort: Cohort, films: int) -> Cohort:
    """The same cohort with `films` films, chosen by a salted hash of the id: the same ones every time."""
    order = cohort.table["id"].map(lambda film: hashlib.sha256(f"{SPLIT_SALT}:sample:{film}".encode()).digest())
    kept = order.sort_values().index[:films]
    return replace(cohort, table=cohort.table.loc[sorted(kept)].reset_index(drop=True))


def balance(cohort: Cohort) -> pd.DataFrame:
    """Films, share of boys and quartiles of age (months) per split: the balance is reported, not forced."""
    rows = []
    for name, part in cohort.table.groupby("split", sort=False):
        rows.append({
            "split": name,
            "films": len(part),
            "boys": (part["sex"] == "M").mean(),
            **{f"age q{q}": part["months"].quantile(q / 100) for q in (25, 50, 75)},
        })
    order = {name: i for i, name in enumerate((*SPLITS, "unlabelled"))}
    return pd.DataFrame(rows).sort_values("split", key=lambda s: s.map(order), ignore_index=True)
