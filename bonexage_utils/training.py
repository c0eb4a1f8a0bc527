"""Training: one readable loop, and resuming it."""

import csv
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import GradientAccumulationPlugin
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from bonexage_utils.augment import augment
from bonexage_utils.batches import eval_loader, film_changes, film_sets, film_table, pixel_keys, train_loader
from bonexage_utils.checkpoints import (
    load_state,
    network_digest,
    optimizer_tensors,
    random_state,
    restore_network,
    restore_optimizer,
    restore_random,
    save_model,
    save_state,
)
from bonexage_utils.cohort import Cohort
from bonexage_utils.devices import autocast, choose_precision, fit_in_memory, memory_advice, to_network
from bonexage_utils.errors import BoneXageError
from bonexage_utils.files import StopRequest, atomic_file, file_hash, only_writer
from bonexage_utils.images import Preprocessing, measure_intensity
from bonexage_utils.model import BoneAgeNet, age_loss, parameter_groups
from bonexage_utils.settings import TrainConfig
from bonexage_utils.tables import write_table
from bonexage_utils.tensor_files import require_text_path

SHOWN_EVERY = 0.5  # seconds

# All that a run writes. The model stands first: who holds its lock (see `only_writer`) may write it, and only a run or
# `checkpoints.set_calibration` does.
FILES = ("model.safetensors", "last/state.safetensors", "last/films.csv", "log.csv", "config.json", "dropped.csv")


def lr_factor(update: int, updates: int, warmup: float) -> float:
    """Linear warm-up over the first share of all updates, then half a cosine to zero. A function, so that a resumed
    run cannot disagree with an uninterrupted one."""
    first = max(1, round(warmup * updates))
    if update < first:
        return (update + 1) / first
    return 0.5 * (1.0 + math.cos(math.pi * (update - first) / max(1, updates - first)))


def training_summary(cohort: Cohort, films: pd.DataFrame, settings: dict) -> dict:
    """What a checkpoint tells of its training, but for its end: the labels, how many `films` it learned from and their
    median age by sex (months), and the `settings`."""
    return {"cohort": cohort.name, "label_hashes": cohort.label_hashes, "films": len(films),
            "median_months_by_sex": films.groupby("sex")["months"].median().to_dict(), "config": settings}


def update_weights(network: nn.Module, optimizer: torch.optim.Optimizer, lr: float,
                   scaler: torch.amp.GradScaler | None = None, clip: float | None = TrainConfig.clip) -> None:
    """One update at the learning rate `lr` from the gradients that are there, and without them afterwards.

    `scaler` is the one that scaled the loss, if one did. The order matters: unscale, then clip to the norm `clip` (else
    the limit is on scaled gradients; None: no limit), then step.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr
    scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)  # passes all on as it is
    scaler.unscale_(optimizer)
    if clip is not None:
        nn.utils.clip_grad_norm_(network.parameters(), clip)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)


@torch.inference_mode()
def predict_loader(
    model: nn.Module, loader: DataLoader, preprocessing: Preprocessing, accelerator: Accelerator, precision: str
) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and labelled months of every film of a prepared loader, in its order."""
    model.eval()
    predicted, labelled = [], []
    for batch in loader:
        with autocast(accelerator.device, precision):
            months = model(to_network(batch["image"], preprocessing), batch["sex"])
        months, truth = accelerator.gather_for_metrics((months, batch["months"]))
        predicted.append(months.cpu())
        labelled.append(truth.cpu())
    return torch.cat(predicted).double().numpy(), torch.cat(labelled).double().numpy()


def _accelerator(config: TrainConfig) -> Accelerator:
    """Processes and devices as the environment has them; the settings of the run, whatever the environment says."""
    try:
        return Accelerator(
            mixed_precision="no", dynamo_backend="no",
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=config.grad_accum),
            # batch_size is the global one; copying films to a GPU goes on beside its work
            dataloader_config=DataLoaderConfiguration(split_batches=True, non_blocking=True),
        )
    except ValueError as error:
        raise BoneXageError(f"the environment's variables for several processes are not usable ({error}); unset RANK, "
                            "LOCAL_RANK, WORLD_SIZE and ACCELERATE_…, or start with accelerate launch") from None


