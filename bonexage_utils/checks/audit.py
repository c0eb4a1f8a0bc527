"""What is wrong with a cohort's films: each is read once, then compared with all others. Nothing is changed."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from bonexage_utils.cohort import RSNA_TEST_IDS, SPLITS, Cohort, folders
from bonexage_utils.decoding import HEAD, PNG_SIGNATURE, kind_of, read_gray
from bonexage_utils.errors import BoneXageError
from bonexage_utils.figures import Picture, montage
from bonexage_utils.files import atomic_file, only_writer
from bonexage_utils.images import letterbox, read_films
from bonexage_utils.labels import MAX_MONTHS, RSNA_TEST_LABELS, RSNA_TRAINING_LABELS, film_id
from bonexage_utils.orientation import TWO_HANDS, find_turned, is_blank, thumbnail
from bonexage_utils.tables import write_table
from bonexage_utils.tags import all_tags

# A fault stops a run or makes its result wrong; a note is worth checking, and may be right as it is.
FAULT, NOTE = "fault", "note"
SEVERITY = {
    "missing": FAULT, "truncated": FAULT, "unreadable": FAULT, "blank": FAULT, "impossible age": FAULT,
    "unknown sex": FAULT, "other than its label": FAULT, "in two splits": FAULT, "duplicate file": FAULT,
    "duplicate pixels": FAULT,
    "near-duplicate": NOTE, "inverted": NOTE, "rotated": NOTE, "mirrored": NOTE, "two hands": NOTE, "no label": NOTE,
    "odd format": NOTE, "odd size": NOTE, "odd aspect": NOTE, "secondary capture": NOTE, "label file": NOTE,
}
PNG_COLOURS = {0: "grey", 2: "colour", 3: "palette", 4: "grey with alpha", 6: "colour with alpha"}

# Correlation of two thumbnails without their coarse shades. Among the 79.5 million pairs of RSNA's training films (at
# 100 px) the largest is 0.946, among 2.9 million of phantoms 0.957, and those are different children; a film exported
# again at another size, contrast and brightness has 0.985 and more. One cut closer by 2 % has about 0.9: not found.
NEAR = 0.97
COARSE_SIGMA = 2.0  # px of a thumbnail
# Odd size or aspect: so many robust standard deviations from the cohort's median, on a log scale, which are never taken
# smaller than 5 %: six of them are at least a factor of 1.35.
ODD_Z, ODD_LEAST_SD = 6.0, 0.05
MOST_SIGNS = 24  # of an id on the contact sheet
RARE = 0.1  # a format is odd where at most this share of the films has it
RSNA_TRAINING_FILMS = 12_611  # Halabi et al., Radiology 2019;290:498


@dataclass(frozen=True)
class Thumbnail:
    """What is kept of a film: why it cannot be used, or a `thumbnail`, digest, (height, width), format."""

    finding: str = ""
    detail: str = ""
    picture: np.ndarray | None = None
    digest: bytes = b""
    shape: tuple[int, int] = (1, 1)
    format: str = ""


def _thumbnail(film: np.ndarray, path: str) -> Thumbnail:
    small = thumbnail(film)
    if is_blank(small):
        return Thumbnail("blank", f"nearly all grey levels between {small.min()} and {small.max()}")
    digest = hashlib.blake2b(str(film.shape).encode() + film.tobytes(), digest_size=16).digest()
    return Thumbnail("", "", small, digest, film.shape, _format(path))


def _unread(path: str, reason: str) -> Thumbnail:
    if not os.path.isfile(path):
        return Thumbnail("missing", "no such file")
    return Thumbnail("truncated" if "truncated" in reason else "unreadable", reason.removeprefix(f"{path}: "))


def _format(path: str) -> str:
    """Such as "8-bit grey PNG", or "DICOM"."""
    with open(path, "rb") as file:
        head = file.read(HEAD)
    if head.startswith(PNG_SIGNATURE):
        return f"{head[24]}-bit {PNG_COLOURS.get(head[25], 'unknown')} PNG"
    return kind_of(head)


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


def audit(cohort: Cohort, workers: int | None = None) -> pd.DataFrame:
    """Everything that is wrong or odd: `id`, `image`, `finding`, `severity` ("fault" or "note") and `detail`.

    One row per film and finding, faults first, in the order of `SEVERITY`. Reads every film once (`workers` as for
    `images.read_films`) and keeps a thumbnail of each. "Odd", "rotated", "mirrored" and "inverted" mean: unlike the
    rest of this cohort. A duplicate is reported for every film of the group, since none is known to be the original.
    Images that no label names are looked for in the folders of the films; so audit a whole cohort, not a sample of one.
    """
    table = cohort.table.reset_index(drop=True)
    paths = table["image"].tolist()
    read = read_films(paths, lambda film, place: _thumbnail(film, paths[place]), workers)
    thumbnails = [_unread(path, kept) if isinstance(kept, str) else kept for path, kept in zip(
        paths, tqdm(read, total=len(paths), desc="looking at films", unit="film", leave=False, mininterval=0.5),
        strict=True)]
    rows = [(row, one.finding, one.detail) for row, one in enumerate(thumbnails) if one.finding]
    rows += [*_label_rows(table), *_header_rows(table)]
    good = np.array([row for row, one in enumerate(thumbnails) if not one.finding], int)
    if len(good):
        films = table.iloc[good].reset_index(drop=True)
        for check in (_duplicates, _near_duplicates, _orientation, _formats, _sizes):
            rows += [(good[row], *found) for row, *found in check(films, [thumbnails[row] for row in good])]
    ids, images = table["id"].to_numpy(), table["image"].to_numpy()
    found = [(ids[row], images[row], finding, detail) for row, finding, detail in rows]
    found += [*_unlabelled(table), *_label_files(cohort)]
    findings = pd.DataFrame(found, columns=["id", "image", "finding", "detail"]).astype(str)
    findings.insert(3, "severity", findings["finding"].map(SEVERITY))
    order = findings["finding"].map({name: place for place, name in enumerate(SEVERITY)})
    return findings.iloc[order.argsort(kind="stable")].reset_index(drop=True)


Row = tuple[int, str, str]  # row of the table, finding, detail


def _label_rows(table: pd.DataFrame) -> Iterator[Row]:
    """What `load_cohort` refuses, for cohorts that were put together by hand."""
    for row, film in enumerate(table.itertuples()):
        if not (0 <= film.months <= MAX_MONTHS or (film.split == "unlabelled" and np.isnan(film.months))):
            yield row, "impossible age", f"{film.months} months, expected 0–{MAX_MONTHS:g}"
        if film.sex not in ("M", "F"):
            yield row, "unknown sex", f"{film.sex!r}, expected M or F"


def _header_rows(table: pd.DataFrame) -> Iterator[Row]:
    """What a DICOM's header says against its label, or of itself."""
    for row, (sex, tags) in enumerate(zip(table["sex"], all_tags(table["image"]), strict=True)):
        if what := tags.against(sex, "the label"):
            yield row, "other than its label", what
        if tags.is_secondary:
            yield row, "secondary capture", "may differ from what a detector's own films show"


