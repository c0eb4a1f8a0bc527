"""Attribution: the predicted months distributed over the pixels of one film, and the share that falls on a region."""

from copy import copy
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist
from torch import Tensor, nn

from bonexage_utils.batches import SEX_CODE
from bonexage_utils.devices import to_network
from bonexage_utils.errors import BoneXageError
from bonexage_utils.figures import Picture, new_figure, style
from bonexage_utils.model import BoneAgeNet
from bonexage_utils.prediction import Predictor

METHODS = ("integrated_gradients", "occlusion", "last_map")
BASELINES = ("blurred", "black")
BLUR = 0.05  # SD over the film's side: wider than a finger's bone, so the hand stays and its bones go
WINDOW = 0.1  # side of the hidden square over the film's, moved by half of it
STEPS = 32  # of the path from the baseline to the film
BATCH = 16  # films in one batch
FOR_AND_AGAINST = "PuOr_r"  # diverging; purple and orange stay apart for every kind of colour vision
OUTLINE = "#009E73"
COLOURS_SAY = "orange speaks for an older child, purple for a younger one"


@dataclass(frozen=True)
class Attribution:
    """What speaks for which age on one film, against a baseline film.

    `map` (S, S), float32, months per pixel: above 0 what makes the prediction older than that for the baseline film,
    below 0 younger. `prediction` and `baseline` are the predictions for the two films, months.
    """

    map: np.ndarray
    prediction: float
    baseline: float
    method: str

    @property
    def unexplained(self) -> float:
        """Months between the two predictions that the map does not add up to; near 0 but for occlusion."""
        return self.prediction - self.baseline - float(self.map.sum(dtype=np.float64))


