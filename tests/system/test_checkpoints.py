"""Checkpoints that were damaged or tampered with: refused, or the very same content; never a crash, never code.

`BONEXAGE_CASES` sets how many are made up.
"""

import hashlib
import json
import math
import os
import shutil
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

import pytest
import torch
from conftest import TINY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from bonexage_utils.calibration import Calibration
from bonexage_utils.checkpoints import (
    KEY,
    load_model,
    load_state,
    optimizer_tensors,
    restore_network,
    restore_optimizer,
    restore_random,
    save_model,
    save_state,
    set_calibration,
)
from bonexage_utils.cohort import Cohort
from bonexage_utils.errors import BoneXageError
from bonexage_utils.images import Preprocessing
from bonexage_utils.model import BoneAgeNet, parameter_groups
from bonexage_utils.prediction import Predictor
from bonexage_utils.training import train

CASES = int(os.environ.get("BONEXAGE_CASES", "150"))


def flip(data: bytes, place: float, bit: int) -> bytes:
    at = int(place * len(data))
    return data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]


def flip_in_header(data: bytes, place: float, bit: int) -> bytes:
    size = 8 + struct.unpack("<Q", data[:8])[0]
    return flip(data[:size], place, bit) + data[size:]


def cut(data: bytes, place: float, bit: int) -> bytes:
    return data[: int(place * len(data))]


def repeat(data: bytes, place: float, bit: int) -> bytes:
    at = int(place * len(data))
    return data[:at] + data[at : at + 1 + bit] + data[at:]


def append(data: bytes, place: float, bit: int) -> bytes:
    return data + bytes(1 + bit)


@pytest.mark.slow
@given(st.sampled_from([flip, flip_in_header, cut, repeat, append]), st.floats(0, 1, exclude_max=True),
       st.integers(0, 7))
