"""Runs that are killed, stopped, cut off from power or out of disk: nothing half, nothing lost, the same end.

`BONEXAGE_KILLS` sets how many random moments are tried.
"""

import errno
import itertools
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import TINY
from safetensors.torch import load_file

from bonexage_utils import files, prediction, training
from bonexage_utils.calibration import Calibration
from bonexage_utils.checkpoints import load_model, load_state, set_calibration
from bonexage_utils.cohort import Cohort, load_cohort
from bonexage_utils.errors import BoneXageError
from bonexage_utils.files import STOP_SIGNALS, atomic_file, only_writer
from bonexage_utils.prediction import Predictor, predict_to_file
from bonexage_utils.training import train

KILLS = int(os.environ.get("BONEXAGE_KILLS", "3"))
CONFIG = replace(TINY, epochs=3)

# Children that can be killed, forked from a server that has imported torch but never used it.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["bonexage_utils.training", "bonexage_utils.prediction"])


def train_in_child(data: Path, out: Path, cache: Path, ready, die_at: int | None = None) -> None:
    torch.set_num_threads(1)
    if die_at is not None:
        lose_power_at(die_at)
    ready.set()
    train(load_cohort(data), out, CONFIG, resume=True, cache_dir=cache)


def lose_power_at(count: int) -> None:
    """End this process without any clean-up at the n-th step of writing: before a flush, before or after a rename."""
    left = [count]

    def step() -> None:
        left[0] -= 1
        if left[0] == 0:
            os._exit(9)

    flush, rename = files._flush_to_disk, files._rename

    def cut_flush(path: Path) -> None:
        with open(path, "rb+") as handle:  # what a power cut leaves of a file that was not flushed
            handle.truncate(max(0, path.stat().st_size // 2 if left[0] == 1 else path.stat().st_size))
        step()
        flush(path)

    def cut_rename(temporary: Path, path: Path) -> None:
        step()
        rename(temporary, path)
        step()

    files._flush_to_disk, files._rename = cut_flush, cut_rename


def child(target, *arguments: object) -> tuple[multiprocessing.process.BaseProcess, float]:
    """A started child that has said it is ready, and when."""
    ready = PROCESSES.Event()
    process = PROCESSES.Process(target=target, args=(*arguments[:3], ready, *arguments[3:]))
    process.start()
    assert ready.wait(120)
    return process, time.monotonic()


def everything_whole(out: Path) -> None:
    """Whatever stands under a final name can be read."""
    if (out / "model.safetensors").exists():
        load_model(out / "model.safetensors")
    if (out / "last" / "state.safetensors").exists():
        load_state(out / "last" / "state.safetensors")
    if (out / "log.csv").exists():
        assert len(pd.read_csv(out / "log.csv")) <= CONFIG.epochs


def same_end(whole: Path, other: Path) -> None:
    for name in ("model.safetensors", "last/state.safetensors"):
        first, second = load_file(whole / name), load_file(other / name)
        assert first
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first), name
    columns = ["epoch", "train_loss_years", "train_mae_months", "selection_mae_months", "gem_p"]
    first, second = (pd.read_csv(run / "log.csv")[columns] for run in (whole, other))
    pd.testing.assert_frame_equal(first, second)
    progress = [load_state(run / "last" / "state.safetensors")[1] for run in (whole, other)]
    for key in ("epoch", "batch", "update", "best", "scaler", "sums"):
        assert progress[0][key] == progress[1][key], key
    assert not list(other.rglob(".*")), "something half done was left behind"


def cache_is_whole(cache: Path) -> None:
    assert list(cache.iterdir()), "the cache lies elsewhere"
    assert not list(cache.glob(".*.part")), "half a cache was left behind"


@pytest.fixture(scope="module")
def whole(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A run that nothing interrupted, and its seconds."""
    folder = tmp_path_factory.mktemp("whole")
    process, started = child(train_in_child, phantom_folder, folder / "run", folder / "cache")
    process.join()
    assert process.exitcode == 0
    return folder / "run", time.monotonic() - started


@pytest.mark.slow
def test_a_run_killed_at_any_moment_ends_the_same(whole: tuple[Path, float], phantom_folder: Path,
                                                   tmp_path: Path) -> None:
    reference, seconds = whole
    moments = random.Random(0)
    for number in range(KILLS):
        out, cache = tmp_path / f"run{number}", tmp_path / f"cache{number}"
        process, _ = child(train_in_child, phantom_folder, out, cache)
        time.sleep(moments.uniform(0, seconds))
        process.kill()
        process.join()
        everything_whole(out)
        process, _ = child(train_in_child, phantom_folder, out, cache)
        process.join()
        assert process.exitcode == 0
        same_end(reference, out)
        cache_is_whole(cache)


@pytest.mark.slow
def test_a_power_cut_at_every_write_loses_nothing(whole: tuple[Path, float], phantom_folder: Path,
                                                  tmp_path: Path) -> None:
    """Cache, settings, model, state and log: before each flush, before and after each rename."""
    out, cache = tmp_path / "run", tmp_path / "cache"
    # Each child goes on where the one before died. Four steps write the cache; then the first step of what is left
    # kills, then the second, and so on, until one child comes through.
    for cuts, die_at in enumerate(itertools.chain(range(1, 5), itertools.count(1))):
        process, _ = child(train_in_child, phantom_folder, out, cache, die_at)
        process.join()
        everything_whole(out)
        if process.exitcode == 0:
            break
        assert process.exitcode == 9
        assert cuts < 60
    assert cuts >= 4 + 9  # settings, model and state, three steps each, at the least
    same_end(whole[0], out)
    cache_is_whole(cache)


@pytest.mark.slow
@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_stop_in_mid_epoch_saves_and_goes_on_the_same(whole: tuple[Path, float], phantom_folder: Path,
                                                        cache_dir: Path, tmp_path: Path, number: int,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    calls = [0]
    augment = training.augment

    def interrupted(*arguments: object, **settings: object) -> torch.Tensor:
        calls[0] += 1
        if calls[0] == 10:
            os.kill(os.getpid(), number)
        return augment(*arguments, **settings)

    monkeypatch.setattr(training, "augment", interrupted)
    before = signal.getsignal(number)
    cohort = load_cohort(phantom_folder)
    with pytest.raises(BoneXageError, match="--resume"):
        train(cohort, tmp_path / "run", CONFIG, cache_dir=cache_dir)
    assert signal.getsignal(number) is before
    _, progress = load_state(tmp_path / "run" / "last" / "state.safetensors")
    assert progress["update"] == 10
    assert 0 < progress["batch"] < 10
    train(cohort, tmp_path / "run", CONFIG, resume=True, cache_dir=cache_dir)
    same_end(whole[0], tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("step", ["_flush_to_disk", "_rename"])
def test_no_space_at_any_write_is_survived(whole: tuple[Path, float], cohort: Cohort, cache_dir: Path, tmp_path: Path,
                                           step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk at the n-th write, for every n: an error, everything under a final name whole, the same end."""
    usual = getattr(files, step)
    failures = []
    for fail_at in range(1, 100):
        left = [fail_at]

        def full(*arguments: Path, left=left) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            usual(*arguments)

        monkeypatch.setattr(files, step, full)
        try:
            train(cohort, tmp_path / "run", CONFIG, resume=True, cache_dir=cache_dir)
            break
        except OSError as error:
            failures.append(error.errno)
            everything_whole(tmp_path / "run")
    assert len(failures) >= 3
    assert set(failures) == {errno.ENOSPC}
    same_end(whole[0], tmp_path / "run")


def small_disk(folder: Path, size: str) -> None:
    """A file system of `size` bytes at `folder`; skips where the system does not let us make one."""
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True,
                          check=False) if sys.platform == "linux" and os.geteuid() == 0 else None
    if made is None or made.returncode:
        pytest.skip("mounting a small file system needs Linux and root")


@pytest.mark.slow
def test_a_disk_that_is_really_full(run: Path, cohort: Cohort, cache_dir: Path, tmp_path: Path) -> None:
    """The disk fills within a write: of the cache, of the state. One line, and what stood there stands."""
    disk = tmp_path / "disk"
    small_disk(disk, "1500k")
    try:
        with pytest.raises(BoneXageError, match="cannot write the image cache"):
            train(cohort, tmp_path / "run", replace(TINY, image_size=256), cache_dir=disk / "cache")
        assert not list(disk.rglob("*.part"))
        with pytest.raises(BoneXageError, match="No space left"):
            train(cohort, disk / "run", TINY, cache_dir=cache_dir)
        everything_whole(disk / "run")
        assert not list(disk.rglob("*.part"))
    finally:
        subprocess.run(["umount", disk], check=False)


@pytest.mark.slow
@pytest.mark.parametrize(("part", "name"), [(4, "000003.json"), (512, "p.json")])  # a part; the description
def test_a_disk_that_fills_while_predicting(run: Path, cohort: Cohort, tmp_path: Path, part: int, name: str,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the file; nothing half is left; with room again, the rest is done and the table is the same."""
    monkeypatch.setattr(prediction, "PART", part)
    films = cohort.table[["id", "image", "sex"]].assign(error="")
    predictor = Predictor(run / "model.safetensors", "cpu")
    whole = predict_to_file(predictor, films, tmp_path / "whole.csv", batch_size=4)
    small_disk(tmp_path / "disk", "40k")
    try:
        out, filler = tmp_path / "disk" / "p.csv", tmp_path / "disk" / "filler"
        filler.write_bytes(b"0" * 28 * 1024)
        with pytest.raises(OSError, match="No space left") as caught:
            predict_to_file(predictor, films, out, batch_size=4)
        assert Path(caught.value.filename).name == name
        assert not list(out.parent.rglob("*.part"))
        filler.unlink()
        subprocess.run(["mount", "-o", "remount,size=1m", tmp_path / "disk"], check=True)
        table = predict_to_file(predictor, films, out, batch_size=4, resume=True)
        pd.testing.assert_frame_equal(table, whole, atol=0.02)
        assert sorted(path.name for path in out.parent.iterdir()) == ["p.csv", "p.json"]
    finally:
        subprocess.run(["umount", tmp_path / "disk"], check=False)


@pytest.mark.slow
def test_a_second_run_in_the_same_place_is_refused(cohort: Cohort, cache_dir: Path, tmp_path: Path) -> None:
    ready, done = PROCESSES.Event(), PROCESSES.Event()
    holder = PROCESSES.Process(target=hold, args=(tmp_path / "run" / "model.safetensors", ready, done))
    holder.start()
    assert ready.wait(120)
    with pytest.raises(BoneXageError, match="in use by another run"):
        train(cohort, tmp_path / "run", TINY, cache_dir=cache_dir)
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".model.safetensors.lock"]
    done.set()
    holder.join()
    train(cohort, tmp_path / "run", replace(TINY, epochs=1), cache_dir=cache_dir)


@pytest.mark.slow
def test_a_checkpoint_that_a_run_writes_is_not_calibrated(run: Path, tmp_path: Path) -> None:
    """Both would read, change and write it, and the later one would undo what the other did."""
    model = tmp_path / "model.safetensors"
    shutil.copy(run / "model.safetensors", model)
    _, _, description = load_model(model)
    calibration = asdict(Calibration(0.9, False, 240.0, 40, {"calibration": 40}, 9.0, [0, 241],
                                     {"F": [9.0], "M": [9.0]}))
    ready, done = PROCESSES.Event(), PROCESSES.Event()
    holder = PROCESSES.Process(target=hold, args=(model, ready, done))
    holder.start()
    assert ready.wait(120)
    with pytest.raises(BoneXageError, match="in use by another run"):
        set_calibration(model, description["network_sha256"], calibration)
    assert model.read_bytes() == (run / "model.safetensors").read_bytes()
    done.set()
    holder.join()
    set_calibration(model, description["network_sha256"], calibration)
    assert load_model(model)[2]["calibration"] == calibration


def hold(path: Path, ready, done) -> None:
    with only_writer(path):
        ready.set()
        done.wait()


@pytest.mark.slow
def test_the_lock_of_a_killed_run_is_free_and_its_rests_are_swept(tmp_path: Path) -> None:
    ready, never = PROCESSES.Event(), PROCESSES.Event()
    holder = PROCESSES.Process(target=hold, args=(tmp_path / "run", ready, never))
    holder.start()
    assert ready.wait(120)
    holder.kill()
    holder.join()
    (tmp_path / "run").mkdir()
    (tmp_path / ".run.0123abcd.part").mkdir()
    (tmp_path / "run" / ".log.csv.0123abcd.part").write_text("half")
    another = tmp_path / "run" / ".predictions.csv.0123abcd.part"
    another.write_text("half of what another writes at this moment")
    with only_writer(tmp_path / "run", tmp_path / "run" / "log.csv"):
        assert list(tmp_path.rglob("*.part")) == [another]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert list((tmp_path / "run").iterdir()) == [another]


def test_a_neighbour_in_the_making_is_not_swept(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "predictions.b.csv") as neighbour:
        neighbour.write_text("half")
        with only_writer(tmp_path / "predictions.csv", tmp_path / "predictions.json"):
            assert neighbour.exists()


def test_a_failed_write_leaves_the_earlier_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("earlier")

    def write_half() -> None:
        with atomic_file(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert (tmp_path / "a").read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def predict_in_child(model: Path, films: pd.DataFrame, out: Path, ready, die_at: int | None = None) -> None:
    torch.set_num_threads(1)
    if die_at is not None:
        lose_power_at(die_at)
    ready.set()
    predict_to_file(Predictor(model, "cpu"), films, out, batch_size=4, resume=True)


@pytest.mark.slow
def test_a_power_cut_at_every_write_of_predictions(run: Path, cohort: Cohort, tmp_path: Path) -> None:
    films = cohort.table[["id", "image", "sex"]].head(12).assign(error="")
    predictor = Predictor(run / "model.safetensors", "cpu")
    expected = predict_to_file(predictor, films, tmp_path / "whole.csv", batch_size=4)
    tables_left = 0
    for die_at in range(1, 50):
        out = tmp_path / f"{die_at}" / "predictions.csv"
        process, _ = child(predict_in_child, run / "model.safetensors", films, out, die_at)
        process.join()
        assert process.exitcode in (0, 9)
        if out.exists():
            tables_left += 1
            assert len(pd.read_csv(out)) == 12
        table = predict_to_file(predictor, films, out, batch_size=4, resume=True)
        pd.testing.assert_frame_equal(table, expected)
        assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
        assert sorted(path.name for path in out.parent.iterdir()) == ["predictions.csv", "predictions.json"]
        if process.exitcode == 0:
            break
    assert tables_left > 1, "no power cut left a table"
    assert die_at == 7  # two files with three steps each
