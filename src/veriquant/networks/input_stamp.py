"""The input specification that an ONNX file carries in its metadata, so that it can be used without its recipe."""

from __future__ import annotations

import json

import onnx
from pydantic import ValidationError

from veriquant.errors import VeriQuantError
from veriquant.frontends.spec import InputSpec

STAMP = "veriquant.input"
"""The metadata key under which a model carries its `InputSpec` as JSON."""

_STAMPED = "the file's own metadata: "


def stamp_input(model: onnx.ModelProto, spec: InputSpec) -> None:
    """Write `spec` into the metadata of `model`, in place of one that is there."""
    kept = [entry for entry in model.metadata_props if entry.key != STAMP]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key=STAMP, value=json.dumps(spec.model_dump(mode="json"), sort_keys=True))


def stamped(content: bytes, spec: InputSpec) -> bytes:
    """Return a serialised model with `spec` in its metadata, so that it can be used without its recipe."""
    model = onnx.load_model_from_string(content)
    stamp_input(model, spec)
    written: bytes = model.SerializeToString()
    return written


def read_stamp(model: onnx.ModelProto, source: str) -> InputSpec | None:
    """Return the `InputSpec` in the metadata of `model`, None where there is none."""
    text = next((entry.value for entry in model.metadata_props if entry.key == STAMP), None)
    if text is None:
        return None
    try:
        spec = InputSpec.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise VeriQuantError(
            f"{source}: its metadata {STAMP!r} is no input specification ({where}: {problem['msg']}); "
            "say what the network takes, or remove that entry"
        ) from error
    origin = spec.origin.removeprefix(_STAMPED)
    return spec.model_copy(update={"origin": _STAMPED + origin})