@settings(max_examples=CASES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_checkpoint_is_refused_in_one_line(run: Path, tmp_path: Path, damage, place: float, bit: int) -> None:
    good = (run / "model.safetensors").read_bytes()
    path = tmp_path / "model.safetensors"
    path.write_bytes(damage(good, place, bit))
    refusal = ""
    try:
        model, _, description = load_model(path)
    except BoneXageError as error:
        refusal = str(error)
    if refusal:
        assert "model.safetensors" in refusal
        assert "\n" not in refusal
        return
    # A flip in the white space of the header changes nothing that is loaded.
    expected, _, told = load_model(run / "model.safetensors")
    assert told == description
    assert all(torch.equal(a, b) for a, b in zip(expected.state_dict().values(), model.state_dict().values(),
                                                 strict=True))


def edited(run: Path, path: Path, change) -> Path:
    """The same weights under a description that somebody changed by hand."""
    with safe_open(run / "model.safetensors", "pt") as file:
        description = json.loads(file.metadata()[KEY])
    change(description)
    save_file(load_file(run / "model.safetensors"), path, metadata={KEY: json.dumps(description)})
    return path


@pytest.mark.parametrize("change", [
    lambda d: d["preprocessing"].update(mean=0.5), lambda d: d["sex_coding"].update(F=1, M=0),
    lambda d: d["model"].update(max_age=480.0), lambda d: d.update(calibration={"low": -1}),
    lambda d: d.pop("digest"), lambda d: d.clear(),
])
def test_an_edited_description_is_refused(run: Path, tmp_path: Path, change) -> None:
    load_model(edited(run, tmp_path / "same.safetensors", lambda d: None))
    with pytest.raises(BoneXageError, match=r"edited\.safetensors"):
        load_model(edited(run, tmp_path / "edited.safetensors", change))


def widths(half_width: float = 20.0, **changed: object) -> dict:
    """A calibration as a checkpoint holds it."""
    return {**asdict(Calibration(
        coverage=0.9, tta=False, max_age=240.0, films=100, splits={"calibration": 100}, half_width=half_width,
        bands=[0, 60, 120, 180, 241], groups={"F": [None, 10.0, 12.5, None], "M": [None] * 4})), **changed}


def test_calibrating_leaves_the_network_as_it_is(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes((run / "model.safetensors").read_bytes())
    before, _, told = load_model(path)
    for width in (12.5, 13.5):  # a calibration is replaced as well
        set_calibration(path, told["network_sha256"], widths(width))
        after, _, now = load_model(path)
        assert now == {**told, "calibration": widths(width)}
        assert all(torch.equal(a, b) for a, b in zip(before.state_dict().values(), after.state_dict().values(),
                                                     strict=True))
    content = path.read_bytes()
    with pytest.raises(BoneXageError, match="another network"):
        set_calibration(path, "0" * 64, widths())
    with pytest.raises(BoneXageError, match="half_width"):
        set_calibration(path, told["network_sha256"], widths(-1.0))
    assert path.read_bytes() == content
    with pytest.raises(BoneXageError, match="no such file"):
        set_calibration(tmp_path / "absent" / "model.safetensors", told["network_sha256"], widths())
    assert list(tmp_path.iterdir()) == [path]


# Files that somebody made, digest and all.
NAN, INF = math.nan, math.inf


def sealed(path: Path, tensors: dict[str, torch.Tensor], description: dict) -> Path:
    """A file whose digest fits, as whoever knows the rule can make it."""
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    save_file(tensors, path, metadata={KEY: json.dumps({**description, "digest": digest.hexdigest()})})
    return path


def forged(run: Path, path: Path, change: Callable[[dict], object] | None = None,
           weights: Callable[[dict[str, torch.Tensor]], object] | None = None) -> Path:
    """The run's model with its description and its weights changed, under a digest that fits."""
    with safe_open(run / "model.safetensors", "pt") as file:
        description = json.loads(file.metadata()[KEY])
    del description["digest"]
    tensors = load_file(run / "model.safetensors")
    for part, changed in ((description, change), (tensors, weights)):
        if changed:
            changed(part)
    return sealed(path, tensors, description)


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Every attempt to reach another machine fails, and is noted here."""
    asked: list[tuple] = []

    def refuse(*args: object, **_: object) -> None:
        asked.append(args)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(time, "sleep", lambda _: None)  # a client that tries again waits in between
    return asked


def refused(path: Path, *named: str) -> None:
    """Loading ends in one line that names the file and what is wrong."""
    with pytest.raises(BoneXageError) as caught:
        load_model(path)
    line = str(caught.value)
    assert str(path) in line
    assert "\n" not in line
    for word in named:
        assert word in line


WRONG = {
    "model": {
        "backbone": [5, None, True, "", ["resnet18"], {"name": "resnet18"}, "no_such_net", "hf-hub:timm/resnet18",
                     "hf_hub:timm/resnet18", "local-dir:/tmp", "https://example.org/net", "timm/resnet18",
                     "resnet18.no_such_weights", "test_convnext\n"],
        "pooling": [0, None, "sum", ["gem"]], "use_sex": [0, 1, "no", None], "output": [1, "free", None],
        "max_age": [0, -240, 0.5, 1e9, NAN, INF, -INF, "240", None, True, 10**400],
        "months_mean": [-1, NAN, INF, "120", 1e9], "months_std": [-1, NAN, INF, [42]],
    },
    "preprocessing": {
        "image_size": [0, -64, 10**5, 10**30, "64", 64.5, 64.0, True, None, [64]],
        "mean": [-0.1, 255, NAN, INF, "0.2", None], "std": [0, -0.2, NAN, INF, 1e-300, 64, "0.2", True, None],
        "channels": [0, 3, "1", True, None], "letterbox": ["stretched", None, ""], "intensity": ["inverted", 8, None],
    },
    "training": {
        "films": [-1, "many", 1.5], "parameters": ["<b>"], "epoch": [NAN, None], "cohort": [5, ["x"]],
        "selection_mae_months": ["good", NAN, -1], "median_months_by_sex": [{"F": NAN}, {"X": 100.0}, [100.0], None],
        "label_hashes": [[], {"labels.csv": 5}],
        "config": [None, [], {"epochs": "2"}, {"weights": "elsewhere"}, {"lr": NAN}, {"seed": "x"}],
    },
    "calibration": {
        "half_width": [NAN, INF, -1, "20", None], "coverage": [0, 1, 7, NAN, "90 %"], "max_age": [-1, 0, NAN],
        "films": [0, -5, "many"], "tta": [1, "no", None], "splits": [[1], {"calibration": "all"}, None],
        "bands": [[], [0], "x", [0, 120, 60, 180, 241], [0, 60, NAN, 180, 241], [0, 0, 120, 180, 241], [0, 60, 120]],
        "groups": [None, [], {}, {"F": [None] * 4}, {"F": [None] * 4, "M": [None]}, {"F": [NAN] * 4, "M": [None] * 4},
                   {"F": [-3.0] * 4, "M": [None] * 4}, {"F": [[1.0]] * 4, "M": [None] * 4}, {"F": 1.0, "M": 1.0}],
    },
}


@pytest.mark.parametrize(("section", "name"), [(section, name) for section, names in WRONG.items() for name in names])
def test_a_setting_that_is_none_is_refused_by_name(run: Path, tmp_path: Path, silence: list, section: str,
                                                   name: str) -> None:
    whole = widths() if section == "calibration" else None
    load_model(forged(run, tmp_path / "good.safetensors", lambda d: d.update(calibration=whole)))
    for value in WRONG[section][name]:
        def change(description: dict, value: object = value) -> None:
            description["calibration"] = whole
            description[section][name] = value

        refused(forged(run, tmp_path / "forged.safetensors", change), section)
    assert not silence


@pytest.mark.slow
def test_a_calibration_to_another_highest_age_is_refused(run: Path, tmp_path: Path) -> None:
    """Its intervals would end where the network's ages do not."""
    path, other = tmp_path / "model.safetensors", {**widths(), "max_age": 60.0}
    with pytest.raises(BoneXageError, match=r"calibration\.max_age") as caught:
        load_model(forged(run, path, lambda d: d.update(calibration=other)))
    assert "\n" not in str(caught.value)
    shutil.copy(run / "model.safetensors", path)
    before = path.read_bytes()
    with pytest.raises(BoneXageError, match=r"calibration\.max_age"):
        set_calibration(path, load_model(path)[2]["network_sha256"], other)
    assert path.read_bytes() == before


@pytest.mark.parametrize("section", ["", "model", "preprocessing", "calibration"])
def test_settings_that_are_absent_or_of_another_version_are_refused(run: Path, tmp_path: Path, section: str) -> None:
    """An unknown rule may change what a prediction means."""
    def of(description: dict) -> dict:
        description["calibration"] = widths()
        return description[section] if section else description

    refused(forged(run, tmp_path / "more.safetensors", lambda d: of(d).update(tilt=3)), "tilt", "version")
    with safe_open(run / "model.safetensors", "pt") as file:
        names = list(of(json.loads(file.metadata()[KEY])))
    for name in set(names) - {"digest", "calibration"}:
        refused(forged(run, tmp_path / "fewer.safetensors", lambda d, name=name: of(d).pop(name)), name)


@pytest.mark.parametrize("coding", [{"F": 1, "M": 0}, {"F": 0}, {"F": 0, "M": 1, "X": 2}, [0, 1], None, "FM"])
def test_another_coding_of_the_sexes_is_refused(run: Path, tmp_path: Path, coding: object) -> None:
    refused(forged(run, tmp_path / "forged.safetensors", lambda d: d.update(sex_coding=coding)), "sex_coding")


@pytest.mark.parametrize("settings", [
    {"weights": "imagenet"}, {"weights": "phantom"}, {"image_size": 64},
    {"backbone": "resnet18", "weights": "imagenet"}, {"backbone": "hf-hub:timm/resnet18.a1_in1k"},
])
def test_a_file_makes_nobody_call_a_hub(run: Path, tmp_path: Path, silence: list, settings: dict) -> None:
    path = forged(run, tmp_path / "forged.safetensors", lambda d: d["model"].update(settings))
    with pytest.raises(BoneXageError, match=r"forged\.safetensors"):
        Predictor(path, "cpu")
    assert silence == []


def test_a_file_of_a_few_bytes_gets_no_memory_for_a_large_network(run: Path, tmp_path: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoneAgeNet, "__init__", lambda *_, **__: pytest.fail("a network was built"))
    path = forged(run, tmp_path / "forged.safetensors", lambda d: d["model"].update(backbone="convnext_xxlarge"))
    refused(path, "convnext_xxlarge")


@pytest.mark.parametrize("spoil", [
    lambda t: t["head.1.weight"][0, 0].fill_(NAN), lambda t: t["head.4.bias"].fill_(INF),
    lambda t: t["sex_encoder.vectors.weight"][1].fill_(-INF), lambda t: t["pool.log_p"].fill_(NAN),
    lambda t: t.update({"head.4.bias": t["head.4.bias"].double() + 1e300}),
    lambda t: t.update({"head.4.bias": t["head.4.bias"].to(torch.complex64)}),
    lambda t: t.update({"head.4.bias": t["head.4.bias"].to(torch.float8_e4m3fn)}),
    lambda t: t.update({"head.4.bias": t["head.4.bias"].reshape(1, 1)}),
    lambda t: t.update(more=torch.zeros(2)), lambda t: t.pop("head.4.bias"), lambda t: t.clear(),
    lambda t: t.update({name: torch.full_like(tensor, 3e38) for name, tensor in t.items() if "head" in name}),
])
def test_weights_that_are_no_numbers_or_others_are_refused(run: Path, tmp_path: Path, spoil: Callable) -> None:
    refused(forged(run, tmp_path / "forged.safetensors", weights=spoil))


def test_a_negative_variance_is_refused(run: Path, tmp_path: Path) -> None:
    """Every number is finite, and every age would be none."""
    with safe_open(run / "model.safetensors", "pt") as file:
        training = json.loads(file.metadata()[KEY])["training"]
    net, path = BoneAgeNet("test_resnet"), tmp_path / "model.safetensors"
    save_model(path, net, net.state_dict(), Preprocessing(64, 0.3, 0.2), training)
    load_model(path)
    state = {name: -1 - tensor if name.endswith("running_var") else tensor for name, tensor in net.state_dict().items()}
    save_model(path, net, state, Preprocessing(64, 0.3, 0.2), training)
    refused(path, "train it again")


@pytest.mark.parametrize("load", [load_model, load_state])
def test_a_million_tensors_are_refused_before_they_are_read(tmp_path: Path, load: Callable) -> None:
    number = 10**6
    header = ",".join(f'"t{i}":{{"dtype":"U8","shape":[1],"data_offsets":[{i},{i + 1}]}}' for i in range(number))
    content = f"{{{header}}}".encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(content)) + content + bytes(number))
    started = time.perf_counter()
    with pytest.raises(BoneXageError, match=r"model\.safetensors.*too long"):
        load(path)
    assert time.perf_counter() - started < 1


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3))


