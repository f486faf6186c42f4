import codecs
import collections
import contextlib
import copyreg
import os
import pickle
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from veriquant.data.insightface_bin import read_bin
from veriquant.errors import VeriQuantError

IMAGES = [b"\xff\xd8\xff" + bytes([number]) * (number + 1) for number in range(6)]
SAME = [True, False, True]


def arrays(column: bool = False) -> list[np.ndarray]:
    found = [np.frombuffer(image, np.uint8) for image in IMAGES]
    return [array[:, None] for array in found] if column else found


def python_2(as_arrays: bool) -> bytes:
    """Write protocol 2 as Python 2 does: byte strings as STRING, numpy's array with its content as one."""

    def string(content: bytes) -> bytes:
        return b"U" + bytes([len(content)]) + content

    def array(content: bytes) -> bytes:
        return (
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
            b"(K\x01K" + bytes([len(content)]) + b"K\x01\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
            b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + string(content) + b"tb"
        )

    bins = b"".join((array if as_arrays else string)(image) + b"a" for image in IMAGES)
    same = b"".join(b"\x88a" if value else b"\x89a" for value in SAME)
    return b"\x80\x02]" + bins + b"]" + same + b"\x86."


def python_2_text() -> bytes:
    """Write protocol 0 as Python 2 does."""
    bins = b"".join(b"S" + repr(image)[1:].encode() + b"\na" for image in IMAGES)
    same = b"".join(b"I01\na" if value else b"I00\na" for value in SAME)
    return b"((lp0\n" + bins + b"(lp1\n" + same + b"tp2\n."


