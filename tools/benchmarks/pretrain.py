"""Teach a backbone what a hand is: on phantoms, it learns to name the state of every ossification centre.

    bonexage phantom PHANTOMS --n 12000 --seed 1000
    python -m tools.benchmarks.pretrain PHANTOMS --out bonexage_utils/weights
    python -m tools.benchmarks.pretrain PHANTOMS --backbone convnext_atto_ols --teacher resnet10t --lr 2e-3

Targets, per centre: is it there, how wide is it beside the shaft, how far has it fused. Neither the sex nor the bone
age is among inputs or targets. Each centre reads the network's map through an attention of its own, so that no pooling
of the course is favoured. Half of the updates see small films, which are quick, and only the last fifth large ones.
Films are turned, stretched, regraded, shaded and sampled well or badly, so that what is learned carries over to films
of another kind.

With a teacher, a backbone that is shipped already, the new one also learns to give the teacher's maps, stage by stage
(hints: Romero et al., ICLR 2015): a ConvNeXt learns slowly from the targets alone. A stopped run goes on where its last
state was written, every few minutes beside the weights.

On a GPU: `--backbone convnext_tiny --size 320 --batch-size 128` with as many phantoms as you have time to draw.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from tqdm import tqdm

from bonexage_utils.augment import augment
from bonexage_utils.batches import EpochSampler, film_key
from bonexage_utils.checkpoints import optimizer_tensors, restore_network, restore_optimizer
from bonexage_utils.cohort import Cohort, load_cohort
from bonexage_utils.devices import autocast, choose_precision, to_network
from bonexage_utils.files import StopRequest, atomic_file
from bonexage_utils.images import Preprocessing, cached_images, measure_intensity
from bonexage_utils.model import Features, parameter_groups
from bonexage_utils.phantom.anatomy import APPEARANCE
from bonexage_utils.phantom.dataset import COHORT_FILE, TRUTH_FILE
from bonexage_utils.settings import Augmentation
from bonexage_utils.training import lr_factor, update_weights
from bonexage_utils.weights import save_weights, shipped
from tools.benchmarks.table import hardware

CENTRES = tuple(APPEARANCE)
STATES = ("present", "emr", "fusion")
AUGMENTATION = Augmentation(contrast=0.25, gamma=0.25, noise=0.03)
STAGES = {0.0: 0.6, 0.5: 0.8, 0.8: 1.0}  # from this share of all updates on: this share of the full size
SHADE = 0.25  # SD of the log of a film's local gain
STRIDE = 32  # px of a film to a cell of the last map
SAVE_SECONDS = 180.0
WIDTH_SCALE = 0.1  # an epiphysis's relative width counts as much as its presence when its error is so large


class CentreStates(nn.Module):
    """A map (B, C, h, w) to the logits of each centre's presence and fusion and to its width: (B, centres, 3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = nn.Conv2d(channels, len(CENTRES), 1)
        self.weight = nn.Parameter(torch.randn(len(CENTRES), channels, len(STATES)) * channels**-0.5)
        self.bias = nn.Parameter(torch.tensor([0.0, 0.8, -1.0]).repeat(len(CENTRES), 1))

    def forward(self, features: Tensor) -> Tensor:
        where = self.attention(features).flatten(2).softmax(-1)
        read = torch.einsum("bnp,bcp->bnc", where, features.flatten(2))
        return torch.einsum("bnc,ncs->bns", read, self.weight) + self.bias


def stage_maps(features: Features, images: Tensor) -> list[Tensor]:
    """The maps (B, C, h, w) after each of the last four stages, the last one as `features` itself gives it."""
    last, stages = features.body.forward_intermediates(images)
    return [*stages[-4:-1], features.non_negative(features.body.forward_head(last))]


