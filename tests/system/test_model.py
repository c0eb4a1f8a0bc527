"""Pooling, sex, bounded ages, and who is spared weight decay."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bonexage_utils import model as model_module
from bonexage_utils.errors import BoneXageError
from bonexage_utils.model import (
    AveragePool,
    BoneAgeNet,
    BoundedAge,
    Features,
    GeM,
    LinearAge,
    MaxPool,
    age_loss,
    parameter_groups,
)

BACKBONES = ["convnext_tiny", "convnext_atto", "resnet18", "resnet50", "efficientnet_b0"]


def a_map(seed: int = 0, shape: tuple[int, ...] = (2, 5, 4, 4)) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_gem_of_one_is_the_average_and_a_large_p_the_maximum(seed: int) -> None:
    x = a_map(seed)
    torch.testing.assert_close(GeM(1.0).double()(x), x.mean((-2, -1)), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(GeM(2000.0).double()(x), x.amax((-2, -1)), rtol=5e-3, atol=0)


@given(st.integers(0, 100), st.floats(0.5, 20), st.floats(0.5, 20))
@settings(max_examples=30, deadline=None)
def test_gem_grows_with_p(seed: int, p: float, q: float) -> None:
    """The power-mean inequality."""
    low, high = sorted((p, q))
    x = a_map(seed)
    assert (GeM(low).double()(x) <= GeM(high).double()(x) + 1e-9).all()


def test_gem_by_hand() -> None:
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    # p = 3: ((1 + 8 + 27 + 64) / 4)^(1/3) = 25^(1/3)
    assert GeM(3.0)(x).item() == pytest.approx(25 ** (1 / 3), rel=1e-6)


def test_gem_gradient_in_x_and_p() -> None:
    x = a_map(3).requires_grad_()
    pool = GeM(3.0).double()

    def pooled(x: torch.Tensor, log_p: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(pool, {"log_p": log_p}, (x,))

    assert torch.autograd.gradcheck(pooled, (x, pool.log_p.detach().clone().requires_grad_()))


def test_p_stays_positive_whatever_the_step() -> None:
    pool = GeM(3.0)
    optimizer = torch.optim.SGD(pool.parameters(), lr=5.0)
    (pool.p * 1.0).backward()
    optimizer.step()
    assert pool.p.item() > 0


def test_gem_is_computed_in_float32_under_autocast() -> None:
    """Fault 8: x^p leaves the range of float16."""
    x = torch.full((1, 1, 2, 2), 300.0, dtype=torch.float16)
    with torch.autocast("cpu", torch.float16):
        out = GeM(3.0)(x)
    assert out.dtype == torch.float32
    assert out.item() == pytest.approx(300.0, rel=1e-3)  # 300³ is far beyond float16's 65,504


@pytest.mark.parametrize("name", BACKBONES)
def test_any_backbone_takes_one_grey_channel_and_gives_months(name: str) -> None:
    net = BoneAgeNet(name).eval()
    with torch.no_grad():
        months = net(torch.rand(2, 1, 96, 96), torch.tensor([0, 1]))
    assert months.shape == (2,)
    assert months.dtype == torch.float32
    assert ((months > 0) & (months < 240)).all()


@pytest.mark.parametrize("name", BACKBONES)
def test_every_pooling_gets_the_same_normed_non_negative_map(name: str) -> None:
    """Fault 8: the norm dropped with the head, and half of a signed map clamped away."""
    features = Features(name).eval()
    seen = []
    for pool in (GeM(), AveragePool(), MaxPool()):
        net = BoneAgeNet.__new__(BoneAgeNet)
        torch.nn.Module.__init__(net)
        net.features, net.pool, net.sex_encoder = features, pool, None
        net.head, net.age = torch.nn.Linear(features.channels, 1), BoundedAge(240)
        pool.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        with torch.no_grad():
            net(torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1]))
    assert len(seen) == 3
    assert all(torch.equal(seen[0], other) for other in seen)
    assert (seen[0] >= 0).all()
    # Nothing is thrown away: at most a ReLU backbone's own zeros are zero.
    if name.startswith(("convnext", "efficientnet")):
        assert (seen[0] > 0).all()


def test_convnexts_own_norm_is_kept_per_place() -> None:
    with torch.no_grad():
        seen = Features("convnext_atto").eval()(torch.randn(2, 1, 64, 64))
    raw = torch.log(torch.expm1(seen))  # before the softplus
    assert raw.mean(1).abs().max() < 1e-4  # LayerNorm over channels at every place
    torch.testing.assert_close(raw.var(1, unbiased=False), torch.ones_like(raw[:, 0]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_batch_of_one_stays_a_batch(batch: int) -> None:
    """Fault 7: squeeze() on a batch of one gives a 0-d output."""
    months = BoneAgeNet("test_convnext").eval()(torch.rand(batch, 1, 64, 64), torch.zeros(batch, dtype=torch.long))
    assert months.shape == (batch,)


def test_the_loss_refuses_shapes_that_would_broadcast() -> None:
    """Fault 7: (B, 1) against (B,) broadcasts to (B, B) without an error."""
    with pytest.raises(ValueError, match="against"):
        age_loss(torch.zeros(4, 1), torch.zeros(4), "l1")


@pytest.mark.parametrize(("kind", "expected"), [
    ("l1", (0.5 + 0.5 + 1 + 2) / 4),
    ("mse", (0.25 + 0.25 + 1 + 4) / 4),
    ("smoothl1", (0.125 + 0.125 + 0.5 + 1.5) / 4),
])
def test_losses_by_hand(kind: str, expected: float) -> None:
    months = torch.tensor([0.5, -0.5, 1.0, 2.0]) * 12
    assert age_loss(months, torch.zeros(4), kind).item() == pytest.approx(expected)


@pytest.mark.parametrize(("months", "slope"), [(120, 60.0), (12, 11.4), (228, 11.4), (3, 2.9625)])
def test_the_slope_of_the_bounded_age(months: float, slope: float) -> None:
    """Fault 9's table: d age / d score = age · (1 − age/240)."""
    age = BoundedAge(240.0)
    score = torch.tensor(math.log(months / (240 - months)), requires_grad=True)
    age(score).backward()
    assert score.grad.item() == pytest.approx(slope, rel=1e-3)


