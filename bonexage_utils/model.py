"""The network: a timm backbone, one pooling, the child's sex, and an age in months."""

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bonexage_utils.errors import BoneXageError
from bonexage_utils.familiarity import Familiarity
from bonexage_utils.weights import load_weights, shipped

POOLINGS = ("gem", "avg", "max")
OUTPUTS = ("bounded", "linear")
WEIGHTS = ("imagenet", "phantom", "none")
MAX_AGE = 1200.0  # months; no upper bound of ages is larger
SMALL = 64  # px: quick to try a backbone at
SEX_FEATURES = 32
HIDDEN_FEATURES = 256
DROPOUT = 0.2


class GeM(nn.Module):
    """Generalised mean pooling, (B, C, H, W) ≥ 0 to (B, C): the mean of x^p, to the power 1/p.

    p = 1 is the average; a large p approaches the maximum (Radenović et al., TPAMI 2018, start at 3). p is learned
    and stays positive. Computed in float32 whatever the autocast, because x^p leaves the range of float16.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.log_p = nn.Parameter(torch.tensor(float(p)).log())

    @property
    def p(self) -> Tensor:
        return self.log_p.exp()

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.log_p.dtype).clamp(min=self.eps)
            # The generalised mean scales with its input, so taking the largest value out changes neither the result
            # nor its gradient; it keeps every power within 0–1.
            largest = x.detach().amax((-2, -1), keepdim=True)
            mean = ((x / largest) ** self.p).mean((-2, -1))
            return largest[..., 0, 0] * mean ** (1.0 / self.p)


class AveragePool(nn.Module):
    """(B, C, H, W) to (B, C): the mean over places."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float().mean((-2, -1))


