"""A pack on disk gives back what was put in, and takes its bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from packed_network import CASES, KINDS
from safetensors.numpy import save_file

from veriquant.deploy.pack.safetensors_pack import load_pack, save_pack
from veriquant.errors import VeriQuantError

METADATA = {"network": "test", "plan": {"conv": "W4A8"}, "mean": [0.5, 0.25]}


def example(kind: str, bits: int) -> tuple[dict, dict]:
    weight = torch.randn(12, 5, 3, 3, generator=torch.Generator().manual_seed(bits))
    shared = torch.linspace(-1, 1, 7)
    return {"layer.weight": KINDS[kind](weight, bits)}, {"layer.bias": shared, "other.bias": shared, "one": shared[0]}


@pytest.mark.parametrize(("kind", "bits"), CASES)
def test_everything_comes_back(kind: str, bits: int, tmp_path: Path) -> None:
    codes, parameters = example(kind, bits)
    save_pack(tmp_path / "net.safetensors", codes, parameters, METADATA)
    pack = load_pack(tmp_path / "net.safetensors")
    assert pack.metadata == METADATA
    given, found = codes["layer.weight"], pack.codes["layer.weight"]
    assert (found.bits, found.axis, found.values.dtype) == (bits, given.axis, torch.int32)
    assert torch.equal(found.values, given.values)
    assert torch.equal(found.decode(), given.decode())
    assert pack.decoded().keys() == {"layer.weight", *parameters}
    for name, value in parameters.items():
        assert torch.equal(pack.decoded()[name], value)


@pytest.mark.parametrize("bits", [1, 3, 4, 8])
def test_the_file_takes_the_bits_of_its_codes(bits: int, tmp_path: Path) -> None:
    weight = torch.randn(256, 512)
    save_pack(tmp_path / "net.safetensors", {"w": KINDS["symmetric"](weight, bits)}, {})
    nominal = weight.numel() * bits // 8
    # A scale of four bytes and a zero point of one for each channel, and the header.
    assert nominal < (tmp_path / "net.safetensors").stat().st_size <= nominal + 256 * 5 + 600


def test_bytes_come_back_and_what_opens_to_too_much_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.safetensors"
    save_pack(path, {}, {}, METADATA, {"graph": b"\0" * 100_000, "none": b""})
    assert path.stat().st_size < 2_000
    assert load_pack(path).blobs == {"graph": b"\0" * 100_000, "none": b""}
    monkeypatch.setattr("veriquant.deploy.pack.safetensors_pack._LARGEST_BLOB", 50_000)
    with pytest.raises(VeriQuantError, match=r"net\.safetensors"):
        load_pack(path)


@pytest.mark.parametrize("end", [0, 4, 60, -1])
def test_a_truncated_file_is_told_in_one_line(end: int, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_pack(path, *example("symmetric", 3))
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(VeriQuantError, match=r"net\.safetensors") as caught:
        load_pack(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"version":1', '"version":2'),
        ('"bits":3', '"bits":9'),
        ('"bits":3', '"bits":7'),
        ("[12,5,3,3]", "[12,5,3,4]"),
        ("[12,5,3,3]", "[15,4,3,3]"),
        ('"axis":0', '"axis":9'),
        ('"codes":{', '"codas":{'),
        ('{"version"', '["version"'),
    ],
)
def test_a_header_that_does_not_fit_its_tensors_is_told_in_one_line(old: str, new: str, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_pack(path, *example("symmetric", 3))
    old_bytes, new_bytes = (text.replace('"', '\\"').encode() for text in (old, new))
    content = path.read_bytes()
    assert content.count(old_bytes) == 1
    path.write_bytes(content.replace(old_bytes, new_bytes))
    with pytest.raises(VeriQuantError, match=r"net\.safetensors") as caught:
        load_pack(path)
    assert "\n" not in str(caught.value)


def test_a_foreign_file_and_no_file_are_told_in_one_line(tmp_path: Path) -> None:
    save_file({"w": np.zeros(3, np.float32)}, tmp_path / "foreign.safetensors")
    with pytest.raises(VeriQuantError, match="no pack of VeriQuant"):
        load_pack(tmp_path / "foreign.safetensors")
    with pytest.raises(VeriQuantError, match="cannot read the pack"):
        load_pack(tmp_path / "missing.safetensors")
    with pytest.raises(VeriQuantError, match="cannot read the pack"):
        load_pack(tmp_path)


def test_a_pack_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_pack(path, *example("symmetric", 3))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON compliant"):
        save_pack(path, *example("symmetric", 3), {"loss": float("nan")})
    with pytest.raises(ValueError, match="stands once"):
        save_pack(path, example("symmetric", 3)[0], {"layer.weight": torch.zeros(1)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
