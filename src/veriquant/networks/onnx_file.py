"""ONNX files as they are: what they take, what they give, and proof that they run.

What a file does with one image and with two is found out by running it. Inside VeriQuant a network takes float32 images
(n, …) and gives float32 embeddings (n, d), a row for each; a file whose ends are other gets these (`plain_ends`), and
one that cannot keep two images apart states that it takes one.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from veriquant.errors import VeriQuantError
from veriquant.frontends.spec import InputSpec
from veriquant.networks.input_detection import detected_input
from veriquant.networks.input_stamp import read_stamp
from veriquant.networks.network import Network, network_digest
from veriquant.networks.onnx_bytes import parse_onnx, read_onnx
from veriquant.networks.onnx_ends import ImageInput, embedding_output, image_input
from veriquant.networks.onnx_sizes import sizes_are_known
from veriquant.networks.onnx_structure import check_structure
from veriquant.networks.plain_ends import (
    PLAIN,
    Ends,
    is_plain,
    one_at_a_time,
    plain_input,
    plain_output,
    rows_of_output,
)
from veriquant.networks.repairs import repaired
from veriquant.networks.trial import SAY_WHAT_IT_TAKES, Images, Trial, does_not_run, pictures
from veriquant.onnx_trial import tried
from veriquant.onnxgraph.floats import other_floats
from veriquant.onnxgraph.quantized import quantized_operator

#: How far an embedding may lie from that of the same image alone, relative to its length: sums in another order; and
#: where numbers are rounded to few bits on the way, codes that differ for it.
_SAME, _SAME_ROUNDED = 1e-3, 5e-2

#: Bytes of a batch of pictures that a network may be bound to.
_LARGEST_BATCH = 512 << 20

Rows = npt.NDArray[Any]


def load_onnx(path: str | Path, spec: InputSpec | None = None, output: str | None = None) -> Network:
    """Read an ONNX file, find out what it takes unless `spec` says so, and run it on one image and on two.

    A network has one input, images of three colours or of grey in any numeric type, and an output with a row for each
    image: `output` names it where there are several and it cannot be told which is the embedding. Weights that lie in
    files beside are taken into the network; a model whose ends are plain stays byte for byte as it is.
    """
    path = Path(path)
    model, content = read_onnx(path)
    return network_of_onnx(content, spec, name=path.stem, source=str(path), path=path, model=model, output=output)


def network_of_onnx(
    content: bytes,
    spec: InputSpec | None = None,
    *,
    name: str,
    source: str,
    path: Path | None = None,
    model: onnx.ModelProto | None = None,
    output: str | None = None,
) -> Network:
    """Make a `Network` of a serialised model; `model` spares parsing it again. `source` stands in front of errors."""
    if model is None:
        model = parse_onnx(content, source)
    check_structure(model, source)
    image = image_input(model, source)
    if spec is None:
        spec = read_stamp(model, source) or detected_input(model, image)
    elif not spec.origin:
        spec = spec.model_copy(update={"origin": "given by the user"})
    image.accept(spec, source)
    found = _Found(model, image, spec, source)
    _run(found, content)
    _choose_output(found, output)
    _tell_images_apart(found)
    onnx_bytes = content if found.model is model else found.model.SerializeToString(deterministic=True)
    return Network(
        name=name,
        source=source,
        spec=spec,
        onnx=onnx_bytes,
        dim=found.dim,
        digest=network_digest(onnx_bytes, spec),
        path=path,
        notes=tuple(found.notes),
        ends=found.ends,
    )


def with_plain_ends(content: bytes, spec: InputSpec) -> bytes:
    """Return a serialised model that takes float32 batches and gives float32 (n, d); itself where it does."""
    model = onnx.ModelProto()
    with contextlib.suppress(Exception):  # what cannot be read, a runtime complains of in its own words
        model.ParseFromString(content)
    if not model.graph.output or is_plain(model):
        return content
    return network_of_onnx(content, spec, name="network", source="the network", model=model).onnx


@dataclass
class _Found:
    """What is known of a file so far; `model` is what has been made of it."""

    model: onnx.ModelProto
    image: ImageInput
    spec: InputSpec
    source: str
    notes: list[str] = field(default_factory=list)
    trial: Trial = field(init=False)
    outputs: dict[str, Any] = field(init=False)
    """What each output gave for the first batch: as many pictures as the file fixes, or one."""
    dim: int = 0
    ends: Ends = PLAIN

    @property
    def count(self) -> int:
        """The number of images in the first batch."""
        return self.image.batch or 1

    def become(self, model: onnx.ModelProto) -> None:
        """Go on with another form of the model."""
        self.model = model
        self.trial = Trial(model.SerializeToString(), self.image.name)


def _run(found: _Found, content: bytes) -> None:
    """Run the model on its first batch; where it does not run, repair what can be, and run that."""
    spec, given = found.spec, found.model
    if 4 * found.count * spec.channels * spec.size[0] * spec.size[1] > _LARGEST_BATCH:
        raise VeriQuantError(
            f"{found.source}: takes batches of {found.count} images of {spec.size[0]}×{spec.size[1]}, which are more "
            f"than {_LARGEST_BATCH >> 20} MB; export it with a batch axis that is open"
        )
    batch = pictures(spec, found.count)
    try:
        _first_run(found, given, content, batch)
    except Exception as error:  # ONNX Runtime raises a type of its own for each kind of failure
        mended, notes = repaired(given)
        if not notes:
            raise _complaint(found, given, batch, error) from error
        try:
            _first_run(found, mended, None, batch)
        except Exception as still:
            raise _complaint(found, given, batch, still) from still
        found.notes += notes


def _first_run(found: _Found, model: onnx.ModelProto, content: bytes | None, batch: Images) -> None:
    """Run a model on a batch, in a process of its own first where nobody can know what that takes.

    `content`: the model serialised, where it is at hand.
    """
    plain = plain_input(model, found.image)
    if content is None or plain is not model:
        content = plain.SerializeToString()
    if not sizes_are_known(plain, found.image.name, batch.shape, found.source):
        tried(content, found.image.name, batch, found.source)
    found.trial = Trial(content, found.image.name)
    found.outputs = found.trial.outputs(batch)
    found.model = plain


def _complaint(found: _Found, given: onnx.ModelProto, batch: Images, error: Exception) -> VeriQuantError:
    assumed = None in found.image.size
    if not isinstance(error, VeriQuantError):
        return does_not_run(given, batch, found.source, error, assumed=assumed)
    return VeriQuantError(f"{error}; {SAY_WHAT_IT_TAKES}") if assumed else error


def _choose_output(found: _Found, wanted: str | None) -> None:
    """Leave the one output that is the embedding, as float32 (n, dim)."""
    name = embedding_output(found.outputs, found.count, found.source, wanted)
    value = found.outputs[name]
    if not np.isfinite(value).all():
        raise VeriQuantError(f"{found.source}: gives NaN or infinity for a plain picture; its weights are damaged")
    found.dim = value.size // found.count
    kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    if aside := [repr(each) for each in found.outputs if each != name]:
        more = ", …" if len(aside) > 5 else ""
        found.notes.append(f"output {name!r} is taken for the embedding; left aside: {', '.join(aside[:5])}{more}")
    plain = plain_output(found.model, name, value.shape, found.dim, kind)
    if plain is not found.model:
        found.become(plain)
    image = found.image
    found.ends = Ends(
        input_kind=image.kind,
        output_kind=kind,
        pixels=None if image.batched else tuple(int(length or 0) for length in image.axes),
        row=value.shape[1:] if value.ndim > 2 and value.shape[0] == found.count else None,
    )


def _tell_images_apart(found: _Found) -> None:
    """Make sure that a batch has a row for each image, and that it is the image's own."""
    if found.image.batch is None:
        _open_batch(found)
    elif found.count > 1:
        _fixed_batch(found)


