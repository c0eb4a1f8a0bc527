"""Whether a film looks to the network like the films it knows: how far its feature map lies from theirs."""

import hashlib
import math
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from bonexage_utils.errors import BoneXageError
from bonexage_utils.statistics import half_width

KNOWN = 0.99  # share of new films of the same kind that have no note
FEWEST = 99  # films: of fewer no threshold promises that
AXES = 32  # at most
FOLDS = 10
LEAST_SPREAD = 1e-4  # of a number that hardly differs between films, relative to a map's mean
LEAST_VARIANCE = 1e-6  # along a direction in which films do not differ


def map_statistics(maps: Tensor) -> Tensor:
    """Feature maps (B, C, h, w), not negative, to (B, 2C): of each channel mean and standard deviation over places,
    relative to the mean of the whole map, so that the film's contrast does not count."""
    places = maps.float().flatten(2)
    spread, mean = torch.std_mean(places, dim=2, correction=0)
    level = mean.mean(dim=1, keepdim=True).clamp(min=1e-6)
    return torch.cat([mean, spread], dim=1) / level


@dataclass(frozen=True)
class Familiarity:
    """What `map_statistics` usually are: a normal distribution with `axes` (2C, k) of their own `variances` (k,) and
    one variance, `rest` (), for all other directions (Tipping & Bishop 1999, J R Stat Soc B 61:611), around `mean`
    (2C,) and in units of `spread` (2C,). A film whose squared distance is above `threshold` () is unfamiliar.
    """

    mean: Tensor
    spread: Tensor
    axes: Tensor
    variances: Tensor
    rest: Tensor
    threshold: Tensor

    @classmethod
    def learn(cls, statistics: Tensor) -> "Familiarity | None":
        """From statistics (n, 2C) of films that the network did not learn from. None for fewer than `FEWEST`, and
        where more than one in a hundred are no numbers.

        One in a hundred new films of their kind is above the threshold: distances by tenfold cross-validation, then
        the rule of `half_width`.
        """
        if len(statistics) < FEWEST:
            return None
        fold = np.random.default_rng(0).permutation(len(statistics)) % FOLDS
        distances = np.empty(len(statistics))
        for number in range(FOLDS):
            held = torch.from_numpy(fold == number)
            distances[fold == number] = cls.fit(statistics[~held]).distance(statistics[held])
        fitted = cls.fit(statistics)
        threshold = half_width(distances, KNOWN)
        return cls(**{**fitted.tensors(), "threshold": torch.tensor(threshold)}) if math.isfinite(threshold) else None

    @classmethod
    def fit(cls, statistics: Tensor) -> "Familiarity":
        """The distribution of statistics (n, 2C), with no threshold yet."""
        values = statistics.double().cpu()
        spread, mean = torch.std_mean(values, dim=0, correction=0)
        spread = spread.clamp(min=LEAST_SPREAD)
        _, lengths, directions = torch.linalg.svd((values - mean) / spread, full_matrices=False)
        variances = lengths**2 / len(values)
        count = min(AXES, values.shape[1] // 2, len(values) // 3)
        rest = (variances[count:].sum() / (values.shape[1] - count)).clamp(min=LEAST_VARIANCE)
        parts = (mean, spread, directions[:count].T.contiguous(), variances[:count].clamp(min=LEAST_VARIANCE), rest,
                 torch.tensor(math.inf))
        return cls(*(part.float() for part in parts))

    def distance(self, statistics: Tensor) -> np.ndarray:
        """Squared distances (n,) of statistics (n, 2C); infinite where they are no numbers."""
        values = (statistics.float().cpu() - self.mean) / self.spread
        along = values @ self.axes
        beyond = (values**2).sum(1) - (along**2).sum(1)
        total = (along**2 / self.variances).sum(1) + beyond / self.rest
        return total.double().nan_to_num(nan=math.inf, posinf=math.inf).numpy()

    def unfamiliar(self, statistics: Tensor) -> np.ndarray:
        """Which films (n,) of statistics (n, 2C) are unlike those that were learned from."""
        return self.distance(statistics) > float(self.threshold)

    def tensors(self) -> dict[str, Tensor]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def digest(self) -> str:
        """SHA-256 of all its numbers."""
        return hashlib.sha256(b"".join(part.numpy().tobytes() for part in self.tensors().values())).hexdigest()

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], channels: int) -> "Familiarity":
        """What `tensors` gave, for a map of `channels`. Raises BoneXageError for anything else."""
        width, count = 2 * channels, min(AXES, tensors["variances"].numel()) if "variances" in tensors else 0
        shapes = {"mean": (width,), "spread": (width,), "axes": (width, count), "variances": (count,), "rest": (),
                  "threshold": ()}
        if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != shapes or not all(
                tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in tensors.values()) or not all(
                (tensors[name] > 0).all() for name in ("spread", "variances", "rest", "threshold")):
            raise BoneXageError("what it knows of usual films is not of this network, or no numbers")
        return cls(**tensors)
