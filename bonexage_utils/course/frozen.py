"""Heads on a frozen backbone: the maps are made once, then many heads, several seeds each, learn in seconds.

The result of such a comparison holds "for a frozen backbone pretrained with …" and for nothing else.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from bonexage_utils.batches import FilmDataset, eval_loader
from bonexage_utils.cohort import Cohort
from bonexage_utils.course.start import PROFILES, Profile
from bonexage_utils.devices import to_network
from bonexage_utils.errors import BoneXageError
from bonexage_utils.evaluation import median_by_sex
from bonexage_utils.images import Preprocessing
from bonexage_utils.model import BoneAgeNet, Features, age_loss, create_backbone, parameter_groups
from bonexage_utils.phantom.dataset import read_noise_floor
from bonexage_utils.training import lr_factor, update_weights

BACKBONE = PROFILES["cpu"].backbone  # small, and shipped with phantom weights
BATCH, LR, WEIGHT_DECAY, WARM_UP = 64, 3e-3, 0.05, 0.05


@dataclass(frozen=True)
class Maps:
    """The last map of n films: float16 (n, C, h, w), non-negative; sex int64 (n,), 1 is a boy; months float32 (n,)."""

    maps: Tensor
    sex: Tensor
    months: Tensor

    def __len__(self) -> int:
        return len(self.months)


def frozen_backbone(profile: Profile) -> tuple[str, str, int]:
    """The backbone, its weights and the films' side (px) for a profile's experiments on frozen maps.

    `gpu` takes the profile's own with ImageNet weights, if they can be fetched; else it is the one that is shipped.
    """
    if profile.name == "gpu":
        try:
            create_backbone(profile.backbone, "imagenet")
            return profile.backbone, "imagenet", profile.image_size
        except BoneXageError as error:
            print(f"{error}. Going on with the phantom weights of {BACKBONE}.")
    return BACKBONE, "phantom", 96 if profile.name == "fast" else 160


def frozen_maps(backbone: str, weights: str, films: FilmDataset, preprocessing: Preprocessing,
                device: torch.device | str = "cpu") -> Maps:
    """The last map of each film by a backbone that is trained no further, in the films' order, on the processor."""
    return maps_of(Features(backbone, weights), films, preprocessing, device)


@torch.inference_mode()
def maps_of(features: Features, films: FilmDataset, preprocessing: Preprocessing,
            device: torch.device | str = "cpu") -> Maps:
    """`frozen_maps` by a backbone that is there already."""
    features, maps = features.eval().to(device, memory_format=torch.channels_last), []
    for batch in tqdm(eval_loader(films, 64), desc="reading maps", leave=False, mininterval=0.5):
        maps.append(features(to_network(batch["image"], preprocessing, device)).to("cpu", torch.float16))
    return Maps(torch.cat(maps), torch.tensor(films.sex), torch.tensor(films.months))


def head_only(backbone: str, months: Tensor, **settings) -> BoneAgeNet:
    """A `BoneAgeNet` whose films are maps already: the package's pooling, sex, head and output, untrained.

    `settings` are those of `BoneAgeNet`: `pooling`, `use_sex`, `output`, `max_age`.
    """
    net = BoneAgeNet(backbone, months_mean=float(months.mean()), months_std=float(months.std()), **settings)
    net.features = nn.Identity()
    return net


def fit_head(backbone: str, train: Maps, seed: int, epochs: int = 20, lr: float = LR, loss: str = "smoothl1",
             **settings) -> BoneAgeNet:
    """One head trained on `train`; everything random in it comes from `seed`, so two heads can be paired by it."""
    torch.manual_seed(seed)
    net = head_only(backbone, train.months, **settings).train()
    optimizer = torch.optim.AdamW(parameter_groups(net, WEIGHT_DECAY), lr=lr)
    rng = np.random.default_rng(seed)
    updates, update = epochs * (len(train) // BATCH), 0
    for _ in range(epochs):
        for batch in torch.from_numpy(rng.permutation(len(train))).split(BATCH)[: len(train) // BATCH]:
            age_loss(net(train.maps[batch].float(), train.sex[batch]), train.months[batch], loss).backward()
            update_weights(net, optimizer, lr * lr_factor(update, updates, WARM_UP))
            update += 1
    return net.eval()


@torch.inference_mode()
def head_errors(net: BoneAgeNet, maps: Maps) -> np.ndarray:
    """Predicted minus labelled months (n,)."""
    parts = zip(maps.maps.split(256), maps.sex.split(256), strict=True)
    predicted = torch.cat([net(part.float(), sex) for part, sex in parts])
    return (predicted - maps.months).double().numpy()


def compare_heads(backbone: str, train: Maps, test: Maps, arms: dict[str, dict], seeds: int = 5,
                  epochs: int = 20) -> dict[str, np.ndarray]:
    """Train every arm (settings for `fit_head`) with every seed; absolute errors in months (seeds, films) by arm."""
    errors: dict[str, list[np.ndarray]] = {arm: [] for arm in arms}
    with tqdm(total=len(arms) * seeds, desc="training heads", leave=False, mininterval=0.5) as bar:
        for seed in range(seeds):
            for arm, settings in arms.items():
                errors[arm].append(np.abs(head_errors(fit_head(backbone, train, seed, epochs, **settings), test)))
                bar.update()
    return {arm: np.stack(rows) for arm, rows in errors.items()}


def yardsticks(cohort: Cohort, films: pd.DataFrame) -> dict[str, float]:
    """What needs no network, as an MAE in months: the median by sex of the training films on `films` (`sex`, `months`)
    and, of a simulated cohort, the noise floor of its labels."""
    guess = films["sex"].map(median_by_sex(cohort.split("train")))
    floor = read_noise_floor(cohort.root)
    known = {} if floor is None else {"noise floor": floor}
    return {"median by sex": float((guess - films["months"]).abs().mean())} | known


def joined(*parts: Maps) -> Maps:
    """The films of several sets of maps in one, in that order."""
    return Maps(*(torch.cat(values) for values in zip(*((m.maps, m.sex, m.months) for m in parts), strict=True)))