LAYOUTS = {
    f"{name}, protocol {protocol}": pickle.dumps(content, protocol)
    for protocol in range(6)
    for name, content in {
        "bytes": (IMAGES, SAME),
        "lists": [IMAGES, SAME],
        "bytearrays": ([bytearray(image) for image in IMAGES], SAME),
        "arrays": (arrays(), SAME),
        "columns": (arrays(column=True), SAME),
        "numpy truths": (tuple(IMAGES), list(np.array(SAME))),
        "array of truths": (IMAGES, np.array(SAME)),
        "numbers": (IMAGES, [1, 0, 1]),
        "copies": ([np.array(array) for array in arrays()], SAME),
    }.items()
} | {
    "Python 2": python_2(False),
    "Python 2, arrays": python_2(True),
    "Python 2, protocol 0": python_2_text(),
    "older numpy": pickle.dumps((arrays(), SAME), 2).replace(b"numpy._core", b"numpy.core"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_reads_the_same(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "lfw.bin"
    path.write_bytes(LAYOUTS[layout])
    found = read_bin(path)
    assert found.images == tuple(IMAGES)
    assert all(type(image) is bytes for image in found.images)
    assert found.genuine.dtype == np.bool_
    assert found.genuine.tolist() == SAME


@pytest.mark.parametrize(
    "layout", ["bytes, protocol 2", "arrays, protocol 4", "Python 2, arrays", "Python 2, protocol 0"]
)
def test_truncated_anywhere(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "lfw.bin"
    content = LAYOUTS[layout]
    for size in range(0, len(content), 7):
        path.write_bytes(content[:size])
        with pytest.raises(VeriQuantError, match=rf"lfw\.bin \({size} bytes\) is truncated or not an InsightFace"):
            read_bin(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ((IMAGES, [*SAME, True]), "expected two images for every entry of issame, found 6 images and 4 entries"),
        ((IMAGES[:5], SAME), "found 5 images and 3 entries"),
        (([], []), "found 0 images and 0 entries"),
        ((IMAGES, SAME, 1), r"expected a pickled pair \(bins, issame\), found a tuple"),
        (7, r"expected a pickled pair \(bins, issame\), found a int"),
        ((IMAGES, 7), "expected two lists, bins and issame, found list and int"),
        ((IMAGES, [1, 0, 2]), r"issame\[2\]: expected true or false, found a int"),
        ((IMAGES, [True, None, False]), r"issame\[1\]: expected true or false, found a nonetype"),
        (([*IMAGES[:5], b""], SAME), r"bins\[5\]: expected an encoded image, found empty bytes"),
        (([*IMAGES[:5], 3], SAME), r"bins\[5\]: expected an encoded image, found a int"),
        (([*IMAGES[:5], np.zeros((4, 4), np.uint8)], SAME), r"bins\[5\]: .*found an array of shape \(4, 4\)"),
        (([*IMAGES[:5], np.zeros(4, np.float32)], SAME), "is refused: it holds an array of type 'f4'"),
        (([*IMAGES[:5], np.zeros(4, np.bool_)], SAME), r"bins\[5\]: expected an encoded image, found a array"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_what_does_not_match_is_named(tmp_path: Path, content: object, message: str, protocol: int) -> None:
    path = tmp_path / "lfw.bin"
    path.write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(VeriQuantError, match=message):
        read_bin(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(VeriQuantError, match=r"cannot read .*gone\.bin: No such file"):
        read_bin(tmp_path / "gone.bin")


class Calls:
    """Unpickles by calling a function."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[object, ...]:
        return self.call


class Stated:
    """Unpickles by calling a function for its state."""

    def __init__(self, state: object) -> None:
        self.state = state

    def __reduce__(self) -> tuple[object, ...]:
        return (collections.OrderedDict, (), self.state)


def hostile(sentinel: Path) -> dict[str, bytes]:
    """Return files each of which, given to `pickle.loads`, creates `sentinel`."""
    touch = f"touch {sentinel}"
    write = f"open({str(sentinel)!r}, 'w').close()"
    objects = np.empty(6, dtype=object)
    objects[:] = [*IMAGES[:5], Calls(os.system, touch)]
    found = {
        f"{name}, protocol {protocol}": pickle.dumps(content, protocol)
        for protocol in range(6)
        for name, content in {
            "os.system": Calls(os.system, touch),
            "eval": Calls(eval, write),
            "exec": Calls(exec, write),
            "os.popen": Calls(os.popen, touch),
            "in bins": ([*IMAGES[:5], Calls(os.system, touch)], SAME),
            "in issame": (IMAGES, [True, False, Calls(exec, write)]),
            "beside": (IMAGES, SAME, Calls(exec, write)),
            "in a shape": ([*IMAGES[:5], Calls(np.zeros, Calls(os.system, touch))], SAME),
            "object array": (objects, SAME),
            "object arrays in bins": ([*arrays()[:5], objects], SAME),
            "in a state": ([*IMAGES[:5], Stated({"x": Calls(exec, write)})], SAME),
            "as a key": ([*IMAGES[:5], {Calls(os.system, touch): 1}], SAME),
            "numpy's own": Calls(np.load, Calls(exec, write)),
            "codecs": (Calls(codecs.encode, Calls(exec, write)), SAME),
        }.items()
    }
    line = touch.encode()
    short = bytes([len(line)]) + line
    return found | {
        "INST": b"(V" + line + b"\nios\nsystem\n.",
        "OBJ": b"(cos\nsystem\nV" + line + b"\no.",
        "Python 2's name": b"c__builtin__\neval\n(V" + write.encode() + b"\ntR.",
        "getattr": b"cbuiltins\ngetattr\n(cos\n__dict__\nVget\ntR(Vsystem\ntR(V" + line + b"\ntR.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c" + short + b"\x85R.",
        "dotted name": b"\x80\x04\x8c\x06shutil\x8c\x09os.system\x93\x8c" + short + b"\x85R.",
    }


def test_a_hostile_file_executes_nothing(tmp_path: Path) -> None:
    sentinel = tmp_path / "executed"
    path = tmp_path / "hostile.bin"
    for name, content in hostile(sentinel).items():
        path.write_bytes(content)
        with pytest.raises(VeriQuantError, match=r"hostile\.bin"):
            read_bin(path)
        assert not sentinel.exists(), name
        with contextlib.suppress(Exception):  # the file is live: pickle itself does execute it
            pickle.loads(content, encoding="bytes")
        deadline = time.monotonic() + 5
        while not sentinel.exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        assert sentinel.exists(), f"{name} is no threat, so it proves nothing"
        sentinel.unlink()


def test_the_extension_registry_is_not_asked(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    sentinel = tmp_path / "executed"
    copyreg.add_extension("os", "system", 240)
    try:
        for opcode in (b"\x82\xf0", b"\x83\xf0\x00", b"\x84\xf0\x00\x00\x00"):
            content = b"\x80\x02" + opcode + b"U" + bytes([len(f"touch {sentinel}")]) + f"touch {sentinel}".encode()
            content += b"\x85R."
            path.write_bytes(content)
            with pytest.raises(VeriQuantError):
                read_bin(path)
            assert not sentinel.exists()
            pickle.loads(content.replace(b"U", b"\x8c", 1))
            assert sentinel.exists()
            sentinel.unlink()
    finally:
        copyreg.remove_extension("os", "system", 240)


NUMPY = b"cnumpy\nndarray\n"


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n.",  # a name alone
        b"c__main__\nx\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.",
        b"cnumpy\nload\n.",
        b"cbuiltins\nbytearray\n(K\x05I1000000000000\ntR.",
        b"cbuiltins\nbytearray\nI1000000000000\n\x85R.",
        b"cbuiltins\nbytes\nI1000000000000\n\x85R.",
        b"cnumpy.core.multiarray\n_reconstruct\n(" + NUMPY + b"(I1000000000\nI1000000000\ntS'O'\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(K\x00tS'b'\ntR.",
        NUMPY + b"I1000000000000\n\x85R.",  # numpy's class itself
        NUMPY + b"(dS'x'\nI1\nsb.",  # the state of a class
        NUMPY + b"(NNtb.",
        b"ccodecs\nencode\n.",
        b"c_codecs\nencode\n(X\x01\x00\x00\x00aS'rot13'\ntR.",
        b"c_codecs\nencode\n(X\x01\x00\x00\x00aS'zip'\ntR.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",  # a frame that is not there
        b"\x80\x05\x96\x00\x00\x00\x00\x00\x00\x00\x70.",  # a bytearray that is not there
        b"\x80\x04\x8e\x00\x00\x00\x00\x00\x00\x00\x70.",  # bytes that are not there
        b"\x80\x04N\x72\xff\xff\xff\x7f0.",  # a memo of two thousand million
        b"\x80\x02N\x72\xff\xff\xff\x7f.",
        b"I" + b"9" * 100_000 + b"\n.",
        b"P1\n.",
        b"\x80\x02csubprocess\nPopen\n(]V/bin/true\nat\x81.",
        b"\x80\x02" + NUMPY + b"K\x00\x85\x81.",
        b"NQ.",
        b"\x80\x05\x97.",
        b"(" * 100_000 + b".",
        b"]" * 100_000 + b"a" * 99_999 + b".",
    ],
)
def test_what_is_not_in_the_layout_is_refused_at_no_cost(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(content)
    start = time.monotonic()
    with pytest.raises(VeriQuantError, match=r"x\.bin"):
        read_bin(path)
    assert time.monotonic() - start < 2


def test_nested_references_do_not_unfold(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    twice = b"".join(b"h" + bytes([n]) + b"h" + bytes([n]) + b"\x86q" + bytes([n + 1]) for n in range(100))
    path.write_bytes(b"\x80\x02N\x85q\x00" + twice + b"\x85.")
    with pytest.raises(VeriQuantError, match="expected a pickled pair"):
        read_bin(path)
    shape = b"cnumpy.core.multiarray\n_reconstruct\n" + NUMPY + b"K\x00\x85U\x01b\x87R(K\x01hdNNNtb."
    path.write_bytes(b"\x80\x02N\x85q\x00" + twice + shape)
    with pytest.raises(VeriQuantError, match="an array of an impossible shape"):
        read_bin(path)


def test_decoding_may_not_unfold_beyond_the_size_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    text = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000 + b"q\x000"
    encode = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86Ra"
    path.write_bytes(b"\x80\x02" + text + b"]" + encode * 50 + b".")
    with pytest.raises(VeriQuantError, match="unfolds to more than its own size"):
        read_bin(path)


def test_one_object_referred_to_often_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    image = bytearray(b"x" * 1_000_000)
    path.write_bytes(pickle.dumps(([image] * 20_000, [True] * 10_000), 5))
    start = time.monotonic()
    found = read_bin(path)
    assert len({id(item) for item in found.images}) == 1
    assert time.monotonic() - start < 2


def test_twelve_thousand_images_read_quickly(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    images = [np.full(3000, number % 256, np.uint8) for number in range(12_000)]
    path.write_bytes(pickle.dumps((images, [True, False] * 3000), 4))
    start = time.monotonic()
    assert len(read_bin(path).images) == 12_000
    assert time.monotonic() - start < 5
