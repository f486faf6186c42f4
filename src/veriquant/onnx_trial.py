"""A first run of a network nobody can tell the needs of, in a process of its own with little time and memory.

The child reads a model and a batch from its standard input and writes the embeddings, or one line of complaint, to its
standard output. It imports NumPy and ONNX Runtime alone.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from veriquant.errors import VeriQuantError

Batch = npt.NDArray[np.float32]

#: Seconds of a processor, and of waiting for one where others are at work.
_SECONDS, _PATIENCE = 10, 180
#: Bytes beside those of the model, and how often the model's: parsed, packed for the kernels, folded.
_ROOM, _COPIES = 3 << 30, 8
_CALL = "import sys; from veriquant.onnx_trial import _child; _child(*map(int, sys.argv[1:]))"


def tried(content: bytes, name: str, batch: Batch, source: str) -> npt.NDArray[Any]:
    """Return the first output of a serialised model for a batch of its input `name`, computed in another process.

    Raises `VeriQuantError` where it takes more than 10 seconds or some gigabytes for that, and where it does not run.
    """
    stream = io.BytesIO()
    np.save(stream, batch, allow_pickle=False)
    head = json.dumps({"input": name, "batch": len(stream.getvalue())}).encode() + b"\n"
    seconds = _SECONDS + len(content) // (50 << 20)
    room = _ROOM + _COPIES * (len(content) + batch.nbytes)
    command = [sys.executable, "-c", _CALL, str(seconds), str(room), str(len(head))]
    try:
        done = subprocess.run(
            command, input=head + stream.getvalue() + content, capture_output=True, timeout=_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise VeriQuantError(_too_much(source, f"no embedding after {_PATIENCE} s")) from error
    if done.returncode == 0:
        output: npt.NDArray[Any] = np.load(io.BytesIO(done.stdout), allow_pickle=False)
        return output
    if done.returncode == 3:
        reason = done.stdout.decode("utf-8", "replace").strip()[:200]
        raise VeriQuantError(f"{source}: does not run in ONNX Runtime on a batch of shape {batch.shape} ({reason})")
    if done.returncode == 1 and b"MemoryError" not in done.stderr:
        raise RuntimeError(f"the trial of {source} failed: {done.stderr.decode('utf-8', 'replace')[-2000:]}")
    raise VeriQuantError(
        _too_much(source, f"its process ended ({done.returncode}) within {seconds} s and {room / (1 << 30):.1f} GiB")
    )


def _too_much(source: str, what: str) -> str:
    return (
        f"{source}: a first picture takes more time or memory than any network for pictures needs ({what}): it is "
        "damaged or made to do harm"
    )


def _child(seconds: int, room: int, head: int) -> None:
    """Run what stands on standard input; end with 0 and the output, 3 and a reason, or by the limits' own hand."""
    try:
        import resource
    except ImportError:  # no such limits on this system: the parent's patience is the only one
        pass
    else:
        for kind, limit in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_DATA, room), (resource.RLIMIT_CORE, 0)):
            hard = resource.getrlimit(kind)[1]
            resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    given = sys.stdin.buffer.read()
    told = json.loads(given[:head])
    batch = np.load(io.BytesIO(given[head : head + told["batch"]]), allow_pickle=False)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            given[head + told["batch"] :], options, providers=["CPUExecutionProvider"]
        )
        output = session.run(None, {told["input"]: batch})[0]
        stream = io.BytesIO()
        np.save(stream, np.asarray(output), allow_pickle=False)
    except Exception as error:  # ONNX Runtime raises a type of its own for each kind of failure
        lines = str(error).strip().splitlines() or [type(error).__name__]
        sys.stdout.buffer.write(lines[0][:200].encode())
        sys.stdout.flush()
        sys.exit(3)
    sys.stdout.buffer.write(stream.getvalue())