class MaxPool(nn.Module):
    """(B, C, H, W) to (B, C): the largest value over places."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float().amax((-2, -1))


class Features(nn.Module):
    """A timm backbone up to its last map: (B, 1, S, S) to (B, C, S/32, S/32), normed per place, non-negative.

    timm's `global_pool=''` keeps the backbone's own final norm. A map that can be negative (ConvNeXt's is about
    half negative) goes through a softplus: GeM's clamp would throw that half away. Every pooling gets this map.
    `image_size` is the side S, px, that it is tried at, and made for if it is one of a fixed size.

    Raises BoneXageError for an unknown backbone, one without a map of such films, or ImageNet weights that cannot be
    fetched.
    """

    def __init__(self, name: str, weights: str = "none", image_size: int = SMALL) -> None:
        super().__init__()
        self.body = create_backbone(name, weights, image_size)
        self.layout = getattr(self.body, "output_fmt", "NCHW")  # timm's word for the order of its axes
        probe, self.tried_at = self._probe(name, image_size)
        self.channels = probe.shape[1]
        self.non_negative = nn.Softplus() if (probe < 0).any() else nn.Identity()

    @torch.no_grad()
    def _probe(self, name: str, size: int) -> tuple[Tensor, int]:
        """The maps of noise: how many channels they have, and whether they can be negative; and the noise's side, px.

        Small noise tells it, and a film of `size` goes through without its numbers, which shows whether the shapes
        fit; noise of `size` where that does not do. BatchNorm goes by the noise, as in training: by its statistics at
        the start, a deep network's map may vanish or overflow.
        """
        norms = [module for module in self.body.eval().modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        films = 2 if norms else 1
        for norm in norms:
            norm.train()

        def noise(side: int) -> Tensor:
            return torch.randn(films, 1, side, side, generator=torch.Generator().manual_seed(0))

        side = min(SMALL, size)
        try:
            probe = self._try(noise(side))
            self._try(torch.empty(films, 1, size, size, device="meta"))
        except Exception:  # it takes larger films only, or torch has no such step without numbers
            side = size
            try:
                probe = self._try(noise(side))
            except Exception as error:  # timm's networks check their input in many ways
                raise BoneXageError(f"backbone '{name}': takes no films of {size} px ({_first_line(error)}); "
                                    "choose a larger image size, a multiple of 32, or another backbone") from None
        finally:
            self.body.train()
        widths = (self.body.num_features, getattr(self.body, "head_hidden_size", None))
        if not isinstance(probe, Tensor) or probe.ndim != 4 or self._in_order(probe).shape[1] not in widths:
            raise BoneXageError(f"backbone '{name}': gives no feature map to pool; choose a convolutional one")
        if not probe.isfinite().all():
            raise BoneXageError(f"backbone '{name}': its map of noise is not all numbers; choose another")
        return self._in_order(probe), side

    def _try(self, images: Tensor) -> Tensor:
        """What the body makes of `images`, on their device; its buffers stay as they are."""
        tensors = {name: weight.to(images.device) for name, weight in self.body.named_parameters()}
        tensors |= {name: buffer.to(images.device, copy=True) for name, buffer in self.body.named_buffers()}
        return torch.func.functional_call(self.body, tensors, images)

    def _in_order(self, maps: Tensor) -> Tensor:
        return maps.permute(0, 3, 1, 2) if self.layout == "NHWC" else maps

    def forward(self, x: Tensor) -> Tensor:
        return self.non_negative(self._in_order(self.body(x)))


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def is_backbone(name: object) -> bool:
    """Whether timm itself makes a network of this name; timm would fetch others from a hub, or read them from a
    folder."""
    if not (isinstance(name, str) and timm.is_model(name)):
        return False
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError:  # no such set of weights
        return False
    return True


def create_backbone(name: str, weights: str = "none", image_size: int = SMALL) -> nn.Module:
    """timm's `name` for one grey channel, without pooling and classifier; `weights` is one of `WEIGHTS`.

    "phantom" are the package's own (see `weights`). timm turns ImageNet's three-channel first layer into a one-channel
    one by summing over colours. A network that timm makes for one size of image is made for `image_size`, px.
    """
    if weights not in WEIGHTS:
        raise BoneXageError(f"weights '{weights}': unknown; use {', '.join(WEIGHTS)}")
    if not is_backbone(name):
        raise BoneXageError(f"backbone {name!r}: unknown to timm {timm.__version__}; see timm.list_models()")
    state = load_weights(name) if weights == "phantom" else None
    known = timm.get_pretrained_cfg(name)
    fixed = {"img_size": image_size} if known and known.fixed_input_size else {}
    try:
        body = timm.create_model(name, pretrained=weights == "imagenet", in_chans=1, num_classes=0, global_pool="",
                                 **fixed)
    except Exception as error:  # the hub's client raises whatever its transport does
        if weights != "imagenet":
            raise BoneXageError(f"backbone '{name}': cannot be made for films of {image_size} px without its own "
                                f"pooling ({_first_line(error)}); choose a convolutional one") from None
        raise BoneXageError(
            f"backbone '{name}': ImageNet weights could not be loaded ({type(error).__name__}); "
            f"connect to the internet, or train with --weights none, or phantom ({', '.join(shipped())})"
        ) from error
    if state is not None:
        body.load_state_dict(state)
    return body


class SexEncoder(nn.Module):
    """Sex (B,) int64, 0 girl and 1 boy, to (B, 32): a learned vector each."""

    def __init__(self) -> None:
        super().__init__()
        self.vectors = nn.Embedding(2, SEX_FEATURES)

    def forward(self, sex: Tensor) -> Tensor:
        return self.vectors(sex)


class BoundedAge(nn.Module):
    """A raw score (B,) to months in 0 … max_age: max_age · sigmoid(score).

    The slope is max_age/4 months per unit in the middle and goes to zero at both ends.
    """

    def __init__(self, max_age: float) -> None:
        super().__init__()
        self.max_age = max_age

    def forward(self, score: Tensor) -> Tensor:
        return self.max_age * torch.sigmoid(score)

    def start(self, months: float) -> float:
        """The score of `months`."""
        share = min(max(months / self.max_age, 0.01), 0.99)
        return float(torch.logit(torch.tensor(share)))


class LinearAge(nn.Module):
    """A raw score (B,) to months, unbounded: mean + std · score, both of the training labels."""

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, score: Tensor) -> Tensor:
        return self.mean + self.std * score

    def start(self, months: float) -> float:
        """The score of `months`."""
        return (months - self.mean) / self.std


class BoneAgeNet(nn.Module):
    """Films (B, 1, S, S), standardised, and sex (B,) int64 to bone age in months (B,), float32.

    `months_mean` and `months_std` describe the training labels: the untrained network predicts about the mean. With
    `use_sex=False` the sex is ignored. `image_size` is S, px, for `Features`.

    Raises BoneXageError for unknown or impossible settings, and for what `Features` refuses.
    """

    def __init__(
        self,
        backbone: str = "convnext_tiny",
        pooling: str = "gem",
        use_sex: bool = True,
        output: str = "bounded",
        max_age: float = 240.0,
        months_mean: float = 120.0,
        months_std: float = 42.0,
        weights: str = "none",
        image_size: int = SMALL,
    ) -> None:
        super().__init__()
        if pooling not in POOLINGS or output not in OUTPUTS:
            raise BoneXageError(f"pooling '{pooling}' or output '{output}' unknown; use {POOLINGS} and {OUTPUTS}")
        if not 1 <= max_age <= MAX_AGE:
            raise BoneXageError(f"max_age {max_age}: give months from 1 to {MAX_AGE:.0f}")
        if output == "linear" and not months_std > 0:
            raise BoneXageError("output 'linear' takes labels that differ; use 'bounded', or films of several ages")
        self.settings = {
            "backbone": backbone, "pooling": pooling, "use_sex": use_sex, "output": output,
            "max_age": float(max_age), "months_mean": float(months_mean), "months_std": float(months_std),
        }
        self.familiarity: Familiarity | None = None  # of its maps; calibrating teaches it
        self.features = Features(backbone, weights, image_size)
        self.pool = {"gem": GeM, "avg": AveragePool, "max": MaxPool}[pooling]()
        self.sex_encoder = SexEncoder() if use_sex else None
        width = self.features.channels + (SEX_FEATURES if use_sex else 0)
        self.head = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, HIDDEN_FEATURES), nn.GELU(), nn.Dropout(DROPOUT),
            nn.Linear(HIDDEN_FEATURES, 1),
        )
        self.age = BoundedAge(max_age) if output == "bounded" else LinearAge(months_mean, months_std)
        last = self.head[-1]
        nn.init.normal_(last.weight, std=0.01)
        nn.init.constant_(last.bias, self.age.start(months_mean))

    def forward(self, images: Tensor, sex: Tensor) -> Tensor:
        return self.from_map(self.features(images), sex)

    def from_map(self, maps: Tensor, sex: Tensor) -> Tensor:
        """The second half: last feature maps (B, C, h, w) and sex (B,) int64 to months (B,)."""
        pooled = self.pool(maps)
        if self.sex_encoder is not None:
            pooled = torch.cat([pooled, self.sex_encoder(sex).to(pooled.dtype)], dim=1)
        # [:, 0], not squeeze(): a batch of one must stay a batch.
        score = self.head(pooled)[:, 0].float()
        return self.age(score)

    def mean_over_sexes(self, images: Tensor) -> Tensor:
        """For a child of unknown sex: the mean of its predictions for a girl and for a boy, months (B,)."""
        girls = torch.zeros(len(images), dtype=torch.long, device=images.device)
        return (self(images, girls) + self(images, girls + 1)) / 2


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Two groups for AdamW: weight decay on matrices and kernels, none on GeM's p, norms, biases and embeddings.

    Decay pulls towards zero, which means nothing for an exponent, a scale or an offset.
    """
    embeddings = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    decayed, spared = [], []
    for parameter in model.parameters():
        if parameter.requires_grad:
            spare = parameter.ndim <= 1 or id(parameter) in embeddings
            (spared if spare else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]


def age_loss(predicted: Tensor, months: Tensor, kind: str) -> Tensor:
    """The training loss of months (B,) against months (B,), in years, so that smooth L1 turns at one year's error.

    Below a year it is squared, above absolute: a label that is wrong by three years pulls no harder than one wrong by
    one and a half. Raises ValueError if the shapes differ: (B, 1) against (B,) would broadcast to (B, B) and still give
    a number.
    """
    if predicted.shape != months.shape:
        raise ValueError(f"predictions {tuple(predicted.shape)} against labels {tuple(months.shape)}")
    function = {"smoothl1": F.smooth_l1_loss, "l1": F.l1_loss, "mse": F.mse_loss}[kind]
    return function(predicted / 12.0, months / 12.0)