def test_linear_age_is_on_standardised_months() -> None:
    assert LinearAge(127.0, 41.0)(torch.tensor([0.0, 1.0, -2.0])).tolist() == [127.0, 168.0, 45.0]


@pytest.mark.parametrize("output", ["bounded", "linear"])
def test_the_untrained_network_says_about_the_mean(output: str) -> None:
    net = BoneAgeNet("test_resnet", output=output, months_mean=100.0, months_std=40.0).eval()
    with torch.no_grad():
        months = net(torch.rand(4, 1, 64, 64), torch.tensor([0, 1, 0, 1]))
    np.testing.assert_allclose(months, 100.0, atol=12)


def test_sex_reaches_the_network_and_can_be_left_out() -> None:
    torch.manual_seed(0)
    x, girls, boys = torch.rand(3, 1, 64, 64), torch.zeros(3, dtype=torch.long), torch.ones(3, dtype=torch.long)
    with torch.no_grad():
        told = BoneAgeNet("test_convnext").eval()
        assert (told(x, girls) != told(x, boys)).all()
        torch.testing.assert_close(told.mean_over_sexes(x), (told(x, girls) + told(x, boys)) / 2)
        untold = BoneAgeNet("test_convnext", use_sex=False).eval()
        assert torch.equal(untold(x, girls), untold(x, boys))


@pytest.mark.parametrize("name", ["test_convnext", "resnet18", "efficientnet_b0"])
def test_no_weight_decay_on_p_norms_biases_and_embeddings(name: str) -> None:
    """Fault 10."""
    net = BoneAgeNet(name)
    decayed, spared = parameter_groups(net, 0.05)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.05, 0.0)
    ids = {id(p) for p in spared["params"]}
    assert id(net.pool.log_p) in ids
    told_apart = set()
    for module in net.modules():
        kind = type(module).__name__.lower()
        for parameter_name, parameter in module.named_parameters(recurse=False):
            spare = "norm" in kind or parameter_name == "bias" or isinstance(module, torch.nn.Embedding)
            if spare or isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
                assert (id(parameter) in ids) == spare, (kind, parameter_name)
                told_apart.add((kind, parameter_name))
    assert {("linear", "weight"), ("linear", "bias"), ("conv2d", "weight"), ("embedding", "weight")} <= told_apart
    assert any("norm" in kind for kind, _ in told_apart)
    assert len(decayed["params"]) + len(spared["params"]) == len(list(net.parameters()))


@pytest.mark.parametrize("name", ["no_such_net", "vit_tiny_patch16_224"])
def test_unusable_backbones_are_refused_in_one_line(name: str) -> None:
    with pytest.raises(BoneXageError, match=name) as caught:
        BoneAgeNet(name)
    assert "\n" not in str(caught.value)


def test_weights_of_an_unknown_kind_are_refused() -> None:
    with pytest.raises(BoneXageError, match=r"image_net.*; use imagenet, phantom, none"):
        BoneAgeNet("test_resnet", weights="image_net")


def test_imagenet_weights_load_into_one_channel(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local stand-in for the hub: the first layer becomes the sum over colours."""
    import timm

    donor = timm.create_model("test_resnet", num_classes=0)
    file = tmp_path / "weights.pth"
    torch.save(donor.state_dict(), file)
    create = timm.create_model
    monkeypatch.setattr(model_module.timm, "create_model", lambda name, **kwargs: create(
        name, **kwargs, pretrained_cfg_overlay={"file": str(file), "hf_hub_id": None, "custom_load": False}
        if kwargs.get("pretrained") else None))
    body = Features("test_resnet", "imagenet").body
    first = next(name for name, p in donor.named_parameters() if p.ndim == 4)
    torch.testing.assert_close(dict(body.named_parameters())[first],
                               dict(donor.named_parameters())[first].sum(1, keepdim=True))


def test_weights_that_cannot_be_fetched_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host\nsecond line")

    monkeypatch.setattr(model_module.timm, "create_model", offline)
    with pytest.raises(BoneXageError, match="--weights none") as caught:
        Features("resnet18", "imagenet")
    assert "\n" not in str(caught.value)