def _open_batch(found: _Found) -> None:
    two = pictures(found.spec, 2)
    alone = [found.trial.rows(two[i : i + 1]) for i in (0, 1)]
    if any(row is None or row.shape != (1, found.dim) for row in alone):
        shapes = [None if row is None else row.shape for row in alone]
        raise VeriQuantError(
            f"{found.source}: gives {shapes[0]} for one picture and {shapes[1]} for another, expected (1, {found.dim}) "
            "for both; what it gives must not depend on what it is shown: export it again"
        )
    expected = np.concatenate([row for row in alone if row is not None])
    if _alike(found, found.trial.rows(two), expected):
        return
    given = found.model
    found.become(rows_of_output(given, found.dim))
    if _alike(found, found.trial.rows(two), expected):
        found.notes.append(f"all images of a batch in one row: laid out as (n, {found.dim})")
        return
    found.become(one_at_a_time(given, found.image.name))
    found.notes.append(
        "its batch axis is open, but its embeddings are right for one image at a time alone (the number 1 is written "
        "inside): it is run image by image"
    )


def _fixed_batch(found: _Found) -> None:
    """Check that the rows of a full batch move with its images, and that one is the same among others."""
    batch = pictures(found.spec, found.count)
    rows = found.trial.rows(batch)
    if (
        rows is None
        or rows.shape != (found.count, found.dim)
        or not _alike(found, found.trial.rows(np.roll(batch, 1, axis=0)), np.roll(rows, 1, axis=0))
        or not _alike(
            found, found.trial.rows(np.repeat(batch[:1], found.count, axis=0)), np.repeat(rows[:1], found.count, axis=0)
        )
    ):
        raise VeriQuantError(
            f"{found.source}: takes {found.count} images at once, and an image's embedding depends on the others "
            "beside it; export it with a batch of 1"
        )


def _alike(found: _Found, rows: Rows | None, expected: Rows) -> bool:
    """Tell whether embeddings are the expected ones, image by image, as far as these are numbers."""
    if rows is None or rows.shape != expected.shape:
        return False
    rounded = other_floats(found.model) or quantized_operator(found.model) is not None
    tolerance = _SAME_ROUNDED if rounded else _SAME
    with np.errstate(all="ignore"):
        apart = np.linalg.norm(rows.astype(np.float64) - expected, axis=1)
        far = apart > tolerance * np.linalg.norm(expected.astype(np.float64), axis=1) + 1e-30
    return not bool(far.any())
