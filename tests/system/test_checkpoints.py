"""Checkpoints that were damaged or tampered with: refused, or the very same content; never a crash, never code.

`BONEXAGE_CASES` sets how many are made up.
"""

import json
import os
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from bonexage_utils.checkpoints import KEY, load_model, set_calibration
from bonexage_utils.errors import BoneXageError

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
    from safetensors import safe_open

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


def test_calibrating_leaves_the_network_as_it_is(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes((run / "model.safetensors").read_bytes())
    before, _, told = load_model(path)
    for width in (12.5, 13.5):  # a calibration is replaced as well
        set_calibration(path, told["network_sha256"], {"half_width": width})
        after, _, now = load_model(path)
        assert now == {**told, "calibration": {"half_width": width}}
        assert all(torch.equal(a, b) for a, b in zip(before.state_dict().values(), after.state_dict().values(),
                                                     strict=True))
    content = path.read_bytes()
    with pytest.raises(BoneXageError, match="another network"):
        set_calibration(path, "0" * 64, {"half_width": 1.0})
    assert path.read_bytes() == content
    with pytest.raises(BoneXageError, match="no such file"):
        set_calibration(tmp_path / "absent" / "model.safetensors", told["network_sha256"], {})
    assert list(tmp_path.iterdir()) == [path]
