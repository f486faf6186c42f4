from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from veriquant.data.agedb import read_agedb
from veriquant.data.cfp import read_cfp
from veriquant.data.lfw_pairs import read_pairs
from veriquant.data.pair import Pair
from veriquant.data.two_line_pairs import read_two_line_pairs
from veriquant.errors import VeriQuantError

LFW = "2\t2\nAnn\t1\t2\nBob\t3\t12\nAnn\t1\tBob\t3\nBob\t1\tCy\t1\nCy\t1\t2\nDee\t1\t2\nCy\t2\tDee\t2\nAnn\t1\tCy\t1\n"


def written(tmp_path: Path, text: str | bytes, name: str = "pairs.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def key(name: str, number: int) -> str:
    return f"{name}/{name}_{number:04d}"


@pytest.mark.parametrize(
    "change", [lambda text: text, lambda text: text.replace("\t", " "), lambda text: text + "\n\n"]
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lfw_pairs(tmp_path: Path, change, end: str) -> None:
    pairs = read_pairs(written(tmp_path, change(LFW).replace("\n", end)))
    assert pairs == [
        Pair(key("Ann", 1), key("Ann", 2), True, 0),
        Pair(key("Bob", 3), key("Bob", 12), True, 0),
        Pair(key("Ann", 1), key("Bob", 3), False, 0),
        Pair(key("Bob", 1), key("Cy", 1), False, 0),
        Pair(key("Cy", 1), key("Cy", 2), True, 1),
        Pair(key("Dee", 1), key("Dee", 2), True, 1),
        Pair(key("Cy", 2), key("Dee", 2), False, 1),
        Pair(key("Ann", 1), key("Cy", 1), False, 1),
    ]


def test_lfw_development_list_has_no_folds(tmp_path: Path) -> None:
    pairs = read_pairs(written(tmp_path, "1\nAnn Lee\t1\t2\nAnn Lee\t1\tBob\t3\n"))
    assert pairs == [Pair(key("Ann Lee", 1), key("Ann Lee", 2), True), Pair(key("Ann Lee", 1), key("Bob", 3), False)]


def without(text: str, number: int) -> str:
    lines = text.splitlines(keepends=True)
    return "".join(lines[: number - 1] + lines[number:])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LFW.replace("2\t2\n", "ten\t300\n", 1), r"line 1: expected a header of two numbers.*found 'ten\\t300'"),
        (LFW.replace("2\t2\n", "0\t2\n", 1), "line 1: expected a header"),
        (
            without(LFW, 3),
            r"line 3: expected 3 columns, name n1 n2 \(genuine comparison 2 of 2 of set 1 of 2\), found 4",
        ),
        (without(LFW, 5), r"line 5: expected 4 columns.*impostor comparison 2 of 2 of set 1 of 2.*found 3: 'Cy"),
        (without(LFW, 9), r"line 9: expected impostor comparison 2 of 2 of set 2 of 2 \(the header promises 8 lines\)"),
        (LFW + "Ann\t1\t3\n", r"line 10: expected the end \(the header promises 8 lines\), found 'Ann"),
        (
            LFW.replace("Bob\t3\t12", "Bob\tthree\t12"),
            r"line 3: expected 3 columns.*found 'three' where a number belongs",
        ),
        (LFW.replace("Bob\t3\t12", "Bob\t-3\t12"), r"line 3: .*found '-3' where a number"),
        (LFW.replace("Bob\t3\t12", "Bob\t3\t12\t4\t5"), "line 3: expected 3 columns.*found 5"),
        ("", "is empty"),
        ("\n \n", "is empty"),
        (b"\xff\xfe\x00pairs", "is not a text file: byte 0 is not UTF-8"),
    ],
)
def test_damaged_lfw_pairs(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(VeriQuantError, match=message) as caught:
        read_pairs(written(tmp_path, text))
    assert str(tmp_path / "pairs.txt") in str(caught.value)


def test_a_pair_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(VeriQuantError, match=r"cannot read .*pairs\.txt: No such file"):
        read_pairs(tmp_path / "pairs.txt")


@pytest.mark.parametrize(
    "text",
    [
        "a/1.jpg a/2.jpg 1\na/1.jpg b/1.jpg 0\n",
        "1 a/1.jpg a/2.jpg\n-1 a/1.jpg b/1.jpg\n",
        "a/1.jpg\ta/2.jpg\t1\na/1.jpg\tb/1.jpg\t-1\n",
        "a 1 a/1.jpg 2 a/2.jpg 1\na 1 a/1.jpg 1 b/1.jpg 0\n",
        "a/1.jpg\ta\t1\ta/2.jpg\ta\t1\na/1.jpg\ta\t1\tb/1.jpg\tb\t0\n",
        "1\ta\ta/1.jpg\ta\ta/2.jpg\tx\n0\ta\ta/1.jpg\tb\tb/1.jpg\tx\n",
    ],
)
def test_paths_and_a_label(tmp_path: Path, text: str) -> None:
    assert read_pairs(written(tmp_path, text)) == [Pair("a/1.jpg", "a/2.jpg", True), Pair("a/1.jpg", "b/1.jpg", False)]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("a/1.jpg a/2.jpg 2", "found 'a/1.jpg a/2.jpg 2'"),
        ("a/1.jpg a/2.jpg a/3.jpg 1", "found 4 columns"),
        ("a/1.jpg a/2.jpg a/3.jpg x y 1", "found 'a/1.jpg a/2.jpg a/3.jpg x y 1'"),
        ("", "found 0 columns: ''"),
        ("x" * 200 + " y z", "…'"),
    ],
)
def test_damaged_paths_and_labels(tmp_path: Path, line: str, found: str) -> None:
    with pytest.raises(VeriQuantError, match=r"line 2: expected path1 path2 label, or six columns") as caught:
        read_pairs(written(tmp_path, f"a/1.jpg a/2.jpg 1\n{line}\na/1.jpg a/2.jpg 1\n"))
    assert found in str(caught.value)


