from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ufpr_folder import PEOPLE, eye_name, list_lines, pair_lines, ufpr_folder

from veriquant.data.ufpr import PROTOCOLS, Eye, is_left, list_file, pair_files, read_list, read_pairs, subject
from veriquant.errors import VeriQuantError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return ufpr_folder(tmp_path / "ufpr", images=False)


@pytest.mark.parametrize(
    ("name", "person", "left"),
    [
        ("0001S1I01L.jpg", "0001", True),
        ("1122S3I05R.jpg", "1122", False),
        ("C0001S1I01L.jpg", "C0001", True),  # a number of another length is still one person's
        ("C0002S1I1R.JPG", "C0002", False),
        ("0007_aR.png", "0007", False),  # no session: the first four characters
    ],
)
def test_a_name_tells_person_and_eye(name: str, person: str, left: bool) -> None:
    assert (subject(name), is_left(name)) == (person, left)


@pytest.mark.parametrize("name", ["0001S1I01.jpg", "0001S1I01L.txt", "001L.jpg", "0001S1I01l.jpg", "a/0001S1I01L.jpg"])
def test_a_name_that_tells_neither_is_refused(name: str) -> None:
    for ask in (subject, is_left):
        with pytest.raises(VeriQuantError, match=r"expected a file name such as 0001S1I01L\.jpg"):
            ask(name)


@pytest.mark.parametrize("change", [str, lambda t: t.replace("\n", "\r\n"), lambda t: "\ufeff" + t, lambda t: t + "\n"])
def test_a_list(tmp_path: Path, change) -> None:
    path = tmp_path / "train_fold1.txt"
    path.write_bytes(change("0001S1I01R.jpg 2 31 1\n0001S1I01L.jpg 3 31 1\n0002S1I01R.jpg 4 -1 -1\n").encode())
    assert read_list(path) == [
        Eye("0001S1I01R.jpg", 2, "31", "1"),
        Eye("0001S1I01L.jpg", 3, "31", "1"),
        Eye("0002S1I01R.jpg", 4, "-1", "-1"),
    ]


GOOD = "0001S1I01R.jpg 2 -1 -1\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (GOOD + "0001S1I02R.jpg 2\n", "line 2: expected 'filename class age gender' .* found '0001S1I02R.jpg 2'"),
        (GOOD + "0001S1I02R.jpg two -1 -1\n", "line 2: expected 'filename class age gender' with a number for class"),
        ("0001S1I01R.jpg -2 -1 -1\n", "line 1: expected 'filename class age gender' with a number for class"),
        (GOOD + "0001S1I02.jpg 2 -1 -1\n", "line 2: expected a file name such as .* found '0001S1I02.jpg'"),
        (GOOD + GOOD, "line 2: expected each image once, and line 1 has it, found 0001S1I01R.jpg"),
        (
            GOOD + "0001S1I02R.jpg 7 -1 -1\n",
            "line 2: expected class 2, as line 1 has for the right eye of 0001, found 7",
        ),
        (GOOD + "0002S1I02R.jpg 2 -1 -1\n", "line 2: expected an eye of 0001, whose class 2 is in line 1"),
    ],
)
def test_a_list_that_is_wrong_names_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "test_fold2.txt"
    path.write_text(text)
    with pytest.raises(VeriQuantError, match=message) as caught:
        read_list(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pairs_with_both_eyes_as_one_identity(folder: Path) -> None:
    found = read_pairs(folder, "open_world", 1)
    assert [eye.name for eye in found.eyes] == [line.split()[0] for line in list_lines(range(1, PEOPLE + 1))]
    names = [eye.name for eye in found.eyes]
    told = [
        (names[probe], names[reference], genuine)
        for probe, reference, genuine in zip(found.probe, found.reference, found.genuine, strict=True)
    ]
    lines = [line.split() for file in pair_lines(range(1, PEOPLE + 1)).values() for line in file]
    kept = [(a, b, label == "1") for a, b, label in lines if not (label == "0" and subject(a) == subject(b))]
    assert told == kept
    assert found.dropped == len(lines) - len(kept) == PEOPLE
    assert found.genuine.dtype == np.bool_
    assert found.probe.dtype == found.reference.dtype == np.int64


@pytest.mark.parametrize("end", ["", "\n\n", "  \n", "\r\n"])
def test_how_a_pair_file_ends_does_not_matter(folder: Path, end: str) -> None:
    before = read_pairs(folder, "open_world", 1)
    for path in pair_files(folder, "open_world", 1):
        path.write_bytes(path.read_bytes().rstrip() + end.encode())
    after = read_pairs(folder, "open_world", 1)
    assert (after.probe.tolist(), after.genuine.tolist()) == (before.probe.tolist(), before.genuine.tolist())


R1, L1, R2 = eye_name(1, 1, "R"), eye_name(1, 1, "L"), eye_name(1, 2, "R")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "is empty"),
        ([f"{R1} {R2} 1", f"{R1} {R2}"], r"line 2: expected 'probe reference 0\|1', found"),
        ([f"{R1} {R2} 1", "", f"{R1} {R2} 1"], r"line 2: expected 'probe reference 0\|1', found ''"),
        ([f"{R1} {R2} 2"], r"line 1: expected 'probe reference 0\|1', found"),
        ([f"{R1} {R2} 1", f"{R1} {R1} 1"], f"line 2: expected two different images, found '{R1} {R1} 1'"),
        ([f"{R1} {eye_name(2, 1, 'R')} 1"], "line 1: expected label 0 for two people, found"),
        (
            [f"{R1} {L1} 0", f"{eye_name(101, 1, 'R')} {R1} 0"],
            "line 2: .* image that test_fold1.txt lists, found '0101",
        ),
        ([f"{R1} xR.jpg\x1c 0"], "line 1: expected"),
    ],
)
def test_a_pair_file_that_is_wrong_names_file_and_line(folder: Path, lines: list[str], message: str) -> None:
    path = pair_files(folder, "open_world", 1)[-1]
    path.write_text("\n".join(lines))
    with pytest.raises(VeriQuantError, match=message) as caught:
        read_pairs(folder, "open_world", 1)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(
        VeriQuantError, match="unknown UFPR protocol 'open'; there are: closed_world, open_world, open_w"
    ):
        list_file(folder, "open", 1, "test")
    with pytest.raises(VeriQuantError, match="unknown UFPR fold 4; there are: 1, 2, 3"):
        list_file(folder, "open_world", 4, "test")
    with pytest.raises(VeriQuantError, match="closed_world does not exist"):
        read_pairs(folder, "closed_world", 1)
    with pytest.raises(VeriQuantError, match=r"cannot read .*test_fold2.txt"):
        read_pairs(folder, "open_world", 2)
    for path in pair_files(folder, "open_world", 1):
        path.unlink()
    with pytest.raises(VeriQuantError, match=r"fold1: expected pair files, \*.txt"):
        read_pairs(folder, "open_world", 1)


def test_the_protocols_are_the_folders_of_the_data_set() -> None:
    assert list(PROTOCOLS) == ["closed_world", "open_world", "open_world_valopen"]
