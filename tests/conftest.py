"""A small cohort that all tests share, and the real one where it stands beside the checkout."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from bonexage_utils.cohort import Cohort, load_cohort
from bonexage_utils.phantom import write_cohort
from bonexage_utils.settings import TrainConfig
from bonexage_utils.training import train

ROOT = Path(__file__).resolve().parent.parent
RADIOGRAPHS = ROOT.parent / "shared" / "radiographs"

# A long run asks for more: BONEXAGE_CASES=5000 pytest tests/system/test_labels.py
settings.register_profile("bonexage", max_examples=int(os.environ.get("BONEXAGE_CASES", "100")), deadline=None,
                          suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("bonexage")

# The networks here are too small to share between threads, and tests run side by side.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of every process that a test starts


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The notebooks first: they take minutes, and with several workers no long test should be begun last."""
    items.sort(key=lambda item: "test_notebook_runs" not in item.name)


# timm's own miniature networks: real architectures of a few hundred thousand numbers.
TINY = TrainConfig(backbone="test_convnext", image_size=64, epochs=2, batch_size=8, grad_accum=1, lr=1e-3,
                   weights="none", precision="fp32")


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort of 80 phantoms on disk."""
    return write_cohort(tmp_path_factory.mktemp("cohorts") / "phantom", 80, seed=1, workers=1)


@pytest.fixture(scope="session")
def cohort(phantom_folder: Path) -> Cohort:
    return load_cohort(phantom_folder)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, cache_dir: Path) -> None:
    """Tests never touch the user's image cache."""
    monkeypatch.setattr("bonexage_utils.images.user_cache_dir", lambda *_, **__: str(cache_dir))


@pytest.fixture(scope="session")
def run(cohort: Cohort, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of two epochs."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    train(cohort, out, TINY, cache_dir=cache_dir)
    return out


@pytest.fixture
def radiographs() -> Path:
    """Real radiographs, for development only; the tests that need them skip where they are absent."""
    if not RADIOGRAPHS.is_dir():
        pytest.skip("real radiographs are not beside this checkout")
    return RADIOGRAPHS


@pytest.fixture
def core_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As without the extra `dicom`, whether or not it is installed."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes

    for syntax in JPEGTransferSyntaxes + JPEGLSTransferSyntaxes + JPEG2000TransferSyntaxes[:2]:
        decoder = get_decoder(syntax)
        core = {name: plugin for name, plugin in decoder._available.items() if name == "pillow"}
        monkeypatch.setattr(decoder, "_available", core)
