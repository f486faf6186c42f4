"""Running an ONNX model on pictures that are made for it, to find out what it does."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.checker
import onnxruntime

from veriquant.errors import VeriQuantError
from veriquant.frontends.spec import InputSpec
from veriquant.networks.onnx_bytes import first_line

Images = npt.NDArray[np.float32]

#: What to do where a file leaves the size of its images open.
SAY_WHAT_IT_TAKES = "say what it takes (--input '{size: [160, 160]}')"


class Trial:
    """A model in ONNX Runtime's CPU provider, on one thread. Raises what the runtime raises where it does not load."""

    def __init__(self, content: bytes, name: str) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1  # a picture or two are not worth a pool of threads
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._name = name

    def outputs(self, batch: Images) -> dict[str, Any]:
        """Return what every output gives for a batch, by name, in the model's order."""
        names = [each.name for each in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, {self._name: batch}), strict=True))

    def rows(self, batch: Images) -> npt.NDArray[Any] | None:
        """Return what the one output gives for a batch; None where it does not run on it."""
        try:
            found = next(iter(self.outputs(batch).values()))
        except Exception:  # ONNX Runtime raises a type of its own for each kind of failure
            return None
        return found if isinstance(found, np.ndarray) else None


def pictures(spec: InputSpec, count: int) -> Images:
    """Return `count` pictures, no two alike, standardised: a ramp first, then smooth patterns."""
    height, width = spec.size
    draw = np.random.default_rng(0)
    made = [np.broadcast_to(np.linspace(0, 255, height * width).reshape(height, width, 1), (height, width, 3))]
    for _ in range(count - 1):
        coarse = draw.integers(0, 256, (5, 5, 3)).astype(np.float64)
        rows, columns = (np.linspace(0, 4, side) for side in (height, width))
        made.append(_stretched(_stretched(coarse, rows).swapaxes(0, 1), columns).swapaxes(0, 1))
    pixels = np.round(np.stack(made))[..., : spec.channels]
    standardised = (pixels - np.array(spec.mean)) / np.array(spec.std)
    if spec.layout == "NCHW":
        standardised = standardised.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(standardised, dtype=np.float32)


def _stretched(values: npt.NDArray[np.float64], places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return rows between the rows of `values`, linearly."""
    below = np.minimum(places.astype(int), len(values) - 2)
    share = (places - below)[:, None, None]
    stretched: npt.NDArray[np.float64] = values[below] * (1 - share) + values[below + 1] * share
    return stretched


def does_not_run(
    model: onnx.ModelProto, batch: Images, source: str, error: Exception, *, assumed: bool
) -> VeriQuantError:
    """Return the error for a model that does not run, with what ONNX's own checker says against it.

    The checker is not asked about models that run: it refuses some old files that every runtime takes. `assumed`:
    whether the file leaves the size of images open.
    """
    reason = first_line(error)
    try:
        onnx.checker.check_model(model)
    except Exception as complaint:
        reason = first_line(complaint)
    advice = f"{SAY_WHAT_IT_TAKES}, or export it again" if assumed else "export it again"
    return VeriQuantError(
        f"{source}: does not run in ONNX Runtime on a batch of shape {batch.shape} ({reason}); {advice}"
    )
