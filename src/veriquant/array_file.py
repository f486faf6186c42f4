"""NumPy's files of arrays, read within bounds: what a header claims is compared with what is there."""

from __future__ import annotations

import io
import math
import os
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_KINDS = "biufU"


def read_npy(content: bytes) -> npt.NDArray[Any]:
    """Return the array in the content of an ``.npy`` file, of numbers or text; raise ValueError for anything else."""
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        if version not in _HEADERS:
            raise ValueError(f"an array of version {version}")
        shape, fortran, dtype = _HEADERS[version](stream)
    except Exception as error:  # headers are read by Python's own parser, which raises whatever it met
        raise ValueError(f"no array, or a header that cannot be read ({type(error).__name__})") from error
    if dtype.kind not in _KINDS or dtype.hasobject:
        raise ValueError(f"an array of type {dtype}")
    body = content[stream.tell() :]
    if any(length < 0 for length in shape) or math.prod(shape) * dtype.itemsize != len(body):
        raise ValueError(f"{len(body)} bytes for an array of shape {shape}")
    return np.frombuffer(body, dtype).reshape(shape, order="F" if fortran else "C").copy()


def read_npz(path: str | os.PathLike[str]) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of an ``.npz`` file that `numpy.savez` wrote, by name; raise ValueError for any other file.

    Nothing is decompressed: `savez` stores arrays as they are.
    """
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            size = os.fstat(file.fileno()).st_size
            found = {}
            for info in archive.infolist():
                if info.compress_type != zipfile.ZIP_STORED or not 0 <= info.file_size == info.compress_size <= size:
                    raise ValueError(f"a part that is no stored array: {info.filename[:60]!r}")
                found[info.filename.removesuffix(".npy")] = read_npy(archive.read(info))
            return found
    except Exception as error:  # zipfile raises almost anything on damaged archives
        raise ValueError(f"not a whole .npz file ({type(error).__name__}: {str(error)[:120]})") from error
