"""Random changes of training films, on the device, each film by a stream of its own."""

import torch
import torch.nn.functional as F
from torch import Tensor

from bonexage_utils.settings import Augmentation


def _shift_right(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)  # torch shifts arithmetically; a hash needs zeros from the left


def _hash(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64: a fixed, well-mixed function of its input (Steele et al., OOPSLA 2014)."""
    x = x + (0x9E3779B97F4A7C15 - 2**64)
    x = (x ^ _shift_right(x, 30)) * (0xBF58476D1CE4E5B9 - 2**64)
    x = (x ^ _shift_right(x, 27)) * (0x94D049BB133111EB - 2**64)
    return x ^ _shift_right(x, 31)


def _uniform(stream: Tensor, count: int) -> Tensor:
    """`count` numbers in [0, 1) from each stream (B,): float32 (B, count), the same on every device."""
    counters = torch.arange(count, device=stream.device)
    return _shift_right(_hash(stream[:, None] + _hash(counters)), 40).float() / 2**24


def _standard_normal(stream: Tensor, count: int) -> Tensor:
    """Box–Muller on two uniform draws: float32 (B, count)."""
    first, second = _uniform(stream, 2 * count).chunk(2, dim=1)
    return torch.sqrt(-2.0 * torch.log(1.0 - first)) * torch.cos(2.0 * torch.pi * second)


def augment(images: Tensor, keys: Tensor, epoch: int, seed: int, how: Augmentation) -> Tensor:
    """Change each film in its own way: images (B, 1, S, S) on the 0–1 scale in, the same shape and scale out.

    What happens to a film depends on (seed, epoch, its key) alone: not on its neighbours in the batch, on the
    order, or on the number of workers or processes.
    """
    batch, _, size, _ = images.shape
    stream = _hash(_hash(keys + seed) + epoch)
    draws = _uniform(stream, 12)
    signed = 2.0 * draws - 1.0

    angle = torch.deg2rad(how.rotation * signed[:, 0])
    zoom = torch.exp(how.scale * signed[:, 1])
    mirror = torch.where(draws[:, 2] < how.flip, -1.0, 1.0)
    # affine_grid maps output to input, in units of half a side: a shift of the fraction f is 2 f there.
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    shift = 2.0 * how.shift * signed[:, 3:5]
    theta = torch.stack([torch.stack([cos * mirror, -sin, shift[:, 0]], 1),
                         torch.stack([sin * mirror, cos, shift[:, 1]], 1)], 1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, align_corners=False)

    def per_film(values: Tensor) -> Tensor:
        return values[:, None, None, None]

    images = images.clamp(0.0, 1.0) ** per_film(torch.exp(how.gamma * signed[:, 5]))
    mean = images.mean((1, 2, 3), keepdim=True)
    images = (images - mean) * per_film(torch.exp(how.contrast * signed[:, 6])) + mean
    images = images + per_film(how.brightness * signed[:, 7])
    if how.noise > 0:
        grain = _standard_normal(_hash(stream + 1), size * size).view(batch, 1, size, size)
        images = images + grain * per_film(how.noise * draws[:, 8])

    place = torch.arange(size, device=images.device) / size
    sides = draws[:, 9, None] / 4.0
    across, down = ((place >= start[:, None]) & (place < start[:, None] + sides) for start in draws[:, 10:12].T)
    hidden = across[:, None, None, :] & down[:, None, :, None]
    chosen = _uniform(_hash(stream + 2), 1)[:, 0] < how.occlusion
    return torch.where(hidden & per_film(chosen), 0.0, images).clamp(0.0, 1.0)
