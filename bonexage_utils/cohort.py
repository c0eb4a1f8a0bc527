"""What a data folder is: its layout, its films and labels, and its four splits."""

import hashlib
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from bonexage_utils.decoding import DICOM_ENDINGS, FILMS, IMAGE_ENDINGS, OBJECTS, file_kind
from bonexage_utils.errors import BoneXageError, printable
from bonexage_utils.labels import (
    AS_IT_SAYS,
    TableFormat,
    before_the_spreadsheet,
    film_id,
    in_another_spelling,
    label_hash,
    no_ages,
    read_labels,
    spreadsheet_line,
)

SPLITS = ("train", "selection", "calibration", "test")
UNKNOWN_SPLIT = "unknown"  # of films in a label table alone: only its folder tells which official sets go with it

# The salt makes our splits ours: a hash of the bare id would agree with anybody else's.
SPLIT_SALT = "bonexage-1"
# Shares of a training table that has to provide a split itself: test, calibration, selection; the rest trains.
SPLIT_SHARE = 0.08

# Names in circulation: Kaggle and flat copies of it first, then the archives of the RSNA, then Deeplasia's copy.
LABEL_FILES = {
    "training": ("boneage-training-dataset.csv", "train.csv"),
    "validation": ("boneage-validation-dataset.csv", "Validation Dataset.csv"),
    "test": ("boneage-test-dataset.csv", "Bone age ground truth.csv", "Bone age ground truth.xlsx", "rsna_test.csv"),
}
OWN_LABEL_FILES = ("labels.csv", "labels.xlsx")  # of a folder in a layout of nobody's but its owner
IMAGE_FOLDER = re.compile(r"boneage-(training|validation|test)-dataset(?:-\d)?|(Test) Set Images")

# Beside what is hidden, what systems and archives leave behind (macOS, disk stations, Windows, Linux): no films.
# Casefolded, as their file systems are.
LEFT_BEHIND = {"__macosx", "@eadir", "#recycle", "#snapshot", "@recycle", "$recycle.bin", "recycler", "recycled",
               "system volume information", "lost+found", "~snapshot", "@recently-snapshot", "@__thumb", "@tmp",
               "network trash folder", "temporary items", "thumbs.db", "desktop.ini"}

# RSNA's ids: training and validation interleave here and together leave out those of the test.
RSNA_IDS, RSNA_TEST_IDS, RSNA_VALIDATION_FILMS = range(1377, 15613), range(4360, 4560), 1425


@dataclass(frozen=True)
class Cohort:
    """A folder of radiographs and what is known of each.

    `table` has one row per film: `id` (str), `image` (path, str), `months` (float, 0–240, NaN if unlabelled),
    `sex` ("M" or "F") and `split` ("train", "selection", "calibration", "test", "unlabelled", or `UNKNOWN_SPLIT`).
    `label_hashes` maps each label file's name to its `labels.label_hash`; `label_files` are their paths.
    """

    root: Path
    table: pd.DataFrame
    label_hashes: dict[str, str]
    label_files: tuple[Path, ...] = ()

    def split(self, name: str) -> pd.DataFrame:
        """The rows of one split, in a fixed order, with a fresh index."""
        return self.table[self.table["split"] == name].reset_index(drop=True)

    def without_labels(self, *splits: str) -> list[str]:
        """Those of `splits` that hold no film with a label."""
        there = set(self.table.loc[self.table["months"].notna(), "split"])
        return [name for name in splits if name not in there]

    @property
    def name(self) -> str:
        """That of its folder, printable."""
        return printable(self.root.name)

    @property
    def files(self) -> list[Path]:
        """Every file it was read from: label tables and films."""
        return [*self.label_files, *map(Path, filter(None, self.table["image"]))]

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        counts = self.table["split"].value_counts()
        parts = ", ".join(f"{name} {counts[name]:,}" for name in (*SPLITS, "unlabelled") if name in counts)
        return f"Cohort of {len(self):,} films in {self.name}: {parts}"


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


