from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from veriquant.array_file import read_npy, read_npz

ARRAYS = {
    "floats": np.arange(6, dtype=np.float32).reshape(2, 3),
    "columns first": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "nothing": np.zeros((0, 4)),
    "one number": np.array(3),
    "text": np.array("é" * 20),
    "truth": np.array([True, False]),
}


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_what_numpy_writes_is_read(tmp_path, array):
    assert np.array_equal(read_npy(npy(array)), array)
    np.savez(tmp_path / "a.npz", one=array, other=array)
    found = read_npz(tmp_path / "a.npz")
    assert list(found) == ["one", "other"]
    assert found["one"].dtype == array.dtype


WHOLE = npy(ARRAYS["floats"])
HOSTILE = {
    "empty": b"",
    "other": b"nothing of the kind" * 9,
    "cut": WHOLE[:-1],
    "longer": WHOLE + b"x",
    "claims": WHOLE.replace(b"(2, 3)", b"(2,3000000000)".ljust(6)),
    "negative": WHOLE.replace(b"(2, 3)", b"(-2,-3)".ljust(6)),
    "no header": WHOLE[:8],
    "header of another language": WHOLE.replace(b"{'descr'", b"[['descr'"),
    "nested": WHOLE[:10] + (b"[" * 110) + WHOLE[120:],
    "objects": WHOLE.replace(b"'<f4'", b"'|O8'"),
    "a later version": WHOLE[:6] + b"\x09\x00" + WHOLE[8:],
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_whatever_else_is_a_value_error(content):
    with pytest.raises(ValueError, match=r"\w"):
        read_npy(content)


def test_archives_that_numpy_did_not_write(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.zeros(10**6))
    with pytest.raises(ValueError, match="no stored array"):
        read_npz(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", WHOLE)
    whole = path.read_bytes()
    assert list(read_npz(path)) == ["a"]
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            found = read_npz(path)
        except ValueError:
            continue
        assert all(np.array_equal(each, ARRAYS["floats"]) for each in found.values())
    with pytest.raises(ValueError, match=r"\.npz"):
        read_npz(tmp_path / "none.npz")