def _duplicates(films: pd.DataFrame, thumbnails: list[Thumbnail]) -> Iterator[Row]:
    ids, images, splits = (films[name].to_numpy() for name in ("id", "image", "split"))
    for rows in films.groupby([one.digest for one in thumbnails]).groups.values():
        if len(rows) == 1:
            continue
        files = {row: hashlib.sha256(Path(images[row]).read_bytes()).digest() for row in rows}
        for row in rows:
            others = [other for other in rows if other != row]
            same = [other for other in others if files[other] == files[row]]
            yield row, "duplicate file" if same else "duplicate pixels", f"as {', '.join(ids[(same or others)[:3]])}"
            if len(set(splits[rows])) > 1:
                yield row, "in two splits", ", ".join(f"{ids[other]} in {splits[other]}" for other in rows[:4])


def _near_duplicates(films: pd.DataFrame, thumbnails: list[Thumbnail], block: int = 1024) -> Iterator[Row]:
    pictures = [one.picture.astype(np.float32) for one in thumbnails]
    fine = np.stack([(p - cv2.GaussianBlur(p, (0, 0), COARSE_SIGMA)).ravel() for p in pictures])
    fine -= fine.mean(axis=1, keepdims=True)
    fine /= np.maximum(np.linalg.norm(fine, axis=1, keepdims=True), 1e-6)
    best: dict[int, tuple[float, int]] = {}
    for start in range(0, len(fine), block):
        alike = fine[start:start + block] @ fine[start:].T
        for i, j in np.argwhere(alike > NEAR) + start:
            if i < j and thumbnails[i].digest != thumbnails[j].digest:
                for row, other in ((i, j), (j, i)):
                    best[row] = max(best.get(row, (0.0, 0)), (float(alike[i - start, j - start]), other))
    ids, splits = films["id"].to_numpy(), films["split"].to_numpy()
    for row, (correlation, other) in sorted(best.items()):
        elsewhere = "" if splits[row] == splits[other] else f", which is in {splits[other]}"
        yield row, "near-duplicate", f"like {ids[other]}{elsewhere} (correlation {correlation:.3f})"


def _orientation(films: pd.DataFrame, thumbnails: list[Thumbnail]) -> Iterator[Row]:
    for row, variant in enumerate(find_turned(np.stack([one.picture for one in thumbnails]))):
        if variant == TWO_HANDS:
            yield row, "two hands", "more like two films side by side than like the other films"
        elif variant:
            finding, remedy = describe(variant)
            yield row, finding, f"more like the other films when {remedy}"