class Folder(NamedTuple):
    """What a folder holds: its films, in order, the names of all, and how many of each other kind of file."""

    path: Path
    films: list[os.DirEntry]
    names: set[str]
    others: Counter[str]


def folders(root: Path, depth: float = float("inf")) -> Iterator[Folder]:
    """`root` and the folders in it down to `depth`.

    A film is what is named as an image (and is no DICOM object without one), and what is one by its first bytes. What
    is hidden or in `LEFT_BEHIND` is passed over. A folder that links lead to is visited once under each of its names,
    so that a circle of links ends. Raises BoneXageError for a folder that cannot be listed.
    """
    waiting, seen = [(root, 0)], set()
    while waiting:
        folder, level = waiting.pop()
        place = os.path.realpath(folder), folder.name
        if place in seen:
            continue
        seen.add(place)
        try:
            with os.scandir(folder) as listing:
                entries = sorted((entry for entry in listing if not entry.name.startswith(".")
                                  and entry.name.casefold() not in LEFT_BEHIND), key=lambda entry: entry.name)
        except OSError as error:
            raise BoneXageError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from None
        inner = {entry.name for entry in entries if _is_folder(entry)}
        kinds = {entry: _kind(entry) for entry in entries if entry.name not in inner}
        yield Folder(folder, [entry for entry, kind in kinds.items() if kind in FILMS],
                     {entry.name for entry in entries}, Counter(kind for kind in kinds.values() if kind not in FILMS))
        if level < depth:
            waiting += [(folder / name, level + 1) for name in sorted(inner, reverse=True)]


def _kind(entry: os.DirEntry) -> str:
    """As `file_kind`; but what is named as a film is one, and says itself why it cannot be read."""
    ending = entry.name.lower().endswith
    if ending(IMAGE_ENDINGS) and not ending(DICOM_ENDINGS):
        return FILMS[0]
    kind = file_kind(entry.path)
    return FILMS[0] if ending(DICOM_ENDINGS) and kind not in OBJECTS.values() else kind


def _is_folder(entry: os.DirEntry) -> bool:
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()  # of a link to itself DirEntry raises


def is_cohort(root: Path) -> bool:
    """Whether a folder is meant as a cohort: by an RSNA label table, a `train.csv` beside a cohort's films, or one of
    `OWN_LABEL_FILES`."""
    return has_rsna_labels(root) or bool(own_labels(root))


def has_rsna_labels(root: Path) -> bool:
    """Whether a folder holds a training table under one of RSNA's names, and the films of it."""
    whole, flat = (os.path.isfile(root / name) for name in LABEL_FILES["training"])
    return whole or (flat and bool(_Layout(root).places["training"]))


def own_labels(root: Path) -> list[Path]:
    """The label tables in a folder that are of `OWN_LABEL_FILES`."""
    return [root / name for name in OWN_LABEL_FILES if os.path.isfile(root / name)]


def _has_training_labels(names: set[str]) -> bool:
    """Whether a folder with `names` in it is a cohort's, so far as they tell; any `train.csv` may lie among films."""
    whole, flat = (name in names for name in LABEL_FILES["training"])
    return whole or (flat and any(map(IMAGE_FOLDER.fullmatch, names)))


