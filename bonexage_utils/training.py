"""Training: one readable loop, and resuming it."""

import csv
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, DataLoaderConfiguration
from timm.utils import ModelEmaV3
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from bonexage_utils.batches import (
    FilmDataset,
    augment,
    eval_loader,
    standardise,
    to_unit,
    train_loader,
)
from bonexage_utils.checkpoints import (
    count_parameters,
    load_state,
    optimizer_tensors,
    restore_optimizer,
    save_model,
    save_state,
)
from bonexage_utils.cohort import Cohort
from bonexage_utils.config import DTYPES, TrainConfig, choose_precision, lr_factor
from bonexage_utils.errors import BoneXageError
from bonexage_utils.files import atomic_file
from bonexage_utils.images import Preprocessing, cached_images, measure_intensity
from bonexage_utils.model import BoneAgeNet, age_loss, parameter_groups


@torch.inference_mode()
def predict_loader(
    model: nn.Module, loader: DataLoader, preprocessing: Preprocessing, accelerator: Accelerator, precision: str
) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and labelled months of every film of a prepared loader, in its order."""
    model.eval()
    predicted, labelled = [], []
    for batch in loader:
        images = standardise(to_unit(batch["image"]), preprocessing).to(memory_format=torch.channels_last)
        with torch.autocast(accelerator.device.type, DTYPES[precision], enabled=precision != "fp32"):
            months = model(images, batch["sex"])
        months, truth = accelerator.gather_for_metrics((months, batch["months"]))
        predicted.append(months.cpu())
        labelled.append(truth.cpu())
    return torch.cat(predicted).double().numpy(), torch.cat(labelled).double().numpy()


class Trainer:
    """One run: what is trained, on what, and how far it has come. `fit` is the loop."""

    def __init__(self, cohort: Cohort, out: Path | str, config: TrainConfig, drop_bad: bool = False,
                 cache_dir: Path | str | None = None) -> None:
        self.out, self.config = Path(out), config
        self.accelerator = Accelerator(
            gradient_accumulation_steps=config.grad_accum,
            dataloader_config=DataLoaderConfiguration(split_batches=True),  # batch_size is the global one
        )
        self.precision = choose_precision(config.precision, self.accelerator.device)
        table, rows, films, self.dropped = _usable_films(cohort, config.image_size, drop_bad, cache_dir)
        part = {name: np.flatnonzero(table["split"] == name) for name in ("train", "selection")}
        update_size = config.batch_size * config.grad_accum
        if len(part["train"]) < update_size or not len(part["selection"]):
            raise BoneXageError(
                f"{cohort.root}: {len(part['train'])} films to train on and {len(part['selection'])} to select by; "
                f"it takes at least {update_size} and 1: add films, or lower --batch-size or --grad-accum"
            )
        mean, std = measure_intensity(films, rows[part["train"]])
        self.preprocessing = Preprocessing(config.image_size, mean, std)
        sets = {
            name: FilmDataset(films, rows[index], table.iloc[index].reset_index(drop=True))
            for name, index in part.items()
        }
        months = sets["train"].months
        torch.manual_seed(config.seed)
        model = BoneAgeNet(config.backbone, config.pooling, config.sex, config.output, config.max_age,
                           float(months.mean()), float(months.std()), config.weights)
        model = model.to(self.accelerator.device, memory_format=torch.channels_last)
        self.ema = ModelEmaV3(model, decay=config.ema_decay, use_warmup=True)
        optimizer = torch.optim.AdamW(parameter_groups(model, config.weight_decay), lr=config.lr)
        loader = train_loader(sets["train"], config.batch_size, config.seed, config.workers,
                              config.grad_accum)
        self.sampler = loader.sampler
        self.model, self.optimizer, self.loader, self.selection = self.accelerator.prepare(
            model, optimizer, loader, eval_loader(sets["selection"], config.batch_size * 2, config.workers)
        )
        # By hand rather than by Accelerate, so that float16 with a real scaler runs on a processor as well.
        self.scaler = torch.amp.GradScaler(self.accelerator.device.type, enabled=self.precision == "fp16")
        self.epoch, self.update, self.best, self.log = 0, 0, math.inf, []
        self.labels = _describe_labels(cohort, table, part["train"])

    @property
    def network(self) -> BoneAgeNet:
        """The network itself, without the wrapper that several processes put round it."""
        return self.accelerator.unwrap_model(self.model)

    def fit(self, on_epoch: Callable[[dict], None] | None = None) -> Path:
        """Train to the last epoch; returns the path of the best model by the selection split's MAE.

        After each epoch the log, the resumable state and, if it is the best so far, the model are written, and
        `on_epoch` gets the log's row. Raises BoneXageError if the loss stops being a number; the last good state
        stays.
        """
        config = self.config
        best_path = self.out / "model.safetensors"
        while self.epoch < config.epochs:
            started = time.perf_counter()
            train_loss, train_mae = self._one_epoch()
            seconds = time.perf_counter() - started
            predicted, labelled = predict_loader(
                self.ema.module, self.selection, self.preprocessing, self.accelerator, self.precision
            )
            mae = float(np.abs(predicted - labelled).mean())
            row = {
                "epoch": self.epoch + 1, "train_loss_years": train_loss, "train_mae_months": train_mae,
                "selection_mae_months": mae, "gem_p": self._gem_p(), "seconds": seconds,
                "films_per_second": len(self.loader) * config.batch_size / seconds,
            }
            self.log.append(row)
            self.epoch += 1
            if self.accelerator.is_main_process:
                if mae < self.best:
                    summary = {**self.labels, "epoch": self.epoch, "selection_mae_months": mae,
                               "config": asdict(config), "precision": self.precision,
                               "parameters": count_parameters(self.network)}
                    save_model(best_path, self.network, self.ema.module.state_dict(), self.preprocessing, summary)
                self.best = min(self.best, mae)
                self._save()
            self.accelerator.wait_for_everyone()
            if on_epoch:
                on_epoch(row)
        return best_path

    def _one_epoch(self) -> tuple[float, float]:
        """One pass over the training films: mean loss (years) and mean absolute error (months) per film."""
        config, device = self.config, self.accelerator.device
        updates = config.epochs * len(self.loader) // config.grad_accum
        self.sampler.epoch = self.epoch
        self.model.train()
        loss_sum = error_sum = films = 0.0
        bar = tqdm(self.loader, desc=f"epoch {self.epoch + 1}/{config.epochs}", unit="batch", leave=False,
                   mininterval=0.5, disable=not self.accelerator.is_main_process)
        for batch in bar:
            images = to_unit(batch["image"])
            if config.augmentation is not None:
                images = augment(images, batch["key"], self.epoch, config.seed, config.augmentation)
            images = standardise(images, self.preprocessing).to(memory_format=torch.channels_last)
            with self.accelerator.accumulate(self.model):
                with torch.autocast(device.type, DTYPES[self.precision], enabled=self.precision != "fp32"):
                    months = self.model(images, batch["sex"])
                loss = age_loss(months, batch["months"], config.loss)
                if not torch.isfinite(loss):
                    raise BoneXageError(
                        f"{self.out}: the loss became {loss.item()} in epoch {self.epoch + 1}; the state of the "
                        "epoch before is kept: lower --lr or train with --precision fp32"
                    )
                self.accelerator.backward(self.scaler.scale(loss))
                if self.accelerator.sync_gradients:
                    self._step(updates)
            count = len(months)
            loss_sum += loss.item() * count
            error_sum += (months.detach() - batch["months"]).abs().sum().item()
            films += count
            bar.set_postfix_str(f"mean error {error_sum / films:.1f} months", refresh=False)
        return loss_sum / films, error_sum / films

    def _step(self, updates: int) -> None:
        """One update. The order matters: unscale, then clip (else the limit is on scaled gradients), then step."""
        optimizer = self.optimizer.optimizer  # the scaler wants the bare one, not Accelerate's wrapper
        for group in optimizer.param_groups:
            group["lr"] = self.config.lr * lr_factor(self.update, updates, self.config.warmup)
        self.scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        self.scaler.step(optimizer)
        self.scaler.update()
        optimizer.zero_grad(set_to_none=True)
        self.update += 1
        self.ema.update(self.network, step=self.update)

    def _gem_p(self) -> float | None:
        pool = self.network.pool
        return float(pool.p.detach()) if self.config.pooling == "gem" else None

    def _save(self) -> None:
        """The log, and everything the next epoch depends on."""
        random = {"cpu": torch.get_rng_state()}
        if self.accelerator.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state()
        save_state(
            self.out / "last" / "state.safetensors",
            {"model": self.network.state_dict(), "ema": self.ema.module.state_dict(),
             "optimizer": optimizer_tensors(self.optimizer.optimizer), "random": random},
            {"epoch": self.epoch, "update": self.update, "best": self.best, "log": self.log,
             "scaler": self.scaler.state_dict(), "config": self.config.fixed()},
        )
        with atomic_file(self.out / "log.csv") as temporary, open(temporary, "w", newline="") as handle:
            writer = csv.DictWriter(handle, list(self.log[0]))
            writer.writeheader()
            for row in self.log:
                writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})

    def restore(self) -> None:
        """Go on from RUN/last: weights (raw and averaged), optimizer, scaler, random stream, counts, best so far.

        Raises BoneXageError if there is no state or it belongs to other settings.
        """
        parts, progress = load_state(self.out / "last" / "state.safetensors")
        mine = self.config.fixed()
        changed = [name for name, value in progress["config"].items() if mine.get(name) != value]
        if changed:
            raise BoneXageError(
                f"{self.out}: begun with other settings ({', '.join(changed)}); resume with the same, "
                "or train into another folder"
            )
        self.network.load_state_dict(parts["model"])
        self.ema.module.load_state_dict(parts["ema"])
        restore_optimizer(self.optimizer.optimizer, parts["optimizer"])
        self.scaler.load_state_dict(progress["scaler"])
        torch.set_rng_state(parts["random"]["cpu"])
        if "cuda" in parts["random"] and self.accelerator.device.type == "cuda":
            torch.cuda.set_rng_state(parts["random"]["cuda"])
        self.epoch, self.update = progress["epoch"], progress["update"]
        self.best, self.log = progress["best"], progress["log"]


def _usable_films(cohort: Cohort, size: int, drop_bad: bool, cache_dir: Path | str | None):
    """The labelled films of train and selection, the row of each in the cache, the cache, and what was dropped.

    Raises BoneXageError naming the films that cannot be read, unless `drop_bad`.
    """
    table = cohort.table[cohort.table["split"].isin(["train", "selection"])].reset_index(drop=True)
    cache = cached_images(table["image"].tolist(), size, cache_dir)
    dropped = {table["id"][row]: reason for row, reason in cache.failures.items()}
    if dropped and not drop_bad:
        shown = "; ".join(list(dropped.values())[:3])
        raise BoneXageError(f"{cohort.root}: {len(dropped)} films cannot be used, e.g. {shown}; "
                            "mend them, or go on without them with --drop-bad")
    rows = np.array([row for row in range(len(table)) if row not in cache.failures], int)
    return table.iloc[rows].reset_index(drop=True), rows, cache.array, dropped


def _describe_labels(cohort: Cohort, table, train_rows: np.ndarray) -> dict:
    labels = table.iloc[train_rows]
    return {
        "cohort": cohort.root.name, "label_hashes": cohort.label_hashes, "films": len(labels),
        "median_months_by_sex": labels.groupby("sex")["months"].median().to_dict(),
    }


def train(cohort: Cohort, out: Path | str, config: TrainConfig, *, resume: bool = False, drop_bad: bool = False,
          cache_dir: Path | str | None = None, on_epoch: Callable[[dict], None] | None = None) -> Path:
    """Train on a cohort's train split, select on its selection split; returns RUN/model.safetensors.

    Writes `model.safetensors` (averaged weights, best by selection MAE), `last/` (resumable), `log.csv`,
    `config.json`, and `dropped.csv` if films were left out. Raises BoneXageError when `out` already holds a run
    and `resume` is False, and for every reason of `Trainer` and `Trainer.restore`.
    """
    out = Path(out)
    if (out / "config.json").exists() and not resume:
        raise BoneXageError(f"{out}: holds a run already; go on with --resume or choose another --out")
    trainer = Trainer(cohort, out, config, drop_bad, cache_dir)
    if resume and (out / "last" / "state.safetensors").exists():
        trainer.restore()
    if trainer.accelerator.is_main_process:
        with atomic_file(out / "config.json") as temporary:
            temporary.write_text(json.dumps(
                {**asdict(config), "precision_used": trainer.precision, "device": trainer.accelerator.device.type,
                 "cohort": cohort.root.name, "label_hashes": cohort.label_hashes}, indent=2))
        if trainer.dropped:
            with atomic_file(out / "dropped.csv") as temporary, open(temporary, "w", newline="") as handle:
                csv.writer(handle).writerows([("id", "reason"), *trainer.dropped.items()])
    return trainer.fit(on_epoch)