class Hints(nn.Module):
    """How much of a teacher's maps cannot be read off a student's, stage by stage: the mean over channels of the share
    of variance that a 1 × 1 convolution leaves unexplained (0 to about 1), summed over four stages."""

    def __init__(self, student: Features, teacher: Features) -> None:
        super().__init__()
        noise = torch.randn(1, 1, 2 * STRIDE, 2 * STRIDE)
        with torch.no_grad():
            widths = [[maps.shape[1] for maps in stage_maps(net, noise)] for net in (student, teacher)]
        self.readers = nn.ModuleList(nn.Conv2d(own, others, 1) for own, others in zip(*widths, strict=True))

    def forward(self, own: list[Tensor], others: list[Tensor]) -> Tensor:
        return sum(F.mse_loss(reader(maps.float()), F.batch_norm(target.float(), None, None, training=True))
                   for reader, maps, target in zip(self.readers, own, others, strict=True))


def wake(body: nn.Module) -> None:
    """Draw the weights anew, each layer as large as keeps its input's variance (LeCun et al. 1998).

    timm draws ConvNeXt's with an SD of 0.02 whatever a layer's width and starts each block at a millionth: made for 300
    epochs of a million images. A narrow network of a few thousand updates hardly leaves such a start.
    """
    for module in body.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
    for name, parameter in body.named_parameters():
        if name.endswith("gamma"):
            nn.init.constant_(parameter, 0.5)


def read_states(cohort: Cohort, table: pd.DataFrame) -> Tensor:
    """float32 (films, centres, 3): presence 0/1, relative width, fusion 0–1."""
    truth = pd.read_csv(cohort.root / TRUTH_FILE, dtype={"id": str}).set_index("id").loc[table["id"]]
    return torch.tensor(np.stack(
        [truth[[f"{state}_{centre}" for state in STATES]].to_numpy(np.float32) for centre in CENTRES], 1))


def state_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy of presence and of fusion, smooth L1 of the width of what is there; predicted, truth (B, centres,
    3)."""
    there = truth[..., 0]
    presence = F.binary_cross_entropy_with_logits(predicted[..., 0], there)
    fusion = F.binary_cross_entropy_with_logits(predicted[..., 2], truth[..., 2])
    width = F.smooth_l1_loss(predicted[..., 1] / WIDTH_SCALE, truth[..., 1] / WIDTH_SCALE, reduction="none")
    return presence + fusion + (width * there).sum() / there.sum().clamp(min=1)


def stage_size(size: int, done: float) -> int:
    """The side (px, whole strides) of films when the share `done` of all updates is behind."""
    return round(size * STAGES[max(begin for begin in STAGES if begin <= done)] / STRIDE) * STRIDE


def coarsen(images: Tensor, side: int, rng: np.random.Generator) -> Tensor:
    """Square films at another side, sampled well (area) or, one batch in four, badly (nearest), as films come."""
    return F.interpolate(images, (side, side), mode=str(rng.choice(["area", "nearest"], p=[0.75, 0.25])))


def shade(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Each film brighter here and darker there, smoothly, as consoles level them: (B, 1, S, S), 0–1 scale."""
    field = torch.from_numpy(rng.normal(0.0, SHADE, (len(images), 1, 4, 4)).astype(np.float32)).to(images.device)
    return (images * F.interpolate(field, images.shape[-2:], mode="bicubic", align_corners=True).exp()).clamp(0, 1)


def stretch(images: Tensor, rng: np.random.Generator) -> Tensor:
    """A batch at a height and a width of its own, one in four a stride more: whole strides, so that all networks give
    maps of one size."""
    sides = [images.shape[-1] + int(px) for px in rng.choice([0, STRIDE], 2, p=[0.75, 0.25])]
    return F.interpolate(images, sides, mode="bilinear", align_corners=False)


def change(images: Tensor, keys: Tensor, epoch: int, seed: int, done: float, rng: np.random.Generator) -> Tensor:
    """All that happens to films (B, 1, S, S), 0–1 scale, before they are learned from; `done` is the share (0–1) of the
    updates that are over."""
    images = coarsen(images, stage_size(images.shape[-1], done), rng)
    images = stretch(augment(images, keys, epoch, seed, AUGMENTATION), rng)
    return shade(images, rng)


