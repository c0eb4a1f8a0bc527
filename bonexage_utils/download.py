"""The RSNA data set from Kaggle, put where the course looks for it and counted, or the steps to do it by hand."""

import importlib
import os
import shutil
from pathlib import Path

from bonexage_utils.cohort import Cohort, load_cohort
from bonexage_utils.errors import BoneXageError
from bonexage_utils.labels import KNOWN_LABELS, label_hash

DATASET = "kmader/rsna-bone-age"

# What the data set unpacks to, and the films in each folder (Halabi et al., Radiology 2019;290:498).
TABLES = ("boneage-training-dataset.csv", "boneage-test-dataset.csv")
FILMS = {"boneage-training-dataset": 12_611, "boneage-test-dataset": 200}

BY_HAND = f"""\
By hand, with a free Kaggle account and a browser:
  1. open kaggle.com/datasets/{DATASET}, accept its terms, and download it (about 10 GB)
  2. unzip it into {{out}}, so that {{out}}/boneage-training-dataset.csv is there
  3. bonexage check {{out}}"""


def download(out: Path | str) -> Cohort:
    """Get the RSNA data set into `out` with kagglehub, and check it; what is there already is not fetched again.

    kagglehub finds its credentials in its own environment variables and files. It downloads into `out/.kagglehub`,
    where an interrupted download goes on, and from there everything is moved into place. With KAGGLEHUB_CACHE set, or
    on Colab, the data set stays where kagglehub keeps it and is linked. Either way the films lie on the disk once.

    Raises BoneXageError when kagglehub is not installed or fails, when `out` holds another cohort, and when counts or
    the hash of the training labels are not those of the data set.
    """
    out = Path(out)
    absent = [name for name in (*TABLES, *FILMS) if not (out / name).exists()]
    if TABLES[0] not in absent:
        _check_labels(out)
    if absent:
        _place(_fetch(out), out, absent)
    _check_labels(out)
    cohort = load_cohort(out)
    folders = [Path(image).relative_to(out).parts[0] for image in cohort.table["image"] if Path(image).is_file()]
    for name, expected in FILMS.items():
        if folders.count(name) != expected:
            raise BoneXageError(f"{out / name}: {folders.count(name):,} films instead of {expected:,}; remove this "
                                "folder and run it again")
    return cohort


def _check_labels(out: Path) -> None:
    digest = label_hash(out / TABLES[0])
    if digest not in KNOWN_LABELS:
        raise BoneXageError(f"{out / TABLES[0]}: not RSNA's training labels (SHA-256 {digest}); give another folder")


def _fetch(out: Path) -> Path:
    try:
        kagglehub = importlib.import_module("kagglehub")
    except ImportError:
        raise BoneXageError("kagglehub is not installed; pip install kagglehub, or download by hand") from None
    out.mkdir(parents=True, exist_ok=True)
    given = os.environ.get("KAGGLEHUB_CACHE")
    # Beside the goal: within one file system a move costs nothing.
    os.environ["KAGGLEHUB_CACHE"] = given or str(out.resolve() / ".kagglehub")
    try:
        return Path(kagglehub.dataset_download(DATASET))
    except Exception as error:  # whatever network, credentials and disk can do
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise BoneXageError(f"{DATASET}: download failed ({reason}); check the network and Kaggle's credentials and "
                            "run it again, or download by hand") from None
    finally:
        os.environ.pop("KAGGLEHUB_CACHE")
        os.environ.update({"KAGGLEHUB_CACHE": given} if given else {})


def _place(source: Path, out: Path, names: list[str]) -> None:
    missing = [name for name in names if not (source / name).exists()]
    if missing:
        raise BoneXageError(f"{source}: the download has no {missing[0]}; remove that folder and run it again")
    cache = out.resolve() / ".kagglehub"
    ours = source.resolve().is_relative_to(cache)
    try:
        for name in names:
            if ours:
                os.rename(source / name, out / name)
            else:
                (out / name).symlink_to((source / name).resolve())
    except OSError as error:
        raise BoneXageError(f"{out}: cannot put {name} there ({error.strerror}); give the folder {source} to the "
                            "commands instead") from None
    if ours:
        shutil.rmtree(cache, ignore_errors=True)
