"""Bone age regression from hand radiographs: the working system behind the BoneXage course.

Data flows one way, and each arrow is a module: `cohort` → `images` → `batches` → `model` → `training` →
`prediction` → `evaluation`. Ages are months everywhere. Not a medical device.

    from bonexage_utils import load_cohort, train, TrainConfig, Predictor, BoneAgeNet, GeM

These six are what most programs need. They are loaded when they are first used: `--help` does not wait for torch.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bonexage_utils.cohort import load_cohort
    from bonexage_utils.model import BoneAgeNet, GeM
    from bonexage_utils.prediction import Predictor
    from bonexage_utils.settings import TrainConfig
    from bonexage_utils.training import train

# Torch's threads spin while they wait for each other, which starves whoever shares the machine, and them: beside other
# work a step takes ten times as long. So do NumPy's (OpenBLAS, for 2 to the power of this many cycles): predicting took
# half as long again. Read when torch and NumPy are first imported; a user's own setting stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

__version__ = "0.1.0"
__all__ = ["BoneAgeNet", "GeM", "Predictor", "TrainConfig", "load_cohort", "train"]

_HOME = {"load_cohort": "cohort", "train": "training", "TrainConfig": "settings", "Predictor": "prediction",
         "BoneAgeNet": "model", "GeM": "model"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
