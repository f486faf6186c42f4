from __future__ import annotations

import pickle
import struct
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from veriquant.data.record_file import MAGIC, RecordFile, append, pack, unpack
from veriquant.data.record_io import open_pack, write_records
from veriquant.errors import VeriQuantError

MAGIC_BYTES = struct.pack("<I", MAGIC)
Write = Callable[..., Path]

chunks = st.one_of(st.binary(max_size=9), st.just(MAGIC_BYTES), st.just(MAGIC_BYTES * 2))
contents = st.lists(chunks, max_size=6).map(b"".join)


def image(index: int) -> bytes:
    return b"image %d " % index + MAGIC_BYTES * (index % 3) + bytes(index % 5)


def written(folder: Path, labels: Sequence[int] = (0, 0, 1, 2, 2, 2), **more: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_records(folder, image, labels, **more)
    return folder


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=st.lists(contents, min_size=1, max_size=5))
def test_records_come_back_as_written(tmp_path: Path, records: list[bytes]) -> None:
    path = tmp_path / "a.rec"
    with open(path, "wb") as out:
        offsets = [append(out, content) for content in records]
    file = RecordFile(path)
    assert [file.content(offset) for offset in offsets] == records
    assert file.scan().tolist() == offsets
    assert path.stat().st_size % 4 == 0
    # what makes a file of parts: no part holds the magic where a reader that looks for it would find it
    raw = path.read_bytes()
    starts = [at for at in range(0, len(raw), 4) if raw[at : at + 4] == MAGIC_BYTES]
    assert len(starts) == sum(
        1 + sum(content[at : at + 4] == MAGIC_BYTES for at in _cuts(content)) for content in records
    )


def _cuts(content: bytes) -> range:
    return range(0, len(content) - 3, 4)


def test_the_bytes_of_a_record_of_parts(tmp_path: Path) -> None:
    """The layout as the format's description gives it, written by hand."""
    path = tmp_path / "a.rec"
    parts = [(1, b"abcd"), (2, b""), (3, b"xyz\0")]
    path.write_bytes(
        b"".join(
            struct.pack("<II", MAGIC, flag << 29 | length) + body
            for (flag, body), length in zip(parts, (4, 0, 3), strict=True)
        )
    )
    content = b"abcd" + MAGIC_BYTES + MAGIC_BYTES + b"xyz"
    assert RecordFile(path).content(0) == content
    with open(tmp_path / "b.rec", "wb") as out:
        append(out, content)
    assert (tmp_path / "b.rec").read_bytes() == path.read_bytes()


@given(labels=st.lists(st.integers(0, 2**24), min_size=1, max_size=5), body=contents, key=st.integers(0, 2**64 - 1))
def test_labels_and_image_come_back(labels: list[int], body: bytes, key: int) -> None:
    assert unpack(pack(key, labels, body), "here") == (tuple(map(float, labels)), body)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=12), index=st.booleans(), shown=st.booleans())
def test_a_pack_comes_back_by_person(tmp_path: Path, labels: list[int], index: bool, shown: bool) -> None:
    written(tmp_path, labels)
    if not index:
        (tmp_path / "train.idx").unlink()
    if not shown:
        (tmp_path / "property").unlink()
        if max(labels) >= len(labels):
            with pytest.raises(VeriQuantError, match="no property file"):
                open_pack(tmp_path)
            return
    found = open_pack(tmp_path)
    order = np.argsort(labels, kind="stable").tolist()
    assert [found.read(i) for i in range(len(found))] == [image(i) for i in order]
    assert found.labels.tolist() == sorted(labels)
    assert found.classes == max(labels) + 1
    assert ("train.idx is missing" in found.note) is not index
    assert ("property is missing" in found.note) is not shown


def test_a_pack_goes_to_another_process(tmp_path: Path) -> None:
    found = open_pack(written(tmp_path))
    found.read(0)
    again = pickle.loads(pickle.dumps(found))
    assert [again.read(i) for i in range(6)] == [found.read(i) for i in range(6)]
    assert again.where(2) == f"{tmp_path}/train.rec, record 3 at byte {found.offsets[2]}"