class _Layout:
    """Where a cohort's files lie: label `tables` and image `places` per set, `films` by id over all places.

    With `labels`, that table is the training's, and every film in `root` and its folders may be one of its films.
    """

    def __init__(self, root: Path, labels: Path | None = None) -> None:
        self.tables: dict[str, list[Path]] = {name: [] for name in LABEL_FILES}
        self.places: dict[str, list[Path]] = {name: [] for name in LABEL_FILES}
        self.films: dict[str, list[os.DirEntry]] = {}
        if labels:
            self.tables["training"], self.places["training"] = [labels], [root]
            for _, films, *_ in folders(root):
                self._add(films)
            return
        others: list[Path] = []  # cohorts in this one's folder
        for folder, films, names, _ in folders(root, depth=3):
            if folder != root and _has_training_labels(names):
                others.append(folder)
            if any(folder.is_relative_to(other) for other in others):
                continue
            for name, files in LABEL_FILES.items():
                if name != "training" or folder == root:
                    self.tables[name] += [folder / file for file in files if file in names]
            if match := IMAGE_FOLDER.fullmatch(folder.name):
                # The folder with films comes first: Kaggle's outer folder holds none.
                self.places[(match[1] or match[2]).lower()].insert(0 if films else 99, folder)
                self._add(films)

    def _add(self, films: list[os.DirEntry]) -> None:
        for film in films:
            self.films.setdefault(film_id(film.name), []).append(film)

    def image(self, film: str, folder: Path) -> str:
        """The path of a film; of a missing one, where in `folder` it should be."""
        found = self.films.get(film, [])
        if len({os.path.realpath(entry.path) for entry in found}) > 1:
            raise BoneXageError(f"{found[0].path}: film {film} is also in {found[1].path}; keep one of them, "
                                "or name them differently")
        return found[0].path if found else str(folder / f"{film}.png")


def _is_rsna_validation(table: pd.DataFrame) -> bool:
    """Whether these are RSNA's validation labels, which some packages ship under the name of the test's."""
    numbers = {int(film) for film in table["id"] if re.fullmatch(r"[0-9]{4,5}", film)}
    return len(numbers) == len(table) == RSNA_VALIDATION_FILMS and numbers <= set(RSNA_IDS) - set(RSNA_TEST_IDS)


def _merge(root: Path, tables: list[pd.DataFrame]) -> pd.DataFrame:
    """One row per film of all the tables of a set; a table without ages, as Kaggle's of the test, adds no more."""
    rows = pd.concat(tables, ignore_index=True)
    for labels in (rows[["id", "sex"]], rows.loc[rows["months"].notna(), ["id", "months"]]):
        labels = labels.drop_duplicates()
        if labels["id"].duplicated().any():
            film = labels.loc[labels["id"].duplicated(), "id"].iloc[0]
            raise BoneXageError(f"{root}: two label files disagree on film {film}; keep one of them")
    return rows.sort_values("months", key=pd.Series.isna, kind="stable").drop_duplicates("id").sort_index()


