"""The loop: what it writes, what it refuses, and that stopping it changes nothing."""

import csv
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, TINY
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from bonexage_utils import training
from bonexage_utils.batches import film_changes
from bonexage_utils.checkpoints import load_model, load_state, save_state
from bonexage_utils.cohort import Cohort, load_cohort
from bonexage_utils.decoding import read_gray
from bonexage_utils.devices import DTYPES, choose_precision, standardise, to_unit
from bonexage_utils.errors import BoneXageError
from bonexage_utils.evaluation import median_by_sex
from bonexage_utils.images import letterbox
from bonexage_utils.settings import AUGMENTATION_LIMITS, CHOICES, LIMITS, Augmentation
from bonexage_utils.training import Trainer, lr_factor, train


def read_log(out: Path) -> list[dict]:
    with open(out / "log.csv", newline="") as handle:
        return list(csv.DictReader(handle))


def test_a_run_leaves_what_the_contract_says(run: Path) -> None:
    assert {p.name for p in run.iterdir()} == {"model.safetensors", "last", "log.csv", "config.json"}
    log = read_log(run)
    assert [row["epoch"] for row in log] == ["1", "2"]
    config = json.loads((run / "config.json").read_text())
    assert config["backbone"] == "test_convnext"
    assert config["precision_used"] == "fp32"


def test_the_checkpoint_carries_its_preprocessing_and_training(run: Path, cohort: Cohort) -> None:
    _, preprocessing, description = load_model(run / "model.safetensors")
    assert preprocessing.image_size == 64
    train_split = cohort.split("train")
    assert description["training"]["films"] == len(train_split)
    assert description["training"]["median_months_by_sex"] == median_by_sex(train_split)
    assert description["sex_coding"] == {"F": 0, "M": 1}


def test_the_kept_model_is_the_best_by_the_selection_split(run: Path, cohort: Cohort) -> None:
    """Fault 15: selection has a split of its own, which is not the one that reports."""
    model, preprocessing, description = load_model(run / "model.safetensors")
    best = min(float(row["selection_mae_months"]) for row in read_log(run))
    part = cohort.split("selection")
    films = np.stack([letterbox(read_gray(path), 64) for path in part["image"]])
    with torch.no_grad():
        months = model(standardise(to_unit(torch.from_numpy(films)[:, None]), preprocessing),
                       torch.tensor([int(s == "M") for s in part["sex"]]))
    mae = np.abs(months.numpy() - part["months"].to_numpy()).mean()
    assert mae == pytest.approx(description["training"]["selection_mae_months"], abs=1e-3)
    assert mae == pytest.approx(best, abs=1e-3)
    assert not set(part["id"]) & set(cohort.split("calibration")["id"]) | set(part["id"]) & set(
        cohort.split("test")["id"])


@pytest.mark.slow
def test_training_learns(cohort: Cohort, tmp_path: Path, cache_dir: Path) -> None:
    config = replace(TINY, backbone="test_resnet", epochs=15, lr=3e-3, augmentation=None)
    train(cohort, tmp_path / "run", config, cache_dir=cache_dir)
    log = read_log(tmp_path / "run")
    medians = median_by_sex(cohort.split("train"))
    part = cohort.split("train")
    median_mae = (part["months"] - part["sex"].map(medians)).abs().mean()
    assert float(log[-1]["train_mae_months"]) < 0.6 * median_mae


