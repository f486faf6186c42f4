"""ONNX files as they are: what they take, what they give, and proof that they run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnxruntime

from veriquant.errors import VeriQuantError
from veriquant.frontends.spec import InputSpec
from veriquant.networks.input_detection import detected_input
from veriquant.networks.input_stamp import read_stamp
from veriquant.networks.network import Network, network_digest
from veriquant.networks.onnx_bytes import first_line, parse_onnx, read_onnx
from veriquant.networks.onnx_ends import ImageInput, image_input, require_one_output
from veriquant.networks.onnx_sizes import sizes_are_known
from veriquant.networks.onnx_structure import check_structure
from veriquant.onnx_trial import Batch, tried

#: Bytes of a batch of pictures that a network may be bound to.
_LARGEST_BATCH = 512 << 20


def load_onnx(path: str | Path, spec: InputSpec | None = None) -> Network:
    """Read an ONNX file, find out what it takes unless `spec` says so, and run it once.

    A network has one input, float32 images (n, 3, h, w) or (n, h, w, 3), and one output (n, d). Weights that lie in
    files beside are taken into the network; a model without such files stays byte for byte as it is.
    """
    path = Path(path)
    model, content = read_onnx(path)
    return network_of_onnx(content, spec, name=path.stem, source=str(path), path=path, model=model)


def network_of_onnx(
    content: bytes,
    spec: InputSpec | None = None,
    *,
    name: str,
    source: str,
    path: Path | None = None,
    model: onnx.ModelProto | None = None,
) -> Network:
    """Make a `Network` of a serialised model; `model` spares parsing it again. `source` stands in front of errors."""
    if model is None:
        model = parse_onnx(content, source)
    check_structure(model, source)
    image = image_input(model, source)
    require_one_output(model, source)
    if spec is None:
        spec = read_stamp(model, source) or detected_input(model, image)
    elif not spec.origin:
        spec = spec.model_copy(update={"origin": "given by the user"})
    image.accept(spec, source)
    dim = _run_once(content, model, image, spec, source)
    digest = network_digest(content, spec)
    return Network(name=name, source=source, spec=spec, onnx=content, dim=dim, digest=digest, path=path)


def _run_once(content: bytes, model: onnx.ModelProto, image: ImageInput, spec: InputSpec, source: str) -> int:
    """Run the model on one picture (a grey ramp) and return the length of its embedding."""
    height, width = spec.size
    ramp = np.broadcast_to(np.linspace(0, 255, height * width).reshape(height, width, 1), (height, width, 3))
    pixels = (ramp - np.array(spec.mean)) / np.array(spec.std)
    if spec.layout == "NCHW":
        pixels = pixels.transpose(2, 0, 1)
    images = image.axes[0] or 1
    if images * pixels.size * 4 > _LARGEST_BATCH:
        raise VeriQuantError(
            f"{source}: takes batches of {images} images of {height}×{width}, which are more than "
            f"{_LARGEST_BATCH >> 20} MB; export it with a batch axis that is open"
        )
    batch = np.repeat(pixels[None].astype(np.float32), images, axis=0)
    if sizes_are_known(model, image.name, batch.shape, source):
        result = _output(content, model, image.name, batch, source)
    else:
        result = tried(content, image.name, batch, source)
    output = model.graph.output[0].name
    if not isinstance(result, np.ndarray) or not np.issubdtype(result.dtype, np.floating):
        kind = result.dtype if isinstance(result, np.ndarray) else type(result).__name__
        raise VeriQuantError(f"{source}: output {output!r} is {kind}, expected embeddings of floating-point numbers")
    if result.ndim != 2 or result.shape[0] != len(batch) or result.shape[1] < 2:
        raise VeriQuantError(
            f"{source}: output {output!r} has shape {result.shape} for {len(batch)} image(s), expected embeddings "
            "(n, d); cut the network at the layer that gives them, flattened"
        )
    if not np.isfinite(result).all():
        raise VeriQuantError(f"{source}: gives NaN or infinity for a plain picture; its weights are damaged")
    return int(result.shape[1])


def _output(content: bytes, model: onnx.ModelProto, name: str, batch: Batch, source: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1  # one picture is not worth a pool of threads
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return session.run(None, {name: batch})[0]
    except Exception as error:  # ONNX Runtime raises a type of its own for each kind of failure
        reason = _checker_complaint(model) or first_line(error)
        raise VeriQuantError(
            f"{source}: does not run in ONNX Runtime on a batch of shape {batch.shape} ({reason}); export it again"
        ) from error


def _checker_complaint(model: onnx.ModelProto) -> str | None:
    """Return what ONNX's own checker says against a model that does not run, None where it finds nothing.

    It is not asked about models that run: it refuses some old files that every runtime takes.
    """
    try:
        onnx.checker.check_model(model)
    except Exception as error:
        return first_line(error)
    return None