@torch.inference_mode()
def score(network: nn.Module, films: np.ndarray, rows: np.ndarray, truth: Tensor, preprocessing: Preprocessing,
          typical: Tensor) -> dict[str, float]:
    """Errors on films as they are; `typical` (centres, 3) is the constant answer they are compared with."""
    network.eval()
    predicted = torch.cat([network(to_network(torch.from_numpy(films[part]), preprocessing))
                      for part in np.array_split(rows, max(1, len(rows) // 64))])
    there = truth[..., 0] > 0.5

    def mean_error(value: Tensor, state: int) -> float:
        error = (value - truth[..., state]).abs()
        return round(float(error[there].mean() if state == 1 else error.mean()), 4)

    constant = typical.expand_as(truth)
    return {
        "films": len(rows),
        "presence_accuracy": round(float(((predicted[..., 0] > 0) == there).float().mean()), 4),
        "presence_accuracy_of_the_commonest": round(float(((constant[..., 0] > 0.5) == there).float().mean()), 4),
        "width_error": mean_error(predicted[..., 1], 1), "width_error_of_the_mean": mean_error(constant[..., 1], 1),
        "fusion_error": mean_error(predicted[..., 2].sigmoid(), 2),
        "fusion_error_of_the_mean": mean_error(constant[..., 2], 2),
    }


class Pretraining:
    """A run that can be stopped: the network, its averaged copy, its teacher if it has one, and how far it has come."""

    def __init__(self, backbone: str, teacher: str | None, lr: float, device: torch.device) -> None:
        features = Features(backbone)
        wake(features.body)
        self.network = nn.Sequential(features, CentreStates(features.channels))
        self.teacher = Features(teacher, "phantom").eval().requires_grad_(False) if teacher else None
        self.learning = nn.ModuleList([self.network, *([Hints(features, self.teacher)] if teacher else [])])
        for part in filter(None, (self.learning, self.teacher)):
            part.to(device, memory_format=torch.channels_last)
        self.ema = ModelEmaV3(self.network, decay=0.999, use_warmup=True)
        self.optimizer = torch.optim.AdamW(parameter_groups(self.learning, 0.05), lr=lr, fused=True)
        self.lr, self.precision = lr, choose_precision("auto", device)
        self.done = {"updates": 0, "seconds": 0.0, "processor_seconds": 0.0}

    def step(self, images: Tensor, truth: Tensor, updates: int) -> dict[str, float]:
        """One update of `updates` in all; its losses."""
        with autocast(images.device, self.precision):
            maps = stage_maps(self.network[0], images)
        losses = {"states": state_loss(self.network[1](maps[-1].float()), truth)}
        if self.teacher:
            with torch.no_grad(), autocast(images.device, self.precision):
                shown = stage_maps(self.teacher, images)
            losses["hints"] = self.learning[1](maps, shown)
        sum(losses.values()).backward()
        update_weights(self.learning, self.optimizer, self.lr * lr_factor(self.done["updates"], updates, 0.1))
        self.done["updates"] += 1
        self.ema.update(self.network, step=self.done["updates"])
        return {name: loss.item() for name, loss in losses.items()}

    def save(self, path: Path) -> None:
        parts = {"learning": self.learning.state_dict(), "ema": self.ema.module.state_dict(),
                 "optimizer": optimizer_tensors(self.optimizer),
                 "done": {name: torch.tensor(value, dtype=torch.float64) for name, value in self.done.items()}}
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as temporary:
            temporary.write_bytes(save({f"{part}/{name}": tensor.contiguous()
                                        for part, tensors in parts.items() for name, tensor in tensors.items()}))

    def restore(self, path: Path) -> None:
        """Go on from what `save` wrote. Nothing random is put back: each update has a stream of its own."""
        parts: dict[str, dict[str, Tensor]] = {}
        for key, tensor in load_file(path).items():
            part, _, name = key.partition("/")
            parts.setdefault(part, {})[name] = tensor
        restore_network(self.learning, parts["learning"])
        restore_network(self.ema.module, parts["ema"])
        restore_optimizer(self.optimizer, parts["optimizer"])
        self.done = {name: type(self.done[name])(value.item()) for name, value in parts["done"].items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohort", type=Path, help="a folder written by `bonexage phantom`")
    parser.add_argument("--out", type=Path, default=Path("bonexage_utils/weights"))
    parser.add_argument("--state", type=Path, default=Path("build/pretrain"), help="where a stopped run goes on from")
    parser.add_argument("--backbone", default="resnet10t")
    parser.add_argument("--teacher", choices=shipped(), help="whose maps to learn as well")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    cohort = load_cohort(args.cohort)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cache = cached_images(cohort.table["image"].tolist(), args.size)
    held_out = cohort.table["split"] == "calibration"
    rows, others = (cohort.table.index[part].to_numpy() for part in (~held_out, held_out))
    truth, others_truth = (read_states(cohort, cohort.table.loc[part]) for part in (rows, others))
    keys = torch.tensor([film_key(film) for film in cohort.table.loc[rows, "id"]])
    preprocessing = Preprocessing(args.size, *measure_intensity(cache.array, rows))
    torch.manual_seed(args.seed)
    run = Pretraining(args.backbone, args.teacher, args.lr, device)
    state = args.state / f"{args.backbone}.safetensors"
    if state.is_file():
        run.restore(state)
    run.network.train()
    sampler = EpochSampler(len(rows), args.seed, args.batch_size)
    per_epoch, done = len(sampler) // args.batch_size, run.done
    updates = args.epochs * per_epoch
    bar = tqdm(total=updates, initial=done["updates"], unit="update", mininterval=5)
    saved = time.monotonic()
    with StopRequest() as stop, bar:
        while done["updates"] < updates:
            begun = time.perf_counter(), time.process_time()
            sampler.epoch, nth = divmod(done["updates"], per_epoch)
            batch = np.fromiter(sampler, int).reshape(per_epoch, -1)[nth]
            change_films = partial(
                change, keys=keys[batch].to(device), epoch=sampler.epoch, seed=args.seed,
                done=done["updates"] / updates, rng=np.random.default_rng([args.seed, done["updates"]]))
            images = to_network(torch.from_numpy(cache.array[rows[batch]]), preprocessing, device, change_films)
            losses = run.step(images, truth[batch].to(device), updates)
            done["seconds"] += time.perf_counter() - begun[0]
            done["processor_seconds"] += time.process_time() - begun[1]
            bar.update()
            bar.set_postfix({name: f"{loss:.3f}" for name, loss in losses.items()}, refresh=False)
            if stop.asked or time.monotonic() - saved > SAVE_SECONDS:
                run.save(state)
                saved = time.monotonic()
            if stop.asked:
                return
    result = score(run.ema.module, cache.array, others, others_truth, preprocessing, truth.mean(0))
    taught = f"--teacher {args.teacher} " if args.teacher else ""
    record = {
        "backbone": args.backbone,
        "task": f"presence, relative width and fusion of {len(CENTRES)} centres; no sex, no bone age",
        "read_by": "one attention per centre over the last map, none of the course's poolings",
        "command": f"python -m tools.benchmarks.pretrain PHANTOMS --backbone {args.backbone} {taught}"
                   f"--size {args.size} --epochs {args.epochs} --batch-size {args.batch_size} --lr {args.lr} "
                   f"--seed {args.seed}",
        "cohort": pd.read_json(args.cohort / COHORT_FILE, typ="series").to_dict(), "films_trained_on": len(rows),
        "size_px": args.size, "seed": args.seed, "updates": updates, "minutes": round(done["seconds"] / 60, 1),
        "processor_minutes": round(done["processor_seconds"] / 60, 1),
        "hardware": hardware(), "torch": torch.__version__.split("+")[0], "timm": timm.__version__,
        "films_per_second": round(updates * args.batch_size / done["seconds"], 1), "score": result,
    }
    path = save_weights(args.backbone, run.ema.module[0].body.state_dict(), record, args.out)
    state.unlink(missing_ok=True)
    print(f"{path}: {result}")


if __name__ == "__main__":
    main()