def test_a_shuffled_pack_has_no_header_and_vectors_of_labels(tmp_path: Path) -> None:
    labels = [[2.0], [0.0, 7.0], [1.0, 7.0, 8.0]]
    with open(tmp_path / "train.rec", "wb") as out:
        offsets = [append(out, pack(key, values, image(key))) for key, values in enumerate(labels)]
    (tmp_path / "train.idx").write_text("".join(f"{key}\t{offset}\n" for key, offset in enumerate(offsets)))
    found = open_pack(tmp_path)
    assert found.labels.tolist() == [2, 0, 1]
    assert [found.read(i) for i in range(3)] == [image(i) for i in range(3)]


def rewrite(folder: Path, change: Callable[[int, tuple[float, ...], bytes], tuple[tuple[float, ...], bytes]]) -> None:
    """Write every record of a pack again as `change(key, labels, image)` has it."""
    file = RecordFile(folder / "train.rec")
    records = [unpack(file.content(int(offset)), "") for offset in file.scan()]
    with open(folder / "train.rec", "wb") as out:
        offsets = [append(out, pack(key, *change(key, *record))) for key, record in enumerate(records)]
    (folder / "train.idx").write_text("".join(f"{key}\t{offset}\n" for key, offset in enumerate(offsets)))


@pytest.mark.parametrize("label", [3.0, -1.0, 0.5, float("nan"), 1e9])
def test_labels_out_of_range(tmp_path: Path, label: float) -> None:
    written(tmp_path)
    rewrite(tmp_path, lambda key, labels, body: ((label,) if key == 3 else labels, body))
    with pytest.raises(
        VeriQuantError, match=r"train\.rec, record 3: expected a label from 0 to 2 \(property says 3 peo"
    ):
        open_pack(tmp_path)


def test_a_label_in_the_middle_of_a_person_is_found_on_reading(tmp_path: Path) -> None:
    written(tmp_path)
    rewrite(tmp_path, lambda key, labels, body: ((0.0,) if key == 5 else labels, body))
    found = open_pack(tmp_path)
    with pytest.raises(VeriQuantError, match=r"record 5 at byte \d+: expected label 2, that of its person's other"):
        found.read(4)


def test_people_that_leave_images_out_are_not_trusted(tmp_path: Path) -> None:
    written(tmp_path)
    rewrite(tmp_path, lambda key, labels, body: ((4.0, 6.0) if key == 9 else labels, body))
    assert open_pack(tmp_path).labels.tolist() == [0, 0, 1, 2, 2, 2]


@pytest.mark.parametrize("span", [(0.0, 3.0), (1.0, 9.0), (2.0, 1.0), (float("nan"), 2.0), (float("inf"), 2.0), (1.0,)])
def test_a_person_whose_images_cannot_be(tmp_path: Path, span: tuple[float, ...]) -> None:
    written(tmp_path)
    rewrite(tmp_path, lambda key, labels, body: (span if key == 7 else labels, body))
    with pytest.raises(VeriQuantError, match="record 7: expected the range of a person's images within 1 to 7, found"):
        open_pack(tmp_path)


@pytest.mark.parametrize("ends", [(0.0, 3.0), (8.0, 7.0), (1.5, 3.0), (float("nan"), 3.0)])
def test_a_header_that_cannot_be(tmp_path: Path, ends: tuple[float, float]) -> None:
    written(tmp_path)
    rewrite(tmp_path, lambda key, labels, body: (ends if key == 0 else labels, body))
    with pytest.raises(VeriQuantError, match=r"record 0: expected labels \[a, b\] with 1 < a <= b"):
        open_pack(tmp_path)


def test_a_truncated_file_says_where(tmp_path: Path) -> None:
    written(tmp_path)
    path = tmp_path / "train.rec"
    whole = path.read_bytes()
    offsets = RecordFile(path).scan()
    cut = int(offsets[4]) + 30
    path.write_bytes(whole[:cut])
    with pytest.raises(
        VeriQuantError, match=rf"train\.rec is truncated: train\.idx puts record 5 at byte .* {cut} bytes"
    ):
        open_pack(tmp_path)
    (tmp_path / "train.idx").unlink()
    with pytest.raises(
        VeriQuantError, match=rf"truncated: the record at byte {offsets[4]} needs \d+ bytes, .* after 30 "
    ):
        open_pack(tmp_path)
    with pytest.raises(VeriQuantError, match=rf"truncated: the record at byte {offsets[4]}"):
        RecordFile(path).content(int(offsets[4]))
    for length in range(1, len(whole) - 4):  # wherever it is cut, an error of ours, never a short read
        path.write_bytes(whole[:length])
        with pytest.raises(VeriQuantError):
            open_pack(tmp_path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 400), junk=st.binary(min_size=1, max_size=8), index=st.booleans())