class Trainer:
    """One run: what is trained, on what, and how far it has come. `fit` is the loop.

    Under `accelerate launch` every process holds one, and each step's `batch_size` films are shared out among them.
    """

    def __init__(self, cohort: Cohort, out: Path | str, config: TrainConfig, drop_bad: bool = False,
                 cache_dir: Path | str | None = None) -> None:
        self.out, self.config = Path(out), config
        self.accelerator = _accelerator(config)
        processes = self.accelerator.num_processes
        if config.batch_size % processes:
            raise BoneXageError(f"--batch-size {config.batch_size} cannot be shared out among {processes} processes; "
                                "choose a multiple of their number")
        self.precision = choose_precision(config.precision, self.accelerator.device)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = config.tf32
        splits = ("train", "selection")
        sets, parts, self.dropped = film_sets(cohort, splits, config.image_size, drop_bad, cache_dir,
                                              config.workers)
        update_size = config.batch_size * config.grad_accum
        if len(sets["train"]) < update_size or not len(sets["selection"]):
            raise BoneXageError(
                f"{cohort.root}: {len(sets['train'])} films to train on and {len(sets['selection'])} to select by; "
                f"it takes at least {update_size} and 1: add films, or lower --batch-size or --grad-accum"
            )
        mean, std = measure_intensity(sets["train"].films, sets["train"].rows)
        self.preprocessing = Preprocessing(config.image_size, mean, std)
        self.films = film_table(sets, parts).to_csv(index=False, quoting=csv.QUOTE_ALL, lineterminator="\n")
        self.learned_from = pixel_keys(part.films[row] for part in sets.values() for row in part.rows)
        months = sets["train"].months
        if config.output == "linear" and np.ptp(months) == 0:
            raise BoneXageError(f"{cohort.root}: all {len(months)} films to train on have the same age, and a linear "
                                "output is scaled by how ages differ; check the labels, or use --output bounded")
        oldest = max(float(sets[split].months.max()) for split in splits)
        if config.output == "bounded" and oldest > config.max_age:
            raise BoneXageError(f"{cohort.root}: a film is labelled {oldest:g} months, which --max-age "
                                f"{config.max_age:g} puts out of reach; raise it, or check the labels")
        torch.manual_seed(config.seed)
        model = BoneAgeNet(config.backbone, config.pooling, config.sex, config.output, config.max_age,
                           float(months.mean()), float(months.std()), config.weights, config.image_size)
        model = model.to(self.accelerator.device, memory_format=torch.channels_last)
        self.ema = ModelEmaV3(model, decay=config.ema_decay, use_warmup=True)
        fused = self.accelerator.device.type in ("cpu", "cuda")  # one pass over the weights instead of ten
        optimizer = torch.optim.AdamW(parameter_groups(model, config.weight_decay), lr=config.lr, fused=fused)
        loader = train_loader(sets["train"], config.batch_size, config.seed, config.workers, config.grad_accum)
        self.sampler = loader.sampler
        if config.compile:
            model.compile()  # in place: names and weights stay, and the averaged network is not compiled
        self.model, self.optimizer, self.loader, self.selection = self.accelerator.prepare(
            model, optimizer, loader, eval_loader(sets["selection"], config.batch_size * 2, config.workers)
        )
        # By hand rather than by Accelerate, so that float16 with a real scaler runs on a processor as well.
        self.scaler = torch.amp.GradScaler(self.accelerator.device.type, enabled=self.precision == "fp16")
        self.epoch, self.update, self.best, self.log = 0, 0, math.inf, []
        self.best_network: str | None = None  # the digest of the model that is kept
        # Within the epoch: batches done, and the sums over them of loss (years), of error (months) and of films. On the
        # device, because whoever asks for their values waits until it has done all its work.
        self.batch, self.sums = 0, self._sums()
        self.stop = StopRequest()
        # An explicit disable=False would override the user's TQDM_DISABLE.
        self.hidden = {} if self.accelerator.is_main_process else {"disable": True}
        self.about = {**training_summary(cohort, parts["train"], asdict(config)), "precision": self.precision}

    @property
    def network(self) -> BoneAgeNet:
        """The network itself, without the wrapper that several processes put round it."""
        return self.accelerator.unwrap_model(self.model)

    def fit(self, on_epoch: Callable[[dict], None] | None = None) -> Path:
        """Train to the last epoch; returns the path of the best model by the selection split's MAE.

        After each epoch the log, the resumable state and, if it is the best so far, the model are written, and
        `on_epoch` gets the log's row. Ctrl-C and SIGTERM write the state after the update at hand.

        Raises BoneXageError when so stopped, when memory runs out, or when loss or weights stop being numbers; in each
        case the last good state stays and can be resumed. Also when the best model was removed meanwhile.
        """
        best_path = self.out / "model.safetensors"
        with self.stop:
            while self.epoch < self.config.epochs:
                started = time.perf_counter()
                try:
                    with memory_advice(self.out, self.config.batch_size, fit_in_memory(self.config)):
                        train_loss, train_mae = self._one_epoch()
                except ValueError as error:
                    if "more than 1 value per channel" not in str(error):  # torch's words where a map has one place
                        raise
                    raise BoneXageError(f"{self.out}: the batch norm of {self.config.backbone} takes more than one "
                                        "film a step here; raise --batch-size or --image-size") from None
                seconds = time.perf_counter() - started
                predicted, labelled = predict_loader(
                    self.ema.module, self.selection, self.preprocessing, self.accelerator, self.precision
                )
                row = {
                    "epoch": self.epoch + 1, "train_loss_years": train_loss, "train_mae_months": train_mae,
                    "selection_mae_months": float(np.abs(predicted - labelled).mean()), "gem_p": self._gem_p(),
                    "seconds": seconds, "films_per_second": len(self.loader) * self.config.batch_size / seconds,
                }
                self._finish_epoch(row, best_path)
                self.accelerator.wait_for_everyone()
                if on_epoch and self.accelerator.is_main_process:
                    on_epoch(row)
        self._require_model()
        return best_path

    def _finish_epoch(self, row: dict, best_path: Path) -> None:
        """The model first, then the state that knows of it: killed in between, the epoch is done again, the same."""
        mae = row["selection_mae_months"]
        self._require_numbers(row["train_loss_years"], row["train_mae_months"], mae)
        self.log.append(row)
        self.epoch, self.batch, self.sums = self.epoch + 1, 0, self._sums()
        if mae < self.best and self.accelerator.is_main_process:
            summary = {**self.about, "epoch": self.epoch, "selection_mae_months": mae}
            best = self.ema.module.state_dict()
            self.best_network = save_model(best_path, self.network, best, self.preprocessing, summary,
                                           self.learned_from)
        self.best = min(self.best, mae)
        self._save()

    def _one_epoch(self) -> tuple[float, float]:
        """One pass over the training films: mean loss (years) and mean absolute error (months) per film."""
        config, device = self.config, self.accelerator.device
        updates = config.epochs * len(self.loader) // config.grad_accum
        self.sampler.epoch, self.sampler.skip = self.epoch, self.batch * config.batch_size
        self.model.train()
        bar = tqdm(self.loader, desc=f"epoch {self.epoch + 1}/{config.epochs}", unit="batch", leave=False,
                   initial=self.batch, mininterval=0.5, **self.hidden)
        shown = time.perf_counter()
        for batch in bar:
            change = None if config.augmentation is None else partial(
                augment, keys=batch["key"], epoch=self.epoch, seed=config.seed, how=config.augmentation)
            images = to_network(batch["image"], self.preprocessing, change=change)
            with self.accelerator.accumulate(self.model):
                with autocast(device, self.precision):
                    months = self.model(images, batch["sex"])
                loss = age_loss(months, batch["months"], config.loss)
                self.accelerator.backward(self.scaler.scale(loss))
                if self.accelerator.sync_gradients:
                    self._step(updates)
            seen = [loss, (months - batch["months"]).abs().mean(), torch.ones_like(loss)]
            self.sums += torch.stack(seen).detach().to(self.sums) * len(months)
            self.batch += 1
            if time.perf_counter() - shown > SHOWN_EVERY:
                bar.set_postfix_str(f"mean error {self._means(self.sums)[1]:.1f} months", refresh=False)
                shown = time.perf_counter()
            if self.accelerator.sync_gradients:
                self._stop_if_asked()
        return self._means(self._over_processes(self.sums))

    def _sums(self, values: Sequence[float] = (0.0, 0.0, 0.0)) -> Tensor:
        device = self.accelerator.device
        return torch.tensor(values, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)

    def _means(self, sums: Tensor) -> tuple[float, float]:
        """Loss (years) and error (months) per film. A loss that was no number shows here, before anything is saved."""
        loss, error, films = sums.tolist()
        if not math.isfinite(loss):
            raise self._no_number(f"loss became {loss}")
        return loss / films, error / films

    def _step(self, updates: int) -> None:
        optimizer = self.optimizer.optimizer  # the scaler wants the bare one, not Accelerate's wrapper
        lr = self.config.lr * lr_factor(self.update, updates, self.config.warmup)
        update_weights(self.network, optimizer, lr, self.scaler, self.config.clip)
        self.update += 1
        self.ema.update(self.network, step=self.update)

    def _no_number(self, what: str) -> BoneXageError:
        return BoneXageError(f"{self.out}: the {what} in epoch {self.epoch + 1}; what was saved before stays: train "
                             "into another folder with a lower --lr or --precision fp32")

    def _require_numbers(self, *scores: float) -> None:
        """Before anything is saved: no loss shows yet what the last update did to the weights."""
        weights = [*self.network.state_dict().values(), *self.ema.module.state_dict().values()]
        if not np.isfinite(scores).all() or not all(torch.isfinite(weight).all() for weight in weights):
            raise self._no_number("weights stopped being numbers")

    def _require_model(self, network: str | None = None) -> None:
        path = self.out / "model.safetensors"
        if self.accelerator.is_main_process and not path.is_file():
            raise BoneXageError(f"{path}: removed since it was written; put it back, or train into another folder")
        if self.accelerator.is_main_process and network and network_digest(path) != network:
            raise BoneXageError(f"{path}: not the model of this run; put that back, or train into another folder")

    def _stop_if_asked(self) -> None:
        several = self.accelerator.num_processes > 1
        if self.stop.asked and several:
            self.accelerator.set_trigger()
        # One process was asked: all of them stop at the same update. To ask the others is to wait for the device.
        if self.accelerator.check_trigger() if several else self.stop.asked:
            self.sums = self._over_processes(self.sums)
            self._require_numbers(*self._means(self.sums))
            self._save()
            self.accelerator.wait_for_everyone()
            raise BoneXageError(f"{self.out}: stopped in epoch {self.epoch + 1} and saved; go on with --resume")

    def _over_processes(self, sums: Tensor) -> Tensor:
        return self.accelerator.reduce(sums) if self.accelerator.num_processes > 1 else sums

    def _gem_p(self) -> float | None:
        pool = self.network.pool
        return float(pool.p.detach()) if self.config.pooling == "gem" else None

    def _save(self) -> None:
        """The log, and everything the next update depends on. Every process's random stream is the same."""
        if not self.accelerator.is_main_process:
            return
        save_state(
            self.out / "last" / "state.safetensors",
            {"model": self.network.state_dict(), "ema": self.ema.module.state_dict(),
             "optimizer": optimizer_tensors(self.optimizer.optimizer), "random": random_state(self.accelerator.device)},
            {"epoch": self.epoch, "batch": self.batch, "sums": self.sums.tolist(), "update": self.update,
             "best": self.best, "log": self.log, "scaler": self.scaler.state_dict(), "config": self.config.fixed(),
             "films_sha256": hashlib.sha256(self.films.encode()).hexdigest(), "network_sha256": self.best_network},
        )
        self._write_log()

    def _write_log(self) -> None:
        if self.log:
            with atomic_file(self.out / "log.csv") as temporary:
                pd.DataFrame(self.log).to_csv(temporary, index=False, float_format="%.6g")

    def restore(self) -> None:
        """Go on from RUN/last: weights (raw and averaged), optimizer, scaler, random stream, counts, best so far.

        Raises BoneXageError if there is no state, if it belongs to other settings, films or labels, or if the best
        model so far is gone.
        """
        parts, progress = load_state(self.out / "last" / "state.safetensors")
        current = self.config.fixed()
        changed = [name for name, value in progress["config"].items() if current.get(name) != value]
        if changed:
            raise BoneXageError(
                f"{self.out}: begun with other settings ({', '.join(changed)}); resume with the same, "
                "or train into another folder"
            )
        self._require_same_films(progress.get("films_sha256"))
        if progress["epoch"] > self.config.epochs or progress["batch"] >= len(self.loader):
            raise BoneXageError(f"{self.out}: its state is further than this run goes; copy it again, or train into "
                                "another folder")
        self.best_network = progress.get("network_sha256")
        if progress["epoch"]:
            self._require_model(self.best_network)
        restore_network(self.network, parts["model"])
        restore_network(self.ema.module, parts["ema"])
        restore_optimizer(self.optimizer.optimizer, parts["optimizer"])
        self.scaler.load_state_dict(progress["scaler"])
        restore_random(parts["random"], self.accelerator.device)
        self.epoch, self.batch, self.update = progress["epoch"], progress["batch"], progress["update"]
        self.best, self.log = progress["best"], progress["log"]
        if self.accelerator.is_main_process:
            self.sums = self._sums(progress["sums"])  # they are of all processes
            self._write_log()  # a run killed between state and log had not written its last row

    def require_same_start(self) -> None:
        """A run killed between its first model and its first state begins again. Raises BoneXageError for any other
        that has no state: its model would be lost."""
        path = self.out / "last" / "films.csv"
        if not path.is_file() or file_hash(path) != hashlib.sha256(self.films.encode()).hexdigest() or \
                (self.out / "log.csv").exists():
            raise BoneXageError(f"{self.out}: holds a model, but no state in last/ to go on from; put that back, or "
                                "train into another folder")

    def _require_same_films(self, begun_with: str | None) -> None:
        if begun_with == hashlib.sha256(self.films.encode()).hexdigest():
            return
        path = self.out / "last" / "films.csv"
        if begun_with is None:
            how = "by a version that did not record its films"
        elif not path.is_file() or file_hash(path) != begun_with:
            how = "with other films or labels; which, last/films.csv no longer tells"
        else:
            before, now = (pd.read_csv(table, dtype=str, keep_default_na=False)
                           for table in (path, StringIO(self.films)))
            how = f"with other films or labels: {film_changes(before, now)}"
        raise BoneXageError(f"{self.out}: begun {how}; resume with the same, or train into another folder")