def cfp(tmp_path: Path, per_fold: int = 2) -> Path:
    protocol = tmp_path / "Protocol"
    protocol.mkdir()
    for letter, kind, each in (("F", "frontal", 3), ("P", "profile", 2)):
        images = [f"../Data/Images/{p:03}/{kind}/{i:02}.jpg" for p in (1, 2) for i in range(1, each + 1)]
        lines = [f"{number} {image}\n" for number, image in enumerate(images, 1)]
        (protocol / f"Pair_list_{letter}.txt").write_text("".join(lines))
    for split, same, different in (("FF", "1,2\n4,6\n", "1,4\n3,5\n"), ("FP", "1,2\n4,3\n", "1,4\n6,1\n")):
        for fold in ("01", "02"):
            folder = protocol / "Split" / split / fold
            folder.mkdir(parents=True)
            (folder / "same.txt").write_text(same)
            (folder / "diff.txt").write_text(different)
    return protocol


def test_cfp(tmp_path: Path) -> None:
    protocol = cfp(tmp_path)
    image = "Data/Images/{}".format
    frontal = [
        Pair(image("001/frontal/01.jpg"), image("001/frontal/02.jpg"), True, 0),
        Pair(image("002/frontal/01.jpg"), image("002/frontal/03.jpg"), True, 0),
        Pair(image("001/frontal/01.jpg"), image("002/frontal/01.jpg"), False, 0),
        Pair(image("001/frontal/03.jpg"), image("002/frontal/02.jpg"), False, 0),
    ]
    assert read_cfp(protocol, "FF") == frontal + [pair._replace(fold=1) for pair in frontal]
    assert read_cfp(protocol, "FP")[4:] == [
        Pair(image("001/frontal/01.jpg"), image("001/profile/02.jpg"), True, 1),
        Pair(image("002/frontal/01.jpg"), image("002/profile/01.jpg"), True, 1),
        Pair(image("001/frontal/01.jpg"), image("002/profile/02.jpg"), False, 1),
        Pair(image("002/frontal/03.jpg"), image("001/profile/01.jpg"), False, 1),
    ]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("Pair_list_F.txt", "1 a\n3 b\n", r"Pair_list_F\.txt, line 2: expected '2 path', found '3 b'"),
        ("Pair_list_F.txt", "1\n", r"Pair_list_F\.txt, line 1: expected '1 path', found '1'"),
        ("Pair_list_P.txt", None, r"cannot read .*Pair_list_P\.txt"),
        ("Split/FP/02/same.txt", "1,2\n", r"02/same\.txt: expected 2 lines, as in fold 01, found 1"),
        ("Split/FP/01/same.txt", "1,2\n1;2\n", r"01/same\.txt, line 2: expected two numbers, 'a,b', found '1;2'"),
        (
            "Split/FP/01/diff.txt",
            "1,2\n7,1\n",
            r"diff\.txt, line 2: expected a from 1 to 6 and b from 1 to 4, found '7,1'",
        ),
        ("Split/FP/01/diff.txt", "1,5\n6,1\n", r"diff\.txt, line 1: expected a from 1 to 6 and b from 1 to 4"),
        ("Split/FP/01/diff.txt", "0,1\n6,1\n", r"diff\.txt, line 1: expected a from 1"),
        ("Split/FP/01/diff.txt", None, r"cannot read .*diff\.txt"),
    ],
)
def test_damaged_cfp(tmp_path: Path, file: str, text: str | None, message: str) -> None:
    protocol = cfp(tmp_path)
    if text is None:
        (protocol / file).unlink()
    else:
        (protocol / file).write_text(text)
    with pytest.raises(VeriQuantError, match=message):
        read_cfp(protocol, "FP")


