"""A world small enough that a whole study takes a second: a tiny network, drawn people, a pairs.txt."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

SIDE = 32
DIM = 16
PEOPLE = 24
IMAGES = 4
FOLDS = 3
PAIRS = 8


def tiny_network(path: Path, *, seed: int = 0, outputs: int = 1, scale: float = 1.0) -> Path:
    """Write a network of two convolutions and a linear layer; `scale` multiplies its last weights."""
    draw = np.random.default_rng(seed)

    def weight(name: str, *shape: int, gain: float = 1.0) -> TensorProto:
        values = draw.standard_normal(shape).astype(np.float32) * gain / np.sqrt(np.prod(shape[1:]))
        return numpy_helper.from_array(values.astype(np.float32), name)

    weights = [
        weight("w1", 8, 3, 3, 3),
        weight("b1", 8),
        weight("w2", 16, 8, 3, 3),
        weight("b2", 16),
        weight("w3", DIM, 16 * 16, gain=scale),
    ]
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], "first", strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "first_relu"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "second", strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"], "second_relu"),
        helper.make_node("AveragePool", ["r2"], ["pooled"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "w3"], ["embedding"], "linear", transB=1),
    ]
    ends = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", DIM])]
    if outputs == 2:
        ends.append(helper.make_tensor_value_info("flat", TensorProto.FLOAT, ["n", 16 * 16]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        ends,
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def picture(person: int, image: int) -> bytes:
    """Return a JPEG: a pattern that is the person's, with noise that is the image's."""
    pattern = np.random.default_rng(person).integers(40, 216, (4, 4, 3))
    noise = np.random.default_rng(1000 * person + image + 1).normal(0, 30, (4, 4, 3))
    pixels = np.clip(pattern + noise, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def lfw_folder(folder: Path) -> Path:
    """Write people's folders and a pairs.txt in LFW's layout, no person in two folds."""
    for person in range(PEOPLE):
        for image in range(1, IMAGES + 1):
            place = folder / f"P_{person}" / f"P_{person}_{image:04d}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(picture(person, image))
    lines = [f"{FOLDS}\t{PAIRS}"]
    group = PEOPLE // FOLDS
    for fold in range(FOLDS):
        first = fold * group
        lines += [f"P_{first + i}\t1\t2" for i in range(PAIRS)]
        lines += [f"P_{first + i}\t3\tP_{first + (i + 1) % group}\t1" for i in range(PAIRS)]
    (folder / "pairs.txt").write_text("\n".join(lines) + "\n")
    return folder


def photos(folder: Path, count: int = 12) -> Path:
    """Write unlabelled images of other people."""
    folder.mkdir(parents=True, exist_ok=True)
    for person in range(count):
        (folder / f"{person}.jpg").write_bytes(picture(5000 + person, 0))
    return folder


def known_people(folder: Path, count: int = 6) -> Path:
    """Write a folder for each of other people, to learn from."""
    for person in range(count):
        for image in range(IMAGES):
            place = folder / f"K_{person}" / f"{image}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(picture(7000 + person, image))
    return folder


def study_text(world: Path, recipes: str = "[int8-dynamic, int8-static]", more: str = "") -> str:
    """Return the YAML of a study over the world that the fixture `world` made."""
    return f"""
title: small
networks: ["{world}/tiny.onnx"]
recipes: {recipes}
benchmarks: ["lfw:{world}/lfw"]
calibration: {{source: "{world}/photos", images: 8}}
latency: {{batches: [1], rounds: 3}}
far: [0.1]
resamples: 50
{more}
"""
