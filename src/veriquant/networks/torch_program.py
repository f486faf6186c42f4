"""Networks saved as programs, TorchScript or `torch.export`: made ONNX in memory, and held to the program's numbers.

How each is read without running what it should not is told in `torchscript` and `exported_program`.
"""

from __future__ import annotations

import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from veriquant.errors import VeriQuantError
from veriquant.frontends.spec import InputSpec
from veriquant.networks.network import Network

#: Sides of images that are tried where neither file nor user says which: ArcFace's, FaceNet's, ImageNet's, others.
_SIDES = (112, 160, 224, 128, 96, 64, 256, 32)
#: How far the ONNX form may be from the program, relative to its largest number.
_TOLERANCE = 1e-4


def program_kind(path: Path) -> Literal["TorchScript", "torch.export"] | None:
    """Return which kind of program a file is, told from the names in its archive; None for anything else."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile, ValueError):
        return None
    if "archive_format" in names or any(name.startswith("models/") for name in names):
        return "torch.export"
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return "TorchScript"
    return "torch.export" if "serialized_exported_program.json" in {n.rpartition("/")[2] for n in names} else None


def load_program(path: Path, kind: str, spec: InputSpec | None, source: str) -> Network:
    """Load a program as a network: it is exported to ONNX, and both give the same embeddings."""
    from veriquant.networks.exported_program import open_exported
    from veriquant.networks.onnx_file import network_of_onnx
    from veriquant.networks.torchscript import open_torchscript

    shape: tuple[int | None, ...] | None
    if kind == "TorchScript":
        module, shape = open_torchscript(path)
    else:
        module, shape = open_exported(path)
    example, told = _example(module, shape, spec, source)
    content = _onnx(module, example, source)
    network = network_of_onnx(content, spec, name=path.stem, source=source, path=path)
    note = f"a {kind} file, exported to ONNX, which gives the same embeddings{told}"
    return replace(network, notes=(note, *network.notes))


def _example(module: Any, shape: tuple[int | None, ...] | None, spec: InputSpec | None, source: str) -> tuple[Any, str]:
    """Return images of a shape that the program takes, two where it takes any number, and what was assumed."""
    import torch

    if shape is not None and len(shape) != 4:
        raise VeriQuantError(f"{source}: takes a tensor of {len(shape)} axes, expected images (n, 3, h, w)")
    shapes: list[tuple[int, ...]] = []
    if spec is not None:
        shapes = [spec.batch_shape(2), spec.batch_shape(1)]
    elif shape is not None and None not in shape[1:]:
        rest = tuple(length for length in shape[1:] if length is not None)
        shapes = [(2, *rest), (1, *rest), (shape[0] or 1, *rest)]
    else:
        shapes = [(count, 3, side, side) for side in _SIDES for count in (2, 1)]
    errors: list[str] = []
    for tried in shapes:
        example = torch.rand(tried, generator=torch.Generator().manual_seed(0)) * 2 - 1
        try:
            _run(module, example)
        except Exception as error:  # whatever the program raises
            errors.append(str(error).strip().splitlines()[-1][:120] if str(error).strip() else type(error).__name__)
            continue
        guessed = spec is None and (shape is None or None in shape[1:])
        told = (
            f"; nothing in it tells the images' size, {tried[3]}×{tried[2]} is the first that it takes"
            if guessed
            else ""
        )
        return example, told
    raise VeriQuantError(
        f"{source}: does not run on images of shape {shapes[0]} or of the other shapes tried ({errors[0]}); say what "
        "it takes (--input '{size: [112, 112]}'), or export it to ONNX"
    )


def _run(module: Any, images: Any) -> list[np.ndarray[Any, Any]]:
    import torch

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = module(images)
    return [each.detach().numpy() for each in (found if isinstance(found, tuple | list) else (found,))]


def _onnx(module: Any, example: Any, source: str) -> bytes:
    """Return the ONNX form that takes any number of images, or, where the program does not, as many as `example`."""
    from veriquant.networks.export import exported

    problem = ""
    for any_number in (True, False):
        try:
            content = bytes(exported(module, example, any_number).SerializeToString(deterministic=True))
            problem = _difference(module, content, example, any_number)
        except Exception as error:  # the exporter raises types of its own for each kind of failure
            problem = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
            continue
        if not problem:
            return content
    raise VeriQuantError(f"{source}: cannot be exported to ONNX as it is ({problem}); export it yourself")


def _difference(module: Any, content: bytes, example: Any, any_number: bool) -> str:
    """Return how the ONNX form differs from the program, empty where it does not: on one, two and five images."""
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    counts = (1, 2, 5) if any_number else (len(example),)
    for count in counts:
        images = torch.rand((count, *example.shape[1:]), generator=torch.Generator().manual_seed(count)) * 2 - 1
        expected = _run(module, images)
        found = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        for one, other in zip(found, expected, strict=True):
            apart = float(np.abs(one - other).max()) if one.shape == other.shape and one.size else np.inf
            if not apart <= _TOLERANCE * max(1.0, float(np.abs(other).max())):
                return f"on {count} image(s) the ONNX form differs by {apart:.3g}"
    return ""