def test_the_same_seed_gives_the_same_weights(run: Path, cohort: Cohort, tmp_path: Path, cache_dir: Path) -> None:
    train(cohort, tmp_path / "again", TINY, cache_dir=cache_dir)
    first, second = (load_file(p / "model.safetensors") for p in (run, tmp_path / "again"))
    assert first
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
@pytest.mark.parametrize("augmentation", [TINY.augmentation, None])
def test_workers_change_no_weight(cohort: Cohort, tmp_path: Path, cache_dir: Path, augmentation) -> None:
    """Fault 18: results that depend on the number of loader workers: the last state, not the best model alone."""
    for workers in (0, 2):
        config = replace(TINY, workers=workers, augmentation=augmentation)
        train(cohort, tmp_path / str(workers), config, cache_dir=cache_dir)
    first, second = (load_file(tmp_path / workers / "last" / "state.safetensors") for workers in ("0", "2"))
    assert first
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_stopped_run_resumes_where_it_was(cohort: Cohort, tmp_path: Path, cache_dir: Path, precision: str) -> None:
    """Fault 13: "resume" that restores weights only."""
    config = replace(TINY, epochs=3, precision=precision)
    train(cohort, tmp_path / "whole", config, cache_dir=cache_dir)

    class Stop(Exception):
        pass

    def stop(row: dict) -> None:
        if row["epoch"] == 1:
            raise Stop

    with pytest.raises(Stop):
        train(cohort, tmp_path / "stopped", config, cache_dir=cache_dir, on_epoch=stop)
    torch.manual_seed(123)  # another stream in between must not matter
    train(cohort, tmp_path / "stopped", config, resume=True, cache_dir=cache_dir)
    for name in ("model.safetensors", "last/state.safetensors"):
        whole, stopped = (load_file(tmp_path / run / name) for run in ("whole", "stopped"))
        assert whole
        assert whole.keys() == stopped.keys()
        assert all(torch.equal(whole[key], stopped[key]) for key in whole), name
    _, whole = load_state(tmp_path / "whole" / "last" / "state.safetensors")
    _, stopped = load_state(tmp_path / "stopped" / "last" / "state.safetensors")
    assert stopped["best"] == whole["best"]
    assert stopped["scaler"] == whole["scaler"]
    assert [row["selection_mae_months"] for row in stopped["log"]] == [
        row["selection_mae_months"] for row in whole["log"]]
    assert len(read_log(tmp_path / "stopped")) == 3


def test_a_run_is_not_overwritten_and_not_resumed_with_other_settings(run: Path, cohort: Cohort,
                                                                      cache_dir: Path) -> None:
    with pytest.raises(BoneXageError, match="--resume"):
        train(cohort, run, TINY, cache_dir=cache_dir)
    before = (run / "config.json").read_bytes()
    with pytest.raises(BoneXageError, match="lr"):
        train(cohort, run, replace(TINY, lr=1.0), resume=True, cache_dir=cache_dir)
    assert (run / "config.json").read_bytes() == before


def test_resuming_a_finished_run_changes_nothing(run: Path, cohort: Cohort, cache_dir: Path) -> None:
    before = (run / "model.safetensors").read_bytes()
    train(cohort, run, TINY, resume=True, cache_dir=cache_dir)
    assert (run / "model.safetensors").read_bytes() == before


def with_table(cohort: Cohort, change) -> Cohort:
    """The cohort with its table changed, here and on no disk."""
    return replace(cohort, table=change(cohort.table.copy()).reset_index(drop=True))


def only_in(column: str, split: str, value) -> callable:
    """A change of one column in the films of one split; `value` makes the new from the old."""
    def change(table):
        table.loc[table["split"] == split, column] = value(table.loc[table["split"] == split, column])
        return table
    return change