def load_cohort(root: Path | str, labels: Path | str | None = None, tables: TableFormat = AS_IT_SAYS,
                tell: Callable[[str], None] = warnings.warn) -> Cohort:
    """Load a folder in a layout of RSNA's, or one with a label table of its own, and split it.

    RSNA's: `boneage-training-dataset.csv` (or `train.csv`) in `root` beside the folder `boneage-training-dataset`,
    which holds ID.png, or a folder of the same name that does, as Kaggle unpacks it. Validation and test sets are
    found under the names of `LABEL_FILES` and `IMAGE_FOLDER`, in `root` or in a folder in it, as the archives of
    the RSNA unpack; one that has labels but neither a folder nor a film is left out. RSNA's validation labels are known
    for what they are under the test's name too. An official validation set becomes half selection and half
    calibration; a labelled official test set is the test.

    Its own: `labels` names the table (from here, or else from `root`), which is then the only one; without RSNA's, one
    of `OWN_LABEL_FILES` in `root` is taken. Its films lie in `root` or any folder in it.

    `tables` is what there is to know of the tables. A film may have any ending of `IMAGE_ENDINGS`, in any case, and be
    a link. Whether each image is there and can be read shows when it is read. `tell` gets a line where ids are read as
    `labels.before_the_spreadsheet` says.

    Raises BoneXageError when the folder is absent, is not such a folder, its labels cannot be trusted, two tables
    or two images claim the same film, or a film that is not there is there in another spelling.
    """
    root = Path(root)
    if not os.path.isdir(root):
        raise BoneXageError(f"{root}: no such folder; give the folder that holds boneage-training-dataset.csv")
    layout = _Layout(root, None if labels is None else label_file(root, labels))
    if not layout.tables["training"] and (own := own_labels(root)):
        if len(own) > 1:
            raise BoneXageError(f"{own[0]}: {own[1].name} lies beside it; name the one you mean with --labels")
        layout = _Layout(root, own[0])
    if not layout.tables["training"] or not layout.places["training"]:
        raise BoneXageError(f"{root}: not a cohort; it needs boneage-training-dataset.csv beside the folder "
                            "boneage-training-dataset, or a label table that --labels names")
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in LABEL_FILES}
    read: dict[Path, str] = {}  # label tables and their hashes
    for named, path in ((name, path) for name, paths in layout.tables.items() for path in paths):
        table = read_labels(path, tables)
        if mended := before_the_spreadsheet(table["id"], layout.films):
            table["id"] = table["id"].replace(mended)
            tell(spreadsheet_line(mended, path))
        name = "validation" if named == "test" and _is_rsna_validation(table) else named
        places = layout.places[name] or layout.places[named]
        if places or any(film in layout.films for film in table["id"]):
            folder = places[0] if places else path.parent
            table.insert(1, "image", [layout.image(film, folder) for film in table["id"]])
            parts[name].append(table)
            read[path] = label_hash(path, tables)
    sets = {name: _merge(root, found) for name, found in parts.items() if found}
    if sets["training"]["months"].isna().all():
        raise no_ages(layout.tables["training"][0])

    labelled = {name for name, table in sets.items() if table["months"].notna().all()}
    provided = frozenset(("selection", "calibration") * ("validation" in labelled) + ("test",) * ("test" in labelled))
    for name, table in sets.items():
        if name == "training":
            table["split"] = [split_of(film, provided) for film in table["id"]]
        elif name not in labelled:
            table["split"] = "unlabelled"
        else:
            table["split"] = "test" if name == "test" else [_half_of(film) for film in table["id"]]
    whole = pd.concat(sets.values(), ignore_index=True)
    twice = whole["id"].duplicated(keep=False)
    if twice.any():
        raise BoneXageError(
            f"{root}: film {whole.loc[twice, 'id'].iloc[0]} is in two of the label files; keep each film in one"
        )
    for film, other in in_another_spelling(whole["id"], layout.films).items():
        raise BoneXageError(f"{root}: no image for film {film}, but {layout.films[other][0].path}, in another "
                            "spelling; name the film alike in the label table")
    hashes = {_name_in(root, path): digest for path, digest in read.items()}
    return Cohort(root=root, table=whole, label_hashes=hashes, label_files=tuple(read))


def label_file(root: Path, labels: Path | str) -> Path:
    """The table that a user names beside `root`: a path from here, or from `root`. Raises BoneXageError if both are
    there and not the same, or neither is."""
    there = [path for path in (Path(labels), root / labels) if os.path.isfile(path)]
    if not there:
        raise BoneXageError(f"--labels '{labels}': no such file; name a label table, CSV or .xlsx")
    if len(there) > 1 and not os.path.samefile(*there):
        raise BoneXageError(f"{labels}: so named are {there[0].absolute()} and {there[1]}; give --labels a longer path")
    return there[0]


def _name_in(root: Path, path: Path) -> str:
    """The name of a file as a checkpoint may tell it: as seen from the folder, no path of somebody's machine."""
    inside = path.is_relative_to(root)
    return printable((path.relative_to(root) if inside else Path(path.name)).as_posix())


def _half_of(film_id: str) -> str:
    """Half of an official validation set selects, half calibrates, again by the salted hash."""
    digest = hashlib.sha256(f"{SPLIT_SALT}:validation:{film_id}".encode()).digest()
    return "selection" if digest[0] < 128 else "calibration"
