"""The start of every notebook: chooses profile, device and cohort, and sets the seeds."""

import hashlib
import os
import platform
import random
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from tqdm import tqdm

import bonexage_utils
from bonexage_utils.cohort import LABEL_FILES, SPLIT_SALT, Cohort, load_cohort
from bonexage_utils.errors import BoneXageError
from bonexage_utils.figures import use_style
from bonexage_utils.phantom import write_cohort
from bonexage_utils.phantom.dataset import VERSION

SEED = 0
KAGGLE = Path("/kaggle/input")  # where Kaggle lays the data sets that a notebook of its own asks for


@dataclass(frozen=True)
class Profile:
    """How much a notebook computes.

    `phantoms`: films of the embedded cohort. `most_films`: how many films of a larger cohort are used at most.
    `backbone`, `image_size` (px), `epochs` and `batch_size` (films): for the cells that train.
    """

    name: str
    phantoms: int
    most_films: int
    backbone: str
    image_size: int
    epochs: int
    batch_size: int = 32


PROFILES = {
    "fast": Profile("fast", phantoms=240, most_films=240, backbone="convnext_atto_ols", image_size=64, epochs=2),
    "cpu": Profile("cpu", phantoms=2400, most_films=2400, backbone="convnext_atto_ols", image_size=96, epochs=8),
    "gpu": Profile("gpu", phantoms=2400, most_films=20000, backbone="convnext_tiny", image_size=256, epochs=20),
}


@dataclass(frozen=True)
class Course:
    """What a notebook works with. `folder` is the course's own folder, `runs` where its runs may be written."""

    profile: Profile
    device: torch.device
    cohort: Cohort
    embedded: bool
    seed: int
    folder: Path

    @property
    def runs(self) -> Path:
        return self.folder / "checkpoints"


def course_folder() -> Path:
    """The folder that holds notebooks/ and data/: that of the package in a checkout, else the working folder."""
    checkout = Path(bonexage_utils.__file__).resolve().parent.parent
    return checkout if (checkout / "notebooks").is_dir() else Path.cwd()


def choose_profile() -> Profile:
    """BONEXAGE_PROFILE, else `gpu` where there is one and `cpu` where not. Raises BoneXageError for another name."""
    name = os.environ.get("BONEXAGE_PROFILE") or ("gpu" if torch.cuda.is_available() else "cpu")
    if name not in PROFILES:
        raise BoneXageError(f"BONEXAGE_PROFILE={name}: unknown; use {', '.join(PROFILES)}")
    return PROFILES[name]


def sample_cohort(cohort: Cohort, films: int) -> Cohort:
    """The same cohort with `films` films, chosen by a salted hash of the id: the same ones every time."""
    order = cohort.table["id"].map(lambda film: hashlib.sha256(f"{SPLIT_SALT}:sample:{film}".encode()).digest())
    kept = order.sort_values().index[:films]
    return replace(cohort, table=cohort.table.loc[sorted(kept)].reset_index(drop=True))


def find_rsna(data: Path) -> Path | None:
    """The folder of the RSNA data set: `data`, or one up to three folders deep in `KAGGLE`; None if it is not there."""
    if any((data / name).is_file() for name in LABEL_FILES["training"]):
        return data
    name = LABEL_FILES["training"][0]  # a train.csv lies in half of Kaggle's data sets
    tables = (table for depth in ("*", "*/*", "*/*/*") for table in KAGGLE.glob(f"{depth}/{name}"))
    return next((table.parent for table in tables), None)


def find_cohort(profile: Profile, folder: Path) -> tuple[Cohort, bool]:
    """The cohort to work on, and whether it is the embedded one.

    BONEXAGE_DATA names a cohort folder, or is "phantom" for the embedded cohort whatever else is there. Without it,
    data/ if RSNA is in it, else RSNA where Kaggle lays it, else the embedded cohort, made once under data/phantom-N-vV,
    V its version. A cohort of more films than the profile takes is sampled, and a line is printed.
    """
    data = folder / "data"
    requested = os.environ.get("BONEXAGE_DATA") or find_rsna(data) or "phantom"
    if requested != "phantom":
        cohort, embedded = load_cohort(requested), False
    else:
        phantoms = data / f"phantom-{profile.phantoms}-v{VERSION}"  # an older one may lie there from before an update
        if not phantoms.is_dir():
            try:
                write_cohort(phantoms, profile.phantoms, SEED)
            except (BoneXageError, OSError):
                if not phantoms.is_dir():  # else another notebook wrote it meanwhile, and its cohort is the same
                    raise
        cohort, embedded = load_cohort(phantoms), True
    if len(cohort) > profile.most_films:
        print(f"Profile {profile.name}: {profile.most_films:,} of the {len(cohort):,} films in {cohort.name}.")
        cohort = sample_cohort(cohort, profile.most_films)
    return cohort, embedded


def set_seeds(seed: int = SEED) -> None:
    """Seed Python, NumPy's legacy stream and torch."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - for code that still draws from it
    torch.manual_seed(seed)


_bar = tqdm.__init__


def _bar_on_stdout(self: tqdm, *args: object, **settings: object) -> None:
    """Jupyter shows stderr on pink, as if something were wrong: bars go to stdout, where nothing is left of them."""
    _bar(self, *args, **{"file": sys.stdout, **settings})


def start() -> Course:
    """Choose profile, device and cohort, set the seeds, and print a short table of what runs here."""
    profile, folder = choose_profile(), course_folder()
    tqdm.__init__ = _bar_on_stdout
    # A warning prints the path of the file it comes from, which is of no use to a learner.
    warnings.formatwarning = lambda message, category, *_: f"{category.__name__}: {message}\n"
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cohort, embedded = find_cohort(profile, folder)
    set_seeds()
    use_style()
    kind = "simulated hands (the phantom)" if embedded else "films"
    rows = {
        "profile": profile.name, "device": device.type,
        "cohort": f"{len(cohort):,} {kind}", "Python": platform.python_version(), "torch": torch.__version__,
        "timm": timm.__version__, "NumPy": np.__version__, "pandas": pd.__version__,
        "bonexage_utils": bonexage_utils.__version__,
    }
    for name, value in rows.items():
        print(f"{name:15} {value}")
    return Course(profile, device, cohort, embedded, SEED, folder)