def test_cfp_folds_must_be_complete(tmp_path: Path) -> None:
    protocol = cfp(tmp_path)
    (protocol / "Split/FF/02").rename(protocol / "Split/FF/03")
    with pytest.raises(VeriQuantError, match=r"FF: expected the folds 01, 02, … 10, found 01, 03"):
        read_cfp(protocol, "FF")
    with pytest.raises(VeriQuantError, match=r"does not exist: expected the folds"):
        read_cfp(tmp_path / "Protocol", "PP")  # type: ignore[arg-type]


def two_lines(genuine: int, impostor: int) -> str:
    lines = [f"A_{i}_0001.jpg {1 + i % 10}\nA_{i}_0002.jpg {1 + i % 10}\n" for i in range(genuine)]
    return "".join(lines + [f"A_{i}_0001.jpg 0\nB_{i}_0001.jpg 0\n" for i in range(impostor)])


def test_two_line_pairs_are_interleaved(tmp_path: Path) -> None:
    pairs = read_two_line_pairs(written(tmp_path, two_lines(30, 20)))
    assert len(pairs) == 50
    assert pairs[:5] == [
        *(Pair(f"A_{i}_0001.jpg", f"A_{i}_0002.jpg", True, 0) for i in range(3)),
        *(Pair(f"A_{i}_0001.jpg", f"B_{i}_0001.jpg", False, 0) for i in range(2)),
    ]
    assert pairs[-1] == Pair("A_19_0001.jpg", "B_19_0001.jpg", False, 9)
    assert [pair.fold for pair in pairs] == [fold for fold in range(10) for _ in range(5)]