def test_a_damaged_file_reads_or_says_so(tmp_path: Path, at: int, junk: bytes, index: bool) -> None:
    written(tmp_path)
    path = tmp_path / "train.rec"
    raw = bytearray(path.read_bytes())
    raw[at : at + len(junk)] = junk
    path.write_bytes(raw)
    if not index:
        (tmp_path / "train.idx").unlink()
    said = ""
    try:
        found = open_pack(tmp_path)
        for i in range(len(found)):
            found.read(i)
    except VeriQuantError as error:
        said = str(error)
    assert not said or str(path) in said
    assert "\n" not in said


def test_what_is_no_record(tmp_path: Path) -> None:
    written(tmp_path)
    path = tmp_path / "train.rec"
    offset = int(RecordFile(path).scan()[2])
    with pytest.raises(VeriQuantError, match=rf"expected a record \(magic 0xced7230a\) at byte {offset + 4}, found 0x"):
        RecordFile(path).content(offset + 4)
    with open(path, "wb") as out:
        append(out, b"abcd" + MAGIC_BYTES + b"efgh")
    with pytest.raises(VeriQuantError, match=r"expected the start of a record at byte 12, found a later part"):
        RecordFile(path).content(12)
    path.write_bytes(struct.pack("<II", MAGIC, 1 << 29) + struct.pack("<II", MAGIC, 0))
    with pytest.raises(VeriQuantError, match=r"expected the next part of a record at byte 8 .* found cflag 0"):
        RecordFile(path).content(0)
    path.write_bytes(struct.pack("<II", MAGIC, 4) + b"abcd")
    with pytest.raises(VeriQuantError, match="expected a header of 24 bytes"):
        RecordFile(path).labels(0)
    with pytest.raises(VeriQuantError, match=r"cannot read .*gone\.rec"):
        RecordFile(tmp_path / "gone.rec")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0\t0\n1\tx\n", "expected lines 'number<TAB>offset'"),
        ("0\n1\n", "expected lines 'number<TAB>offset', found 1 columns"),
        ("0\t0\n1\t99999999999999999999\n", "expected lines 'number<TAB>offset'"),
        ("0\t0\n0\t4\n", "record 0 is listed twice"),
        ("0\t0\n1\t99999\n", "puts record 1 at byte 99999"),
        ("0\t0\n1\t-8\n", "puts record 1 at byte -8"),
        ("0\t0\n", "record 0 promises the records 1 to 9; 0 are there"),
    ],
)
def test_an_index_of_another_file(tmp_path: Path, text: str, message: str) -> None:
    written(tmp_path)
    (tmp_path / "train.idx").write_text(text)
    with pytest.raises(VeriQuantError, match=message):
        open_pack(tmp_path)


def test_empty_files(tmp_path: Path) -> None:
    (tmp_path / "train.rec").write_bytes(b"")
    with pytest.raises(VeriQuantError, match="holds no records"):
        open_pack(tmp_path)
    (tmp_path / "train.idx").write_text("")
    with pytest.raises(VeriQuantError, match=r"train\.idx is empty"):
        open_pack(tmp_path)


def test_a_property_file_that_is_none(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "property").write_text("many,112,112\n")
    with pytest.raises(VeriQuantError, match=r"property, line 1: expected 'people,height,width', found 'many"):
        open_pack(tmp_path)


def test_labels_that_cannot_be_written(tmp_path: Path) -> None:
    for labels, classes in (([], None), ([-1, 0], None), ([0, 3], 3)):
        with pytest.raises(VeriQuantError, match="expected at least one image, with labels from 0"):
            write_records(tmp_path, image, labels, classes=classes)
    assert list(tmp_path.iterdir()) == []


def test_a_large_pack_takes_little_memory(tmp_path: Path) -> None:
    """Far less than the file, and no object an image: some 100 bytes each while the index is read, 24 after."""
    count, body = 6000, bytes(3000)
    write_records(tmp_path, lambda index: body, np.arange(count) // 20)
    tracemalloc.start()
    try:
        found = open_pack(tmp_path)
        found.read(count - 1)
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found) == count
    assert now < 60 * count
    assert peak < 250 * count + 400_000
    assert (tmp_path / "train.rec").stat().st_size > 10 * peak
