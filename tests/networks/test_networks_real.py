"""The real networks, on photographs: same person alike, different people not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from veriquant.errors import VeriQuantError
from veriquant.frontends.spec import IMAGENET, RAW, InputSpec
from veriquant.networks import Network, load_network

pytestmark = pytest.mark.real

CASES = [
    ("networks/mobilefacenet-y1/mobilefacenet-y1.onnx", RAW, 128, "Sub/Mul"),
    ("networks/mobileface-v2/mobileface-v2.onnx", RAW, 256, "Sub/Mul"),
    ("mobilefacenet-foamliu:networks/mobilefacenet-foamliu/mobilefacenet.pt", IMAGENET, 128, "ImageNet"),
]


def load(real: Path, case: str) -> Network:
    family, colon, path = case.rpartition(":")
    return load_network(f"{family}{colon}{real / path}")


def embed(network: Network, images: list[Path]) -> np.ndarray:
    pixels = np.stack([np.asarray(Image.open(image).convert("RGB"), np.float32) for image in images])
    batch = ((pixels - np.float32(network.spec.mean)) / np.float32(network.spec.std)).transpose(0, 3, 1, 2)
    session = onnxruntime.InferenceSession(network.onnx)
    (found,) = session.run(None, {session.get_inputs()[0].name: batch.astype(np.float32)})
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


@pytest.mark.parametrize(("case", "convention", "dim", "word"), CASES)
def test_a_real_network_tells_people_apart(real: Path, case: str, convention: object, dim: int, word: str) -> None:
    network = load(real, case)
    assert network.dim == dim
    assert network.spec.model_dump(exclude={"origin"}) == convention.model_dump(exclude={"origin"})  # type: ignore[attr-defined]
    assert word in network.spec.origin
    lfw = real / "faces" / "lfw-112x112"
    one = sorted((lfw / "George_W_Bush").glob("*.jpg"))[:10]
    others = [sorted(folder.glob("*.jpg"))[0] for folder in sorted(lfw.iterdir()) if folder.is_dir()][:200:20]
    same, different = embed(network, one), embed(network, others)
    genuine = (same @ same.T)[np.triu_indices(len(same), 1)]
    impostor = (same @ different.T).ravel()
    assert np.median(genuine) > 0.4
    assert np.median(impostor) < 0.2
    assert (impostor[:, None] < genuine[None]).mean() > 0.99


def test_a_detector_is_refused_with_its_outputs(real: Path) -> None:
    path = real / "networks/yunet/face_detection_yunet_2026may.onnx"
    with pytest.raises(VeriQuantError, match=r"say what it takes \(--input"):
        load_network(path)
    with pytest.raises(VeriQuantError, match=r"6 of its outputs can be the embedding: 'cls_8'"):
        load_network(path, InputSpec(size=(128, 128)))


def test_a_voice_network_is_refused_in_one_line(real: Path) -> None:
    with pytest.raises(VeriQuantError, match="sound") as caught:
        load_network(real / "networks/campplus/campplus.onnx")
    assert "\n" not in str(caught.value)