def train(cohort: Cohort, out: Path | str, config: TrainConfig, *, resume: bool = False, drop_bad: bool = False,
          cache_dir: Path | str | None = None, on_epoch: Callable[[dict], None] | None = None) -> Path:
    """Train on a cohort's train split, select on its selection split; returns RUN/model.safetensors.

    Writes `model.safetensors` (averaged weights, best by selection MAE), `last/` (resumable; with `films.csv`, see
    `batches.film_table`), `log.csv`, `config.json`, and `dropped.csv` if films were left out.

    Raises BoneXageError when `out` already holds a run and `resume` is False, when another process trains into it, and
    for every reason of `Trainer` and its methods.
    """
    out = Path(out)
    require_text_path(out)
    # Accelerate's own word for which process is the first: the environment's names for it differ by launcher.
    with only_writer(*(out / name for name in FILES)) if _accelerator(config).is_main_process else nullcontext():
        there = [name for name in FILES if os.path.lexists(out / name)]
        if there and not resume:
            raise BoneXageError(f"{out}: holds a run already ({there[0]}); go on with --resume or choose another --out")
        if there and "config.json" not in there:  # settings come first, so this is no run that was stopped
            raise BoneXageError(f"{out}: holds {there[0]} but no run to go on with; choose another --out")
        trainer = Trainer(cohort, out, config, drop_bad, cache_dir)
        if resume and (out / "last" / "state.safetensors").exists():
            trainer.restore()
        elif resume and not {"model.safetensors", "log.csv"}.isdisjoint(there):
            trainer.require_same_start()
        if trainer.accelerator.is_main_process:
            _write_settings(trainer, cohort)
        return trainer.fit(on_epoch)


def _write_settings(trainer: Trainer, cohort: Cohort) -> None:
    with atomic_file(trainer.out / "config.json") as temporary:  # first: by it `train` knows a run
        temporary.write_text(json.dumps(
            {**asdict(trainer.config), "precision_used": trainer.precision,
             "device": trainer.accelerator.device.type, "cohort": cohort.name,
             "label_hashes": cohort.label_hashes}, indent=2), encoding="utf-8")
    with atomic_file(trainer.out / "last" / "films.csv") as temporary:
        temporary.write_bytes(trainer.films.encode())
    if not trainer.dropped:  # of a run that was stopped before its first state
        (trainer.out / "dropped.csv").unlink(missing_ok=True)
    else:
        with atomic_file(trainer.out / "dropped.csv") as temporary:
            write_table(pd.DataFrame(trainer.dropped.items(), columns=["id", "reason"]), temporary)