def test_official_numbers_give_300_and_300(tmp_path: Path) -> None:
    pairs = read_two_line_pairs(written(tmp_path, two_lines(3000, 3000)))
    for fold in range(10):
        part = pairs[600 * fold : 600 * (fold + 1)]
        assert {pair.fold for pair in part} == {fold}
        assert [pair.genuine for pair in part] == [True] * 300 + [False] * 300


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (two_lines(10, 10) + "A_1.jpg 0\n", "line 41: expected two lines for every pair, found the last of 41 lines"),
        (two_lines(10, 9), "expected at least 10 impostor pairs, found 9"),
        (two_lines(9, 10), "expected at least 10 genuine pairs, found 9"),
        ("a.jpg 1\nb.jpg 0\n", "line 2: expected the label of line 1, 1, found 0"),
        ("a.jpg\nb.jpg 0\n", "line 1: expected 'filename label', found 'a.jpg'"),
        ("a.jpg 1\nb.jpg one\n", "line 2: expected 'filename label', found 'b.jpg one'"),
    ],
)
def test_damaged_two_line_pairs(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(VeriQuantError, match=message):
        read_two_line_pairs(written(tmp_path, text))


def agedb(path: Path, folds: list[list[tuple[str, str, int]]], **changes: object) -> Path:
    """Write splits as the publishers' file has them: cells of structs of cells of structs."""
    splits = np.empty((len(folds), 1), dtype=object)
    for number, pairs in enumerate(folds):
        images = np.empty((2, len(pairs)), dtype=object)
        for column, pair in enumerate(pairs):
            for row in (0, 1):
                images[row, column] = {"path": pair[row], "age": 40}
        labels = np.array([[pair[2] for pair in pairs]], dtype=np.int16)
        splits[number, 0] = {"images": images, "labels": labels, **changes}
    savemat(path, {"splits": splits})
    return path


FOLDS = [
    [("1_AnnLee_20_f", "2_AnnLee_50_f", 1), ("1_AnnLee_20_f", "3_BobRay_50_m", -1)],
    [("3_BobRay_50_m", "4_BobRay_20_m", 1), ("4_BobRay_20_m", "2_AnnLee_50_f", -1)],
]


def test_agedb(tmp_path: Path) -> None:
    assert read_agedb(agedb(tmp_path / "p.mat", FOLDS)) == [
        Pair("1_AnnLee_20_f", "2_AnnLee_50_f", True, 0),
        Pair("1_AnnLee_20_f", "3_BobRay_50_m", False, 0),
        Pair("3_BobRay_50_m", "4_BobRay_20_m", True, 1),
        Pair("4_BobRay_20_m", "2_AnnLee_50_f", False, 1),
    ]


def test_damaged_agedb(tmp_path: Path) -> None:
    path = tmp_path / "p.mat"
    with pytest.raises(VeriQuantError, match=r"cannot read .*p\.mat"):
        read_agedb(path)
    agedb(path, FOLDS)
    content = path.read_bytes()
    for part in (0, 100, len(content) // 2, len(content) - 20):
        path.write_bytes(content[:part])
        with pytest.raises(VeriQuantError, match=r"p\.mat"):
            read_agedb(path)
    path.write_bytes(b"no matlab file at all" * 100)
    with pytest.raises(VeriQuantError, match=r"p\.mat is truncated or not a MATLAB 5 file"):
        read_agedb(path)
    savemat(path, {"other": 1})
    with pytest.raises(VeriQuantError, match="expected a variable 'splits', found none"):
        read_agedb(path)
    savemat(path, {"splits": np.zeros((10, 1))})
    with pytest.raises(VeriQuantError, match="split 1: expected a struct of images and labels, found 0 fields"):
        read_agedb(path)
    agedb(path, FOLDS[:1])
    with pytest.raises(VeriQuantError, match="expected 10 splits, found 1"):
        read_agedb(path)
    agedb(path, FOLDS, labels=np.array([[1.0]]))
    with pytest.raises(VeriQuantError, match="split 1: expected as many labels as pairs, found 1 and 2"):
        read_agedb(path)
    agedb(path, FOLDS, labels=np.array([[1, 0]]))
    with pytest.raises(VeriQuantError, match="split 1, pair 2: expected the label 1 or -1, found 0"):
        read_agedb(path)
    agedb(path, FOLDS, images=np.zeros((3, 2)))
    with pytest.raises(VeriQuantError, match=r"split 1: expected images of shape \(2, n\), found \(3, 2\)"):
        read_agedb(path)
    agedb(path, FOLDS, images=np.zeros((2, 2)))
    with pytest.raises(VeriQuantError, match="split 1, pair 1: expected the name of an image"):
        read_agedb(path)