@pytest.mark.slow
@given(st.data(), JSON)
@settings(max_examples=CASES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_stands_in_a_description_never_a_traceback(run: Path, tmp_path: Path, data: st.DataObject,
                                                            value: object) -> None:
    """Refused in one line; or of the notes on training, which change no age."""
    place: list[str] = []

    def change(description: dict) -> None:
        description["calibration"] = widths()
        table = description
        while True:
            place.append(data.draw(st.sampled_from(sorted(table))))
            if not (isinstance(table[place[-1]], dict) and data.draw(st.booleans())):
                break
            table = table[place[-1]]
        table[place[-1]] = value

    path = forged(run, tmp_path / "forged.safetensors", change)
    refusal = ""
    try:
        model, preprocessing, _ = load_model(path)
    except BoneXageError as error:
        refusal = str(error)
    if refusal:
        assert "\n" not in refusal
        assert str(path) in refusal
        return
    expected, usual, _ = load_model(run / "model.safetensors")
    if place[0] not in ("training", "calibration"):
        changed = {place[-1]} if type(value) in (int, float) else set()
        assert {f.name for f in fields(usual) if getattr(usual, f.name) != getattr(preprocessing, f.name)} <= changed
        assert {k for k, v in model.settings.items() if expected.settings[k] != v} <= changed


# The state of a run.


def test_a_model_is_no_state_and_a_state_no_model(run: Path) -> None:
    for load, path in ((load_state, run / "model.safetensors"), (load_model, run / "last" / "state.safetensors")):
        with pytest.raises(BoneXageError, match="version") as caught:
            load(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [
    lambda p: p.pop("epoch"), lambda p: p.pop("config"), lambda p: p.update(epoch="two"), lambda p: p.update(sums=[1]),
    lambda p: p.update(best=NAN), lambda p: p.update(log=5), lambda p: p.update(scaler=None), lambda p: p.clear(),
])
def test_a_progress_that_is_none_is_refused(run: Path, tmp_path: Path, change: Callable[[dict], object]) -> None:
    parts, progress = load_state(run / "last" / "state.safetensors")
    path = tmp_path / "state.safetensors"
    save_state(path, parts, {**progress, "more": [1]})  # what a run keeps there besides is its own
    assert load_state(path)[1]["more"] == [1]
    change(progress)
    save_state(path, parts, progress)
    with pytest.raises(BoneXageError, match=r"state\.safetensors: progress"):
        load_state(path)


def test_what_a_state_lacks_is_told_as_a_fault_of_the_file(run: Path, tmp_path: Path) -> None:
    parts, progress = load_state(run / "last" / "state.safetensors")
    path = tmp_path / "state.safetensors"
    save_state(path, {"model": parts["model"]}, progress)
    parts, progress = load_state(path)
    for table, name in ((parts, "ema"), (parts["model"], "no.such.weight"), (progress, "films")):
        with pytest.raises(BoneXageError, match=rf"state\.safetensors.*{name}"):
            table[name]


@pytest.mark.parametrize("spoil", [
    *(lambda p, name=name: p["optimizer"].update({name: torch.zeros(())}) for name in (
        "last/state", "-1.step", "9999.step", "0.momentum_buffer", "0.exp_avg", "0", "")),
    lambda p: p["optimizer"].update({"0.step": torch.zeros(3)}), lambda p: p["optimizer"].pop("0.exp_avg"),
    lambda p: p["random"].clear(), lambda p: p["random"].update(cpu=torch.zeros(3)),
    lambda p: p["random"].update(cpu=torch.zeros(3, dtype=torch.uint8)),
    lambda p: p["model"].clear(), lambda p: p["model"].update(more=torch.zeros(1)),
])
def test_a_state_of_another_kind_is_not_gone_on_with(run: Path, spoil: Callable[[dict], object]) -> None:
    parts, _ = load_state(run / "last" / "state.safetensors")
    net = BoneAgeNet("test_convnext", months_mean=1, months_std=1)
    optimizer = torch.optim.AdamW(parameter_groups(net, 0.05))

    def restore() -> None:
        restore_network(net, parts["model"])
        restore_optimizer(optimizer, parts["optimizer"])
        restore_random(parts["random"], torch.device("cpu"))

    before = torch.get_rng_state()
    try:
        restore()
        held = optimizer_tensors(optimizer)
        assert held.keys() == parts["optimizer"].keys()
        assert all(torch.equal(tensor, parts["optimizer"][name]) for name, tensor in held.items())
        spoil(parts)
        with pytest.raises(BoneXageError, match=r"state\.safetensors") as caught:
            restore()
        assert "\n" not in str(caught.value)
    finally:
        torch.set_rng_state(before)


@pytest.mark.parametrize(("spoil", "named"), [
    (lambda p: p.pop("ema"), "ema"), (lambda p: p.pop("optimizer"), "optimizer"),
    (lambda p: p["model"].pop("head.4.bias"), "head.4.bias"), (lambda p: p["optimizer"].pop("0.exp_avg"), "optimizer"),
    (lambda p: p["optimizer"].update({"last/state": torch.zeros(1)}), "last/state"),
])
def test_training_does_not_go_on_from_a_spoilt_state(run: Path, cohort: Cohort, cache_dir: Path, tmp_path: Path,
                                                     spoil: Callable[[dict], object], named: str) -> None:
    out = shutil.copytree(run, tmp_path / "run")
    state = out / "last" / "state.safetensors"
    parts, progress = load_state(state)
    spoil(parts)
    save_state(state, parts, progress)
    kept = (out / "model.safetensors").read_bytes()
    with pytest.raises(BoneXageError, match=named) as caught:
        train(cohort, out, TINY, resume=True, cache_dir=cache_dir)
    assert "\n" not in str(caught.value)
    assert (out / "model.safetensors").read_bytes() == kept