def attribute(
    predictor: Predictor, film: np.ndarray, sex: str, method: str = "integrated_gradients", baseline: str = "blurred"
) -> Attribution:
    """Lay the prediction of one letterboxed film, uint8 (S, S), over its pixels; `sex` is "M", "F" or "" (unknown).

    "integrated_gradients" (Sundararajan et al., ICML 2017) follows the film from the baseline film on a straight line;
    its map adds up to prediction − baseline. "occlusion" (Zeiler & Fergus, ECCV 2014) hides one square after the other
    by the baseline film; a pixel gets the mean effect of the squares that hide it, over a square's area, which adds up
    for a linear network only. "last_map" follows the last feature map instead of the film, and shows its few cells as
    large as they are; it adds up too. The baseline is the film blurred until its bones are gone, or a black film.

    One plain view, whatever the predictor's `tta`. Raises BoneXageError for an unknown method, baseline or sex.
    """
    from captum.attr import IntegratedGradients, Occlusion  # here, because prediction does without it

    if method not in METHODS or baseline not in BASELINES:
        raise BoneXageError(f"method '{method}' or baseline '{baseline}' unknown; use {METHODS} and {BASELINES}")
    months = _months_for_sex(predictor, sex)
    pair = _standardised(predictor, np.stack([film, baseline_film(film, baseline)]))
    with torch.no_grad():
        prediction, start = months(pair).tolist()
    if method == "last_map":
        with torch.no_grad():
            maps = predictor.model.features(pair)
        path = IntegratedGradients(partial(months, part=predictor.model.from_map))
        cells = path.attribute(maps[:1], maps[1:], n_steps=STEPS).sum(1)[0]
        found = _as_large_as_the_film(cells.cpu().numpy(), len(film))
    else:
        if method == "occlusion":
            side = max(2, round(WINDOW * len(film)))
            found = Occlusion(months).attribute(pair[:1], (1, side, side), strides=(1, side // 2, side // 2),
                                                baselines=pair[1:], perturbations_per_eval=BATCH) / side**2
        else:
            found = IntegratedGradients(months).attribute(pair[:1], pair[1:], n_steps=STEPS, internal_batch_size=BATCH)
        found = found[0, 0].detach().cpu().numpy()
    return Attribution(found.astype(np.float32), prediction, start, method)


def baseline_film(film: np.ndarray, kind: str = "blurred") -> np.ndarray:
    """The film, uint8 (S, S), without signs of an age, float32: "blurred" by `BLUR` of its side, or "black"."""
    if kind == "black":
        return np.zeros_like(film, np.float32)
    return cv2.GaussianBlur(film.astype(np.float32), (0, 0), BLUR * len(film), borderType=cv2.BORDER_REPLICATE)


def _standardised(predictor: Predictor, films: np.ndarray) -> Tensor:
    """Films (n, S, S), 0–255, as the network takes them."""
    return to_network(torch.from_numpy(films), predictor.preprocessing, predictor.device)


def _months_for_sex(predictor: Predictor, sex: str):
    """A function from images (or, with `part`, from feature maps) to months (B,) for a child of this sex."""
    if predictor.uses_sex and sex not in SEX_CODE and predictor.unknown_sex == "error":
        raise BoneXageError(f"sex '{sex}': unknown; give M or F, or make the Predictor with unknown_sex='mean'")
    codes = [SEX_CODE[sex]] if sex in SEX_CODE else list(SEX_CODE.values())

    def months(x: Tensor, part=predictor.model) -> Tensor:
        return torch.stack([part(x, torch.full((len(x),), code, device=x.device)) for code in codes]).mean(0)

    return months


def _as_large_as_the_film(cells: np.ndarray, size: int) -> np.ndarray:
    """A map (h, w) spread over (size, size) pixels, each cell evenly over its own: the sum stays."""
    rows, columns = (np.arange(size) * n // size for n in cells.shape)
    share = np.outer(1 / np.bincount(rows)[rows], 1 / np.bincount(columns)[columns])
    return cells[np.ix_(rows, columns)] * share


def share_inside(map: np.ndarray, region: np.ndarray) -> float:
    """The share (0–1) of all attribution, of either sign, that falls into `region`, bool, of the map's shape.

    Raises ValueError for another shape, an empty region or a map of zeros.
    """
    weight = np.abs(map, dtype=np.float64)
    if map.shape != region.shape or not region.any() or not weight.any():
        raise ValueError(f"map {map.shape} and region {region.shape}: need one shape, and neither may be empty")
    return float(weight[region].sum() / weight.sum())


def enrichment(map: np.ndarray, region: np.ndarray) -> float:
    """How many times its share of the area a region gets of the attribution; 1 for an even map. See `share_inside`."""
    return share_inside(map, region) / float(region.mean())


def untrained(predictor: Predictor, films: np.ndarray, seed: int = 0) -> Predictor:
    """A control: the same architecture as training finds it, initialised by `seed`.

    BatchNorm's statistics are measured on `films`, uint8 (n, S, S), a few dozen: without them a deep network's
    activations would leave the range that it was made for.
    """
    control = copy(predictor)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = BoneAgeNet(**predictor.model.settings, image_size=predictor.preprocessing.image_size)
        control.model = net.to(predictor.device, memory_format=torch.channels_last)
    norms = [module for module in control.model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # the statistics of this one batch
    if norms:
        with torch.no_grad():
            control.model.train().features(_standardised(predictor, films))
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
    control.model.eval()
    return control


@torch.inference_mode()
def pooled_features(predictor: Predictor, films: np.ndarray) -> np.ndarray:
    """What the head gets of letterboxed films, uint8 (n, S, S), without the sex: float32 (n, C)."""
    model = predictor.model
    parts = [films[start : start + BATCH] for start in range(0, len(films), BATCH)]
    return torch.cat([model.pool(model.features(_standardised(predictor, part))) for part in parts]).cpu().numpy()


def nearest(features: np.ndarray, library: np.ndarray, n: int = 3) -> np.ndarray:
    """The rows of `library` (m, C) that point most nearly where each of `features` (k, C) does: int (k, n), nearest
    first, by cosine distance."""
    return np.argsort(cdist(features, library, "cosine"), axis=1, kind="stable")[:, :n]


def _signed(months: float) -> str:
    return f"{months:+.0f}".replace("-", "−")


def overlay(ax, film: np.ndarray, map: np.ndarray, outline: np.ndarray | None = None) -> None:
    """A film (S, S) under its attribution: orange for older, purple for younger, fainter where there is less."""
    map = gaussian_filter(map, len(map) / 128, mode="constant")  # single pixels are too small to see
    limit = max(float(np.quantile(np.abs(map), 0.998)), 1e-12)
    ax.imshow(film, cmap="gray", vmin=0, vmax=255)
    ax.imshow(map, cmap=FOR_AND_AGAINST, vmin=-limit, vmax=limit, alpha=np.clip(1.5 * np.abs(map) / limit, 0, 0.75))
    if outline is not None:
        ax.contour(outline, [0.5], colors=OUTLINE, linewidths=0.8)


@style()
def attribution_maps(film: np.ndarray, found: list[Attribution], region: np.ndarray | None = None) -> Picture:
    """One film, uint8 (S, S), then each map over it; `region`, bool (S, S), is outlined, e.g. the deciding centres."""
    figure, axes = new_figure(2.4 * (len(found) + 1), 3.0, 1, len(found) + 1, squeeze=False)
    axes[0, 0].imshow(film, cmap="gray", vmin=0, vmax=255)
    axes[0, 0].set_title("film", loc="center")
    for ax, one in zip(axes[0, 1:], found, strict=True):
        overlay(ax, film, one.map, region)
        older, younger = (_signed(one.map[side].sum()) for side in (one.map > 0, one.map < 0))
        ax.set_title(f"{one.method.replace('_', ' ')}\n{older} and {younger} months", loc="center", fontsize=9)
    for ax in axes.flat:
        ax.axis("off")
    figure.supxlabel(COLOURS_SAY, fontsize=9)
    described = "; ".join(f"{one.method.replace('_', ' ')}: {_signed(one.map[one.map > 0].sum())} months for older, "
                     f"{_signed(one.map[one.map < 0].sum())} for younger" for one in found)
    return Picture(figure, f"""A hand film and, laid over it, where the network looks: orange speaks for an older child,
        purple for a younger one. The film says {found[0].prediction:.0f} months, the baseline film
        {found[0].baseline:.0f}. {described}.{' A line marks the region asked about.' if region is not None else ''}""")