def describe(variant: int) -> tuple[str, str]:
    """A finding ("rotated", "mirrored" or "inverted") and what would mend it, for a variant from 1 to 15."""
    turns, mirrored, inverted = variant % 4, variant // 4 % 2, variant // 8
    steps = [f"turned by {90 * turns}° against the clock"] * bool(turns) + ["mirrored"] * mirrored
    steps += ["inverted"] * inverted
    return "inverted" if inverted else "rotated" if turns else "mirrored", " and ".join(steps)


def _formats(films: pd.DataFrame, thumbnails: list[Thumbnail]) -> Iterator[Row]:
    formats = pd.Series([one.format for one in thumbnails])
    share = formats.map(formats.value_counts(normalize=True))
    for row in np.flatnonzero(share <= RARE):
        yield row, "odd format", f"{formats[row]}, most are {formats.mode()[0]}"


def _sizes(films: pd.DataFrame, thumbnails: list[Thumbnail]) -> Iterator[Row]:
    sides = np.array([one.shape for one in thumbnails], float)
    for finding, values in (("odd size", np.sqrt(sides.prod(axis=1))), ("odd aspect", sides[:, 1] / sides[:, 0])):
        away = np.abs(np.log(values / np.median(values)))
        spread = max(1.4826 * float(np.median(away)), ODD_LEAST_SD)
        for row in np.flatnonzero(away > ODD_Z * spread):
            height, width = thumbnails[row].shape
            yield row, finding, f"{width} × {height} px, {values[row] / np.median(values):.2f} times the median"


def _unlabelled(table: pd.DataFrame) -> Iterator[tuple[str, str, str, str]]:
    named = set(table["image"])
    for folder in sorted(filter(os.path.isdir, {Path(image).parent for image in named})):
        for film in next(folders(folder))[1]:
            if str(path := Path(film.path)) not in named:
                yield film_id(path.name), str(path), "no label", "no row of the label table names it"


def _label_files(cohort: Cohort) -> Iterator[tuple[str, str, str, str]]:
    """Remarks on tables that look like the published ones and are not."""
    hashes, ids = set(cohort.label_hashes.values()), set(cohort.table["id"])
    if "boneage-training-dataset.csv" in cohort.label_hashes and len(ids) >= RSNA_TRAINING_FILMS \
            and RSNA_TRAINING_LABELS not in hashes:
        yield "", "boneage-training-dataset.csv", "label file", "as many films as RSNA's, but not the published labels"
    test = set(cohort.table.loc[cohort.table["split"] == "test", "id"])
    if test == {str(film) for film in RSNA_TEST_IDS} and RSNA_TEST_LABELS not in hashes:
        yield "", "test labels", "label file", "RSNA's test films, but not the weighted mean of six readings; the " \
            "other version in circulation differs by 2.8 months on average"


def summary(findings: pd.DataFrame) -> pd.DataFrame:
    """One row per kind of finding: `finding`, `severity` and how many `films`."""
    kinds = findings.groupby("finding", sort=False)
    return kinds.agg(severity=("severity", "first"), films=("id", "nunique")).reset_index()


def first_findings(findings: pd.DataFrame, each: int = 3) -> pd.DataFrame:
    """The first `each` of each kind: `finding`, `id`, `detail`."""
    return findings.groupby("finding", sort=False).head(each)[["finding", "id", "detail"]]


def contact_sheet(findings: pd.DataFrame, each: int = 6, side: int = 160) -> Picture:
    """The first `each` films of each kind of finding, `side` px wide, under id and finding; white if unreadable.

    Raises ValueError where nothing was found.
    """
    shown = findings[findings["finding"] != "label file"].groupby("finding", sort=False).head(each)
    films = []
    for image in shown["image"]:
        try:
            films.append(letterbox(read_gray(image), side))
        except BoneXageError:
            films.append(np.full((side, side), 255, np.uint8))
    described = "; ".join(f"{row.id} {row.finding}" for row in shown.itertuples())
    names = shown["id"].where(shown["id"].str.len() <= MOST_SIGNS, shown["id"].str[:MOST_SIGNS] + "…")
    return montage(films, [f"{name}\n{finding}" for name, finding in zip(names, shown["finding"], strict=True)],
                   f"Contact sheet of {len(shown)} films that the audit remarks on: {described}.", columns=8, side=1.5)


def outputs(folder: Path | str) -> list[Path]:
    """The files that `write_findings` writes: table and contact sheet."""
    return [Path(folder) / "findings.csv", Path(folder) / "findings.png"]


def write_findings(findings: pd.DataFrame, folder: Path | str) -> None:
    """Write `findings.csv`, and the contact sheet as `findings.png` if there is anything to see.

    Raises BoneXageError while another process writes them.
    """
    table, sheet = outputs(folder)
    with only_writer(table, sheet):
        with atomic_file(table) as path:
            write_table(findings, path)
        sheet.unlink(missing_ok=True)  # of an earlier check
        if len(findings):
            with atomic_file(sheet) as path:
                path.write_bytes(contact_sheet(findings).png)
