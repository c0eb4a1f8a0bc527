"""Pooling, sex, bounded ages, and who is spared weight decay."""

import math
import socket

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

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

# Networks that timm lacks, or has otherwise, before the release that these tests were written with.
NEW_IN_TIMM = {"csatv2", "pit_ti_224", "test_coatnet", "convmixer_768_32"}
OLD_TIMM = Version(timm.__version__) < Version("1.0.31")
BACKBONES = ["convnext_tiny", "convnext_atto", "resnet18", "resnet50", "efficientnet_b0"]


def skip_if_new_in_timm(name: str) -> None:
    if OLD_TIMM and name in NEW_IN_TIMM:
        pytest.skip(f"timm {timm.__version__} has no {name}, or another one")


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
    assert bool((seen[0] > 0).all()) == name.startswith(("convnext", "efficientnet"))


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
    own = [(module, part, parameter) for module in net.modules()
           for part, parameter in module.named_parameters(recurse=False)]
    norms, biases, embeddings = (
        {id(parameter) for module, part, parameter in own if spare(module, part)} for spare in (
            lambda module, part: "norm" in type(module).__name__.lower(), lambda module, part: part == "bias",
            lambda module, part: isinstance(module, torch.nn.Embedding)))
    for kind in (norms, biases, embeddings):
        assert kind
        assert kind <= ids
    weights = {id(parameter) for module, part, parameter in own
               if part == "weight" and isinstance(module, (torch.nn.Linear, torch.nn.Conv2d))}
    assert weights
    assert not weights & ids
    assert len(decayed["params"]) + len(spared["params"]) == len(list(net.parameters()))


TRANSFORMERS = ["vit_tiny_patch16_224", "test_vit", "pit_ti_224", "levit_128s",
                "gmlp_ti16_224", "xcit_nano_12_p8_224", "naflexvit_base_patch16_gap"]
OWN_POOLING = ["coat_tiny", "crossvit_tiny_240", "deit_tiny_distilled_patch16_224", "efficientvit_b0",
               "inception_next_atto"]
TOO_SMALL = ["inception_v4", "halonet_h1", "efficientformer_l1", "csatv2"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["no_such_net", *TRANSFORMERS, *OWN_POOLING, *TOO_SMALL])
def test_unusable_backbones_are_refused_in_one_line(name: str) -> None:
    skip_if_new_in_timm(name)
    with pytest.raises(BoneXageError, match=f"'{name}'") as caught:
        BoneAgeNet(name)
    assert "\n" not in str(caught.value)
    assert ("64 px" in str(caught.value)) == (name in OWN_POOLING + TOO_SMALL)


@pytest.mark.parametrize("name", [
    "hf-hub:timm/resnet18.a1_in1k", "hf_hub:timm/resnet18", "HF-HUB:timm/resnet18", "local-dir:/tmp", "timm/resnet18",
    "https://huggingface.co/timm/resnet18", "/tmp/model", "resnet18.hf-hub:x", "resnet18.no_such_weights", "resnet18 ",
    "", "../resnet18", "ResNet18", "resnet18\n",
])
@pytest.mark.parametrize("weights", ["none", "imagenet"])
def test_no_name_reaches_a_hub_or_a_folder(name: str, weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("somebody was called")

    for place, what in ((socket.socket, "connect"), (socket, "getaddrinfo"), (model_module.timm, "create_model")):
        monkeypatch.setattr(place, what, refuse)
    with pytest.raises(BoneXageError, match="unknown to timm") as caught:
        Features(name, weights)
    assert "\n" not in str(caught.value)


# Backbones that lay their map out otherwise, that take large films only, or that are made for one size: size, channels.
OTHERS = {"mambaout_femto": (96, 1152), "sequencer2d_s": (64, 384), "swin_tiny_patch4_window7_224": (96, 768),
          "test_coatnet": (96, 128), "inception_v3": (96, 2048), "dla46x_c": (96, 256), "hrnet_w18_small": (64, 2048),
          "efficientvit_m0": (96, 192), "pvt_v2_b0": (96, 256)}


def own_average(name: str, size: int, state: dict[str, torch.Tensor], films: torch.Tensor) -> torch.Tensor:
    """What timm makes of the same weights with its own pooling."""
    fixed = {"img_size": size} if timm.get_pretrained_cfg(name).fixed_input_size else {}
    whole = timm.create_model(name, in_chans=1, num_classes=0, **fixed).eval()
    whole.load_state_dict(state)
    return whole(films)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_places_are_pooled_and_not_channels_whatever_the_layout(name: str) -> None:
    skip_if_new_in_timm(name)
    size, channels = OTHERS[name]
    net = BoneAgeNet(name, pooling="avg", image_size=size)
    films, sexes = torch.randn(2, 1, size, size), torch.tensor([0, 1])
    net(films, sexes).sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in net.parameters())
    net.eval()
    with torch.no_grad():
        maps = net.features(films)
        assert maps.shape[:2] == (2, channels)
        assert maps.shape[2] == maps.shape[3] <= size // 8
        assert (maps >= 0).all()
        assert GeM()(maps).shape == (2, channels)
        net.features.non_negative = torch.nn.Identity()
        maps = net.features(films)
        if "mambaout" in name:  # ends in a norm of every place's channels, which timm applies to their average
            torch.testing.assert_close(maps.mean(1), torch.zeros_like(maps[:, 0]), atol=1e-4, rtol=0)
            torch.testing.assert_close(maps.var(1, correction=0), torch.ones_like(maps[:, 0]), atol=1e-2, rtol=0)
        else:
            own = own_average(name, size, net.features.body.state_dict(), films)
            torch.testing.assert_close(net.pool(maps), own, atol=1e-4, rtol=1e-3)


