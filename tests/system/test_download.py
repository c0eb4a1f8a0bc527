"""Getting the data set from a stand-in for Kaggle: put in place once, counted, and never half."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from bonexage_utils import download as module
from bonexage_utils.download import download
from bonexage_utils.errors import BoneXageError
from bonexage_utils.labels import label_hash

LABELS = "id,boneage,male\n" + "".join(f"{film},100,True\n" for film in range(1377, 1389))
PIXEL = cv2.imencode(".png", np.full((40, 30), 90, np.uint8))[1].tobytes()


class Kaggle(ModuleType):
    """What kagglehub does, on a small copy of the data set: downloads into its cache once, and says where."""

    def __init__(self) -> None:
        super().__init__("kagglehub")
        self.downloads = 0
        self.error: Exception | None = None
        self.films = {"training": range(1377, 1389), "test": range(4360, 4363)}

    def dataset_download(self, handle: str) -> str:
        assert handle == "kmader/rsna-bone-age"
        if self.error:
            raise self.error
        place = Path(os.environ["KAGGLEHUB_CACHE"]) / "datasets" / handle / "versions" / "2"
        if not place.is_dir():
            self.downloads += 1
            for name, films in self.films.items():
                stem = f"boneage-{name}-dataset"
                (place / stem / stem).mkdir(parents=True)
                for film in films:
                    (place / stem / stem / f"{film}.png").write_bytes(PIXEL)
            (place / "boneage-training-dataset.csv").write_bytes(LABELS.encode())
            (place / "boneage-test-dataset.csv").write_text("Case ID,Sex\n4360,M\n4361,M\n4362,F\n")
        return str(place)


@pytest.fixture
def kaggle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Kaggle:
    stand_in = Kaggle()
    monkeypatch.setitem(sys.modules, "kagglehub", stand_in)
    monkeypatch.delenv("KAGGLEHUB_CACHE", raising=False)
    monkeypatch.setattr(module, "FILMS", {"boneage-training-dataset": 12, "boneage-test-dataset": 3})
    (tmp_path / "labels.csv").write_bytes(LABELS.encode())
    monkeypatch.setattr(module, "KNOWN_LABELS", {label_hash(tmp_path / "labels.csv"): "the stand-in's"})
    return stand_in


def test_the_data_set_lands_in_place_once(tmp_path: Path, kaggle: Kaggle) -> None:
    cohort = download(tmp_path / "data")
    assert len(cohort) == 15
    assert cohort.table["image"].map(lambda image: Path(image).is_file() and not Path(image).is_symlink()).all()
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == sorted((*module.TABLES, *module.FILMS))
    assert "KAGGLEHUB_CACHE" not in os.environ
    download(tmp_path / "data")
    assert kaggle.downloads == 1


def test_a_cache_of_one_s_own_is_linked_and_kept(tmp_path: Path, kaggle: Kaggle,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    assert len(download(tmp_path / "data")) == 15
    assert len(list((tmp_path / "cache").rglob("*.png"))) == 15
    assert (tmp_path / "data" / "boneage-training-dataset").is_symlink()
    assert os.environ["KAGGLEHUB_CACHE"] == str(tmp_path / "cache")


def test_an_interrupted_move_goes_on(tmp_path: Path, kaggle: Kaggle, monkeypatch: pytest.MonkeyPatch) -> None:
    rename, moved = os.rename, []

    def stop(source: Path, goal: Path) -> None:
        if len(moved) == 2:
            raise KeyboardInterrupt
        moved.append(goal)
        rename(source, goal)

    monkeypatch.setattr(module.os, "rename", stop)
    with pytest.raises(KeyboardInterrupt):
        download(tmp_path / "data")
    monkeypatch.setattr(module.os, "rename", rename)
    assert len(download(tmp_path / "data")) == 15
    assert kaggle.downloads == 1


def test_what_is_short_of_films_or_labels_is_refused(tmp_path: Path, kaggle: Kaggle) -> None:
    kaggle.films["training"] = range(1377, 1388)
    with pytest.raises(BoneXageError, match=r"boneage-training-dataset: .*11 .*12; remove this folder"):
        download(tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "boneage-training-dataset")
    kaggle.films["training"] = range(1377, 1389)
    assert len(download(tmp_path / "data")) == 15


def test_another_cohort_is_not_mixed_with_it(tmp_path: Path, kaggle: Kaggle) -> None:
    (tmp_path / "boneage-training-dataset.csv").write_text("id,boneage,male\n1,50,True\n")
    with pytest.raises(BoneXageError, match="not RSNA's training labels"):
        download(tmp_path)
    assert kaggle.downloads == 0
    assert (tmp_path / "boneage-training-dataset.csv").read_text().startswith("id,boneage,male\n1,")


def test_a_failing_download_is_one_line(tmp_path: Path, kaggle: Kaggle) -> None:
    kaggle.error = ConnectionError("no route to host\nTraceback and so on")
    with pytest.raises(BoneXageError, match=r"download failed \(no route to host\)") as caught:
        download(tmp_path / "data")
    assert "\n" not in str(caught.value)
    assert "KAGGLEHUB_CACHE" not in os.environ


def test_without_kagglehub_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(BoneXageError, match="pip install kagglehub"):
        download(tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("stand_in", ["raise ImportError",
                                      "def dataset_download(handle):\n    raise OSError('offline')"])
def test_the_command_prints_the_steps_by_hand(tmp_path: Path, stand_in: str) -> None:
    (tmp_path / "kagglehub.py").write_text(stand_in)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run([sys.executable, "-m", "bonexage_utils", "download", "--out", str(tmp_path / "data")],
                          capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert f"unzip it into {tmp_path / 'data'}" in done.stdout
    assert done.stderr.startswith("bonexage: ")
    assert done.stderr.count("\n") == 1