CHANGES = {  # of a cohort of 80 films: 60 train, 7 select
    "ages inverted": (only_in("months", "train", lambda months: 239 - months), "60 changed in age"),
    "ages moved by a hair": (only_in("months", "selection", lambda months: months + 1e-9), "7 changed in age"),
    "sexes swapped": (only_in("sex", "train", lambda sex: sex.map({"F": "M", "M": "F"})), "60 changed in sex"),
    "films gone": (lambda table: table[(table["split"] != "train") | (table.index % 3 > 0)], "gone"),
    "films added": (only_in("split", "test", lambda split: "train"), "new"),
    "films moved to another split": (only_in("split", "selection", lambda split: ["train"] * 3 + ["selection"] * 4),
                                     "3 changed in split"),
    "films exchanged": (only_in("image", "selection", lambda image: image.to_numpy()[::-1]), "6 changed in pixels"),
    "another order": (lambda table: table.iloc[::-1], "the same in another order"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_run_does_not_go_on_with_other_films_or_labels(run: Path, cohort: Cohort, cache_dir: Path, kind: str) -> None:
    change, words = CHANGES[kind]
    other = with_table(cohort, change)
    with pytest.raises(BoneXageError, match="begun with other films or labels") as caught:
        train(other, run, TINY, resume=True, cache_dir=cache_dir)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_ids_may_hold_what_tables_are_made_of(cohort: Cohort, cache_dir: Path, tmp_path: Path) -> None:
    names = ["NA", "null", "a\rb", "a\nb", 'a"b', "a,b", "=1", " 1 ", "1.0", "é"]

    def named(table: pd.DataFrame) -> pd.DataFrame:
        rows = table.index[table["split"] == "train"][: len(names)]
        table.loc[rows, "id"] = names
        return table

    odd = with_table(cohort, named)
    config = replace(TINY, epochs=1)
    train(odd, tmp_path / "run", config, cache_dir=cache_dir)
    train(odd, tmp_path / "run", config, resume=True, cache_dir=cache_dir)
    for name in names:
        gone = with_table(odd, lambda table, name=name: table[table["id"] != name])
        with pytest.raises(BoneXageError, match=re.escape(f": 1 gone (e.g. {name!r})")):
            train(gone, tmp_path / "run", config, resume=True, cache_dir=cache_dir)


@given(st.data())
def test_what_changed_is_counted(data: st.DataObject) -> None:
    ids = [str(number) for number in range(8)]
    before = pd.DataFrame({"id": ids, "split": "train", "months": "12.0", "sex": "F", "pixels": "a"})
    touched = {way: data.draw(st.sets(st.sampled_from(ids[:6]))) for way in ("split", "months", "sex", "pixels")}
    gone = data.draw(st.sets(st.sampled_from(ids[6:])))
    new = data.draw(st.sets(st.sampled_from(["NA", "9"])))
    after = before.copy()
    for column, films in touched.items():
        after.loc[after["id"].isin(films), column] = "changed"
    added = [{"id": film, "split": "train", "months": "1.0", "sex": "M", "pixels": "b"} for film in new]
    after = pd.concat([after[~after["id"].isin(gone)], pd.DataFrame(added, columns=before.columns)])
    words = {"new": new, "gone": gone, **{f"changed in {column.replace('months', 'age')}": films
                                          for column, films in touched.items()}}
    said = film_changes(before, after)
    for way, films in words.items():
        found = re.search(rf"(\d+) {way} \(e\.g\. '(\w+)'\)", said)
        assert (int(found[1]), found[2] in films) == (len(films), True) if films else found is None


def test_a_cohort_that_moved_is_the_same(run: Path, phantom_folder: Path, cache_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(phantom_folder, tmp_path / "elsewhere")
    before = (run / "last" / "state.safetensors").read_bytes()
    train(load_cohort(tmp_path / "elsewhere"), run, TINY, resume=True, cache_dir=cache_dir)
    assert (run / "last" / "state.safetensors").read_bytes() == before


@pytest.fixture
def own_run(run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to spoil."""
    return shutil.copytree(run, tmp_path / "own")


def test_a_record_that_is_lost_lets_no_other_films_in(own_run: Path, cohort: Cohort, cache_dir: Path) -> None:
    other = with_table(cohort, CHANGES["ages inverted"][0])
    (own_run / "last" / "films.csv").write_text("id,split,months,sex,pixels\n")
    with pytest.raises(BoneXageError, match="begun with other films or labels"):
        train(other, own_run, TINY, resume=True, cache_dir=cache_dir)
    train(cohort, own_run, TINY, resume=True, cache_dir=cache_dir)
    with pytest.raises(BoneXageError, match="60 changed in age"):  # the record is whole again
        train(other, own_run, TINY, resume=True, cache_dir=cache_dir)


def test_a_state_that_knows_no_films_is_refused(own_run: Path, cohort: Cohort, cache_dir: Path) -> None:
    state = own_run / "last" / "state.safetensors"
    parts, progress = load_state(state)
    del progress["films_sha256"]
    save_state(state, parts, progress)
    with pytest.raises(BoneXageError, match="did not record its films"):
        train(cohort, own_run, TINY, resume=True, cache_dir=cache_dir)


def test_a_run_without_its_model_does_not_end_well(own_run: Path, cohort: Cohort, cache_dir: Path,
                                                   tmp_path: Path) -> None:
    (own_run / "model.safetensors").unlink()
    with pytest.raises(BoneXageError, match="removed since it was written"):
        train(cohort, own_run, TINY, resume=True, cache_dir=cache_dir)

    def remove(row: dict) -> None:
        (tmp_path / "run" / "model.safetensors").unlink()

    with pytest.raises(BoneXageError, match="removed since it was written"):
        train(cohort, tmp_path / "run", replace(TINY, epochs=1), cache_dir=cache_dir, on_epoch=remove)


@pytest.mark.slow
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("stopped", [False, True])
def test_weights_broken_by_the_last_update_are_not_saved(cohort: Cohort, tmp_path: Path, cache_dir: Path, value: float,
                                                         stopped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """No loss is computed after the last update of all, or of a run that is asked to stop."""
    usual, calls = training.update_weights, [0]
    last = 2 * (len(cohort.split("train")) // TINY.batch_size)

    def breaking(network: torch.nn.Module, *arguments: object) -> None:
        usual(network, *arguments)
        calls[0] += 1
        if calls[0] == last - stopped:
            next(network.parameters()).data.view(-1)[0] = value
            if stopped:
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(training, "update_weights", breaking)
    with pytest.raises(BoneXageError, match=r"weights stopped being numbers in epoch 2.*--lr"):
        train(cohort, tmp_path / "run", TINY, cache_dir=cache_dir)
    parts, progress = load_state(tmp_path / "run" / "last" / "state.safetensors")
    assert progress["epoch"] == 1
    assert all(torch.isfinite(tensor).all() for group in ("model", "ema") for tensor in parts[group].values())
    load_model(tmp_path / "run" / "model.safetensors")
    monkeypatch.setattr(training, "update_weights", usual)
    train(cohort, tmp_path / "run", TINY, resume=True, cache_dir=cache_dir)
    assert len(read_log(tmp_path / "run")) == 2


def test_ages_that_do_not_differ_scale_no_output(cohort: Cohort, tmp_path: Path, cache_dir: Path) -> None:
    same = with_table(cohort, lambda table: table.assign(months=100.1))
    with pytest.raises(BoneXageError, match="--output bounded"):
        train(same, tmp_path / "run", replace(TINY, output="linear"), cache_dir=cache_dir)


WRONG = [float("nan"), float("inf"), -float("inf"), -1, 10**400, "3", None]


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", WRONG)
def test_settings_that_are_no_numbers_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(BoneXageError, match=f"^{name} .*give a") as caught:
        replace(TINY, **{name.removeprefix("--").replace("-", "_"): value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", AUGMENTATION_LIMITS)
@pytest.mark.parametrize("value", WRONG)
def test_augmentation_that_is_no_number_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(BoneXageError, match=f"^{name} .*give a"):
        Augmentation(**{name: value})


@pytest.mark.parametrize("name", CHOICES)
def test_unknown_settings_are_refused_by_name(name: str) -> None:
    with pytest.raises(BoneXageError, match=f"^{name} fp8: unknown"):
        replace(TINY, **{name.removeprefix("--"): "fp8"})


@pytest.mark.parametrize(("name", "value"), [("epochs", 2.5), ("seed", 2**63), ("seed", 2**64), ("image_size", 10**6),
                                             ("image_size", 0), ("epochs", 0), ("epochs", 10**9), ("max_age", 0.5)])
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(BoneXageError, match=f"^--{name.replace('_', '-')} {value}: give a"):
        replace(TINY, **{name: value})


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 2**32, 2**63 - 1])
def test_every_seed_that_is_taken_trains(cohort: Cohort, tmp_path: Path, cache_dir: Path, seed: int) -> None:
    assert train(cohort, tmp_path / "run", replace(TINY, epochs=1, seed=seed), cache_dir=cache_dir).is_file()


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_state(
        cohort: Cohort, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = training.age_loss
    calls = {"n": 0}
    steps = len(cohort.split("train")) // TINY.batch_size

    def poisoned(predicted: torch.Tensor, months: torch.Tensor, kind: str) -> torch.Tensor:
        calls["n"] += 1
        loss = whole(predicted, months, kind)
        return loss * float("nan") if calls["n"] > steps + 2 else loss

    monkeypatch.setattr(training, "age_loss", poisoned)
    with pytest.raises(BoneXageError, match="epoch 2"):
        train(cohort, tmp_path / "run", TINY, cache_dir=cache_dir)
    parts, progress = load_state(tmp_path / "run" / "last" / "state.safetensors")
    assert progress["epoch"] == 1
    assert all(torch.isfinite(t).all() for t in parts["model"].values())
    monkeypatch.setattr(training, "age_loss", whole)
    train(cohort, tmp_path / "run", TINY, resume=True, cache_dir=cache_dir)
    assert len(read_log(tmp_path / "run")) == 2


@pytest.fixture
def damaged(phantom_folder: Path, tmp_path: Path) -> tuple[Path, list[str]]:
    """A copy of the cohort with two films that cannot be read in its train split."""
    root = tmp_path / "damaged"
    shutil.copytree(phantom_folder, root)
    films = load_cohort(root).split("train")["id"].tolist()[:2]
    images = root / "boneage-training-dataset"
    (images / f"{films[0]}.png").unlink()
    (images / f"{films[1]}.png").write_bytes(b"junk")
    return root, films


def test_bad_films_are_named_or_dropped_never_replaced(damaged: tuple[Path, list[str]], tmp_path: Path,
                                                       cache_dir: Path) -> None:
    """Fault 2: a black image with a real child's label."""
    root, films = damaged
    broken = load_cohort(root)
    with pytest.raises(BoneXageError, match="--drop-bad") as caught:
        train(broken, tmp_path / "run", TINY, cache_dir=cache_dir)
    assert films[0] in str(caught.value)
    assert not (tmp_path / "run").exists()
    trainer = Trainer(broken, tmp_path / "run", TINY, drop_bad=True, cache_dir=cache_dir)
    assert set(trainer.dropped) == set(films)
    assert len(trainer.loader.dataset) == len(broken.split("train")) - 2
    seen = torch.stack([trainer.loader.dataset[i]["image"] for i in range(len(trainer.loader.dataset))])
    assert (seen.float().amax((1, 2, 3)) > 0).all()
    train(broken, tmp_path / "run", TINY, drop_bad=True, cache_dir=cache_dir)
    with open(tmp_path / "run" / "dropped.csv", newline="") as handle:
        assert {row["id"] for row in csv.DictReader(handle)} == set(films)


def test_augmentation_is_for_training_alone(cohort: Cohort, tmp_path: Path, cache_dir: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 1: the transform shared by both halves of a split."""
    seen: list[int] = []
    whole = training.augment

    def counted(images: torch.Tensor, keys: torch.Tensor, **rest: object) -> torch.Tensor:
        seen.extend(keys.tolist())
        return whole(images, keys, **rest)

    monkeypatch.setattr(training, "augment", counted)
    trainer = Trainer(cohort, tmp_path / "run", replace(TINY, epochs=1), cache_dir=cache_dir)
    trainer.fit()
    train_keys = set(trainer.loader.dataset.keys.tolist())
    assert seen
    assert set(seen) <= train_keys
    assert not set(seen) & set(trainer.selection.dataset.keys.tolist())


def test_metrics_are_means_over_films(cohort: Cohort, tmp_path: Path, cache_dir: Path) -> None:
    """Fault 12: a mean of batch means weighs the films of a short last batch more."""
    for batch_size in (4, 7, 16):
        trainer = Trainer(cohort, tmp_path / "x", replace(TINY, batch_size=batch_size), cache_dir=cache_dir)
        predicted, labelled = training.predict_loader(
            trainer.ema.module, trainer.selection, trainer.preprocessing, trainer.accelerator, "fp32")
        part = cohort.split("selection")
        assert len(predicted) == len(part)
        np.testing.assert_allclose(labelled, part["months"])
        if batch_size == 4:
            first = np.abs(predicted - labelled).mean()
        assert np.abs(predicted - labelled).mean() == pytest.approx(first, abs=1e-3)


def test_training_error_counts_only_the_films_it_saw(cohort: Cohort, tmp_path: Path, cache_dir: Path) -> None:
    """Fault 12: dropped batches counted in the denominator. Without learning, the mean is known."""
    config = replace(TINY, lr=1e-12, output="linear", augmentation=None, batch_size=9, epochs=1, loss="l1")
    trainer = Trainer(cohort, tmp_path / "run", config, cache_dir=cache_dir)
    trainer.network.head[3].p = 0.0  # no dropout, so that the same films give the same error
    order = list(trainer.sampler)[: len(trainer.loader) * 9]
    data = trainer.loader.dataset
    with torch.no_grad():
        images = torch.stack([data[i]["image"] for i in order])
        sex = torch.stack([data[i]["sex"] for i in order])
        months = trainer.network.train()(standardise(to_unit(images), trainer.preprocessing), sex)
    expected = np.abs(months.numpy() - data.months[order]).mean()
    rows: list[dict] = []
    trainer.fit(rows.append)
    (row,) = rows
    assert row["train_mae_months"] == pytest.approx(expected, rel=1e-4)
    assert row["train_loss_years"] == pytest.approx(expected / 12, rel=1e-4)


@pytest.mark.slow
def test_a_step_asks_the_device_for_no_value(cohort: Cohort, tmp_path: Path, cache_dir: Path,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    """Each question makes a GPU finish its work first, and the processor wait for it."""
    trainer = Trainer(cohort, tmp_path / "run", replace(TINY, epochs=1), cache_dir=cache_dir)
    asked: list[str] = []
    for name in ("item", "tolist", "__bool__", "__float__", "__int__", "cpu", "numpy"):
        usual = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda *arguments, usual=usual, name=name: (
            asked.append(name) or usual(*arguments)))
    monkeypatch.setattr(training, "SHOWN_EVERY", 1e9)
    trainer.model.train()
    trainer._one_epoch()
    assert trainer.update > 2
    assert asked == ["item", "tolist"]  # a DataLoader's seed as it begins, the sums at the end


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(cohort: Cohort, tmp_path: Path, cache_dir: Path) -> None:
    rows = []
    for compiled in (False, True):
        trainer = Trainer(cohort, tmp_path / str(compiled), replace(TINY, epochs=1, compile=compiled),
                          cache_dir=cache_dir)
        trainer.network.head[3].p = 0.0  # compiled, dropout draws from a stream of its own
        load_model(trainer.fit(rows.append))
    plain, compiled = ({name: value for name, value in row.items() if "second" not in name} for row in rows)
    assert compiled == pytest.approx(plain, rel=1e-3)


@pytest.mark.parametrize("tf32", [False, True])
def test_what_fp32_means_on_a_gpu_is_a_setting(cohort: Cohort, tmp_path: Path, cache_dir: Path, tf32: bool) -> None:
    Trainer(cohort, tmp_path / "run", replace(TINY, tf32=tf32), cache_dir=cache_dir)
    assert torch.backends.cuda.matmul.allow_tf32 is torch.backends.cudnn.allow_tf32 is tf32


@pytest.mark.slow
def test_mixed_precision_is_really_used(cohort: Cohort, tmp_path: Path, cache_dir: Path) -> None:
    """Fault 6: "AMP" in the README and no autocast in the code."""
    kinds: set[torch.dtype] = set()
    for precision in ("fp32", "bf16", "fp16"):
        trainer = Trainer(cohort, tmp_path / precision, replace(TINY, epochs=1, precision=precision),
                          cache_dir=cache_dir)
        kinds.clear()
        hook = trainer.network.head[1].register_forward_hook(lambda _m, _i, out: kinds.add(out.dtype))
        trainer.fit()
        hook.remove()
        assert kinds == {DTYPES[precision]}
        assert trainer.scaler.is_enabled() == (precision == "fp16")


@pytest.mark.slow
def test_gradients_are_unscaled_before_they_are_clipped(cohort: Cohort, tmp_path: Path, cache_dir: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 6: clipping scaled gradients. The scale must not change the norm that the clip sees."""
    norms: dict[float, list[float]] = {}
    whole = training.nn.utils.clip_grad_norm_

    for scale in (2.0**4, 2.0**12):
        seen = norms.setdefault(scale, [])

        def watched(parameters, limit: float, seen=seen) -> torch.Tensor:
            norm = whole(parameters, limit)
            seen.append(float(norm))
            return norm

        monkeypatch.setattr(training.nn.utils, "clip_grad_norm_", watched)
        trainer = Trainer(cohort, tmp_path / f"{scale}", replace(TINY, epochs=1, precision="fp16"), cache_dir=cache_dir)
        trainer.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        trainer.fit()
    low, high = norms.values()
    assert low[0] == pytest.approx(high[0], rel=0.05)


def test_accumulated_steps_equal_one_large_batch(cohort: Cohort, tmp_path: Path, cache_dir: Path) -> None:
    """Two steps of 10 make the update of one of 20 (no BatchNorm and no dropout in the way)."""
    weights = []
    for batch_size, accumulate in ((20, 1), (10, 2)):
        torch.manual_seed(0)
        config = replace(TINY, batch_size=batch_size, grad_accum=accumulate, epochs=1)
        trainer = Trainer(cohort, tmp_path / f"{batch_size}", config, cache_dir=cache_dir)
        trainer.network.head[3].p = 0.0
        trainer.fit()
        assert trainer.update == 3
        weights.append(torch.cat([p.detach().flatten() for p in trainer.network.parameters()]))
    # float32 sums in another order; AdamW's first steps turn tiny gradients into full steps, hence the tolerance
    difference = (weights[0] - weights[1]).abs()
    assert difference.mean() < 1e-5


@pytest.mark.parametrize(("update", "factor"), [(0, 0.1), (9, 1.0), (10, 1.0), (55, 0.5), (100, 0.0)])
def test_warm_up_and_cosine_by_hand(update: int, factor: float) -> None:
    assert lr_factor(update, 100, 0.1) == pytest.approx(factor, abs=1e-9)


def test_precision_names_are_checked() -> None:
    assert choose_precision("fp16", torch.device("cpu")) == "fp16"
    assert choose_precision("auto", torch.device("cpu")) == "fp32"
    with pytest.raises(BoneXageError, match="fp8"):
        choose_precision("fp8", torch.device("cpu"))


@pytest.mark.parametrize(("batch_size", "words"), [(8, "--batch-size 4 --grad-accum 2, "), (1, "--image-size"),
                                                   (5, "--batch-size 2 --grad-accum 3, which makes updates of 6 ")])
def test_out_of_memory_says_what_to_try(cohort: Cohort, tmp_path: Path, cache_dir: Path, batch_size: int, words: str,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(training, "augment", full)
    with pytest.raises(BoneXageError, match=words):
        train(cohort, tmp_path / "run", replace(TINY, batch_size=batch_size), cache_dir=cache_dir)


def test_too_few_films_are_refused(cohort: Cohort, tmp_path: Path, cache_dir: Path) -> None:
    with pytest.raises(BoneXageError, match="--batch-size"):
        train(cohort, tmp_path / "run", replace(TINY, batch_size=1000), cache_dir=cache_dir)


class Bomb:
    """Unpickling this writes a file: the sign that code from a checkpoint ran."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self):
        return (open, (self.mark, "w"))


@pytest.mark.parametrize("kind", ["pickle", "torch", "junk", "empty", "truncated", "foreign", "absent"])
def test_a_checkpoint_from_outside_is_refused_and_never_run(run: Path, tmp_path: Path, kind: str) -> None:
    """Fault 16: loading a pickled checkpoint runs its code."""
    from safetensors.torch import save_file

    # torch.load would itself read a name that ends in .safetensors without unpickling it
    path = tmp_path / ("model.pt" if kind in ("pickle", "torch") else "model.safetensors")
    mark = tmp_path / "ran"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Bomb(mark)))
    elif kind == "torch":
        torch.save({"model": Bomb(mark)}, path)
    elif kind == "junk":
        path.write_bytes(b"not a checkpoint" * 100)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes((run / "model.safetensors").read_bytes()[:-1000])
    elif kind == "foreign":
        save_file({"w": torch.zeros(2)}, path)
    with pytest.raises(BoneXageError, match=r"model\.") as caught:
        load_model(path)
    assert not mark.exists()
    assert "\n" not in str(caught.value)


def test_saving_twice_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    from bonexage_utils.checkpoints import save_model

    model, preprocessing, description = load_model(run / "model.safetensors")
    for name in ("a", "b"):
        save_model(tmp_path / name, model, model.state_dict(), preprocessing, description["training"])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.slow
def test_a_batch_norm_of_one_number_is_refused_in_a_line(cohort: Cohort, cache_dir: Path, tmp_path: Path) -> None:
    one = replace(TINY, backbone="resnest14d", image_size=32, batch_size=1, epochs=1)
    with pytest.raises(BoneXageError, match="--batch-size"):
        train(cohort, tmp_path / "run", one, cache_dir=cache_dir)


def test_a_run_that_lost_its_state_keeps_its_model(run: Path, cohort: Cohort, cache_dir: Path, tmp_path: Path) -> None:
    """Without last/ nothing tells what it was trained on; a new training would replace the model."""
    out = tmp_path / "run"
    shutil.copytree(run, out)
    shutil.rmtree(out / "last")
    with pytest.raises(BoneXageError, match="no state"):
        train(cohort, out, TINY, resume=True, cache_dir=cache_dir)
    assert (out / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


def test_a_folder_with_a_model_is_no_place_for_a_new_run(run: Path, cohort: Cohort, cache_dir: Path,
                                                         tmp_path: Path) -> None:
    shutil.copy(run / "model.safetensors", tmp_path)
    for resume in (False, True):
        with pytest.raises(BoneXageError, match="another --out"):
            train(cohort, tmp_path, TINY, resume=resume, cache_dir=cache_dir)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_the_model_of_another_run_is_not_taken_for_this_ones(run: Path, cohort: Cohort, cache_dir: Path,
                                                             tmp_path: Path) -> None:
    for name, seed in (("mine", 0), ("other", 1)):
        train(cohort, tmp_path / name, replace(TINY, epochs=1, seed=seed), cache_dir=cache_dir)
    mine, other = (tmp_path / name / "model.safetensors" for name in ("mine", "other"))
    one_epoch = replace(TINY, epochs=1)
    assert train(cohort, tmp_path / "mine", one_epoch, resume=True, cache_dir=cache_dir) == mine
    shutil.copy(other, mine)
    with pytest.raises(BoneXageError, match="not the model of this run"):
        train(cohort, tmp_path / "mine", one_epoch, resume=True, cache_dir=cache_dir)


def test_ages_beyond_the_bound_are_refused(cohort: Cohort, cache_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(BoneXageError, match="--max-age"):
        train(cohort, tmp_path / "run", replace(TINY, max_age=50.0), cache_dir=cache_dir)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(os.name != "posix", reason="names of any bytes are of POSIX")
def test_a_run_is_refused_where_its_model_could_not_be_read(cohort: Cohort, cache_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(BoneXageError, match="UTF-8"):
        train(cohort, tmp_path / "run\udcff", TINY, cache_dir=cache_dir)


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["ACCELERATE_GRADIENT_ACCUMULATION_STEPS=4", "ACCELERATE_MIXED_PRECISION=bf16",
                                      "ACCELERATE_DYNAMO_BACKEND=EAGER"])
def test_the_environment_changes_no_setting(variable: str, run: Path, phantom_folder: Path, cache_dir: Path,
                                            tmp_path: Path) -> None:
    """Accelerate reads settings of its own there, as `accelerate config` and `accelerate launch` leave them."""
    name, value = variable.split("=")
    program = ("import sys, torch; from conftest import TINY; from bonexage_utils import load_cohort, train\n"
               "torch.set_num_threads(1)\n"
               "train(load_cohort(sys.argv[1]), sys.argv[2], TINY, cache_dir=sys.argv[3])")
    done = subprocess.run(
        [sys.executable, "-c", program, phantom_folder, tmp_path / "run", cache_dir], capture_output=True, text=True,
        check=False, env={**os.environ, name: value, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT)])})
    assert done.returncode == 0, done.stderr
    first, second = (load_model(folder / "model.safetensors")[2] for folder in (run, tmp_path / "run"))
    assert first["network_sha256"] == second["network_sha256"]