def test_a_map_that_turns_negative_in_training_loses_nothing() -> None:
    """ConvMixer ends in a BatchNorm after a GELU: with the statistics it starts from, its map has no negative value."""
    skip_if_new_in_timm("convmixer_768_32")
    features = Features("convmixer_768_32")
    for name, tensor in features.named_buffers():  # trying it left no trace
        assert (tensor == (1 if name.endswith("running_var") else 0)).all()
    assert features.training
    assert (features.body(torch.randn(2, 1, 64, 64)) < 0).any()
    assert (features(torch.randn(2, 1, 64, 64)) > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size", "good"), [
    ("inception_v3", 64, 96), ("hrnet_w18_small", 100, 96), ("dla46x_c", 100, 96), ("test_coatnet", 100, 96),
    ("efficientformerv2_s0", 75, 64), ("test_convnext", 16, 32),
])
def test_a_backbone_is_tried_at_the_size_of_the_run(name: str, size: int, good: int) -> None:
    skip_if_new_in_timm(name)
    with pytest.raises(BoneXageError, match=rf"'{name}'.* {size} px.*image size"):
        BoneAgeNet(name, image_size=size)
    net = BoneAgeNet(name, image_size=good).eval()
    assert net(torch.randn(1, 1, good, good), torch.tensor([0])).shape == (1,)


@pytest.mark.slow
@given(st.sampled_from(["test_convnext", "test_resnet", "test_mambaout", "test_efficientnet", "dla46x_c",
                        "hrnet_w18_small", "efficientvit_m0", "visformer_tiny", "gcvit_xxtiny", "inception_v3",
                        *([] if OLD_TIMM else ["test_coatnet"])]), st.integers(1, 140))
@settings(max_examples=40, deadline=None)
def test_a_backbone_is_refused_at_a_size_or_trains_and_predicts_at_it(name: str, size: int) -> None:
    refusal = ""
    try:
        net = BoneAgeNet(name, image_size=size)
    except BoneXageError as error:
        refusal = str(error)
    if refusal:
        assert "\n" not in refusal
        assert f"{size} px" in refusal
        return
    net(torch.randn(2, 1, size, size), torch.tensor([0, 1])).sum().backward()
    assert net.eval()(torch.randn(1, 1, size, size), torch.tensor([0])).isfinite().all()


@pytest.mark.parametrize("settings", [
    {"max_age": 0}, {"max_age": -240}, {"max_age": math.nan}, {"max_age": 1e9}, {"max_age": math.inf},
    {"output": "linear", "months_std": 0.0}, {"output": "linear", "months_std": math.nan}, {"pooling": "sum"},
])
def test_impossible_settings_are_refused(settings: dict) -> None:
    with pytest.raises(BoneXageError) as caught:
        BoneAgeNet("test_convnext", **settings)
    assert "\n" not in str(caught.value)


def test_weights_of_an_unknown_kind_are_refused() -> None:
    with pytest.raises(BoneXageError, match=r"'image_net'.*imagenet, phantom, none"):
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
