"""Lists find their images whatever the ending and the normal form under which a copy holds them."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from veriquant.benchmarks import load_benchmark
from veriquant.data.folder import IMAGE_SUFFIXES, list_images
from veriquant.data.listed_images import ListedImages
from veriquant.data.training_set import load_training_set
from veriquant.errors import VeriQuantError

Image = Callable[[str], None]
PEOPLE = ("José", "Zoë", "王小明", "Ñandú", "Łukasz", "plain", "Ann", "Bö", "Cy", "Dee")
NAMED = [f"{person}/{person}_{shot:04d}" for person in PEOPLE for shot in (1, 2)]


def lfw(root: Path, image: Image) -> str:
    for name in NAMED:
        image(name)
    lines = ["2\t5"]
    for half in (PEOPLE[:5], PEOPLE[5:]):
        lines += [f"{person}\t1\t2" for person in half]
        lines += [f"{person}\t1\t{other}\t2" for person, other in zip(half, half[1:] + half[:1], strict=True)]
    (root / "pairs.txt").write_text("\n".join(lines), encoding="utf-8")
    return f"lfw:{root}"


def folder(root: Path, image: Image) -> str:
    return lfw(root, image).replace("lfw:", "folder:")


def three_columns(root: Path, image: Image, row: str = "{0} {1} {2}") -> str:
    for name in NAMED:
        image(name)
    pairs = [(*sorted((NAMED[i], NAMED[j])), int(i // 2 == j // 2)) for i in range(0, 20, 2) for j in (i + 1, i - 1)]
    (root / "pairs.txt").write_text(
        "\n".join(row.format(f"{a}.jpg", f"{b}.jpg", same) for a, b, same in pairs), encoding="utf-8"
    )
    return f"folder:{root}"


def six_columns(root: Path, image: Image) -> str:
    return three_columns(root, image, "{0} 10 20 {1} 30 {2}").replace("folder:", "lfw:")


def calfw(root: Path, image: Image) -> str:
    lines = []
    for offset, label in ((0, 1), (1, 0)):
        for i in range(10):
            left, right = f"{PEOPLE[i]}_0001", f"{PEOPLE[(i + offset) % 10]}_0002"
            image(f"aligned images/{left}")
            image(f"aligned images/{right}")
            lines += [f"{left}.jpg {label}", f"{right}.jpg {label}"]
    (root / "pairs_CALFW.txt").write_text("\n".join(lines), encoding="utf-8")
    return f"calfw:{root}"


def cplfw(root: Path, image: Image) -> str:
    place = calfw(root, image)
    (root / "pairs_CALFW.txt").rename(root / "pairs_CPLFW.txt")
    return place.replace("calfw:", "cplfw:")


def cfp(root: Path, image: Image) -> str:
    (root / "Protocol").mkdir(parents=True)
    for letter, view in (("F", "frontal"), ("P", "profile")):
        lines = []
        for number in range(4):
            name = f"Data/Images/é{number // 2 + 1:03}/{view}/{number % 2 + 1:02}"
            image(name)
            lines.append(f"{number + 1} ../{name}.jpg")
        (root / "Protocol" / f"Pair_list_{letter}.txt").write_text("\n".join(lines), encoding="utf-8")
    for fold in ("01", "02"):
        split = root / "Protocol" / "Split" / "FP" / fold
        split.mkdir(parents=True)
        (split / "same.txt").write_text("1,2\n3,4\n")
        (split / "diff.txt").write_text("1,3\n2,4\n")
    return f"cfp-fp:{root}"


def agedb30(root: Path, image: Image) -> str:
    names = [f"{number}_{PEOPLE[number // 2]}_{20 + number}_f" for number in range(8)]
    splits = np.empty((2, 1), dtype=object)
    for fold in (0, 1):
        pairs = [(4 * fold, 4 * fold + 1, 1), (4 * fold + 1, 4 * fold + 2, -1)]
        cells = np.empty((2, 2), dtype=object)
        for column, pair in enumerate(pairs):
            for row in (0, 1):
                cells[row, column] = {"path": names[pair[row]], "age": 1}
        splits[fold, 0] = {"images": cells, "labels": np.array([[pair[2] for pair in pairs]])}
    for name in names:
        image(f"03_Protocol_Images/{name}")
    savemat(root / "04_FINAL_protocol_30_years.mat", {"splits": splits})
    return f"agedb30:{root}"


def ufpr(root: Path, image: Image) -> str:
    names = [f"{person}S1I0{shot}{side}" for person in PEOPLE[:3] for shot in (1, 2) for side in "LR"]
    place = root / "experimentalProtocol" / "open_world"
    (place / "test_pairs" / "fold1").mkdir(parents=True)
    for name in names:
        image(f"periocularCropped/{name}")
    lines = [f"{name}.jpg {2 * (number // 4) + number % 2} -1 -1" for number, name in enumerate(names)]
    (place / "test_fold1.txt").write_text("\n".join(lines), encoding="utf-8")
    (place / "train_fold1.txt").write_text("\n".join(lines), encoding="utf-8")
    pairs = [f"{names[0]}.jpg {names[2]}.jpg 1", f"{names[1]}.jpg {names[5]}.jpg 0"]
    written = unicodedata.normalize("NFD", "\n".join(pairs))  # the two lists need not be of one hand
    (place / "test_pairs" / "fold1" / "pairs.txt").write_text(written, encoding="utf-8")
    return f"ufpr:{root}:open_world:1"


BENCHMARKS = (lfw, folder, three_columns, six_columns, calfw, cplfw, cfp, agedb30, ufpr)


def celeba(root: Path, image: Image) -> str:
    names = [f"{number:06d}é" for number in range(1, 5)]
    for name in names:
        image(f"img_align_celeba/{name}")
    listed = [f"{name}.jpg {number // 2}" for number, name in enumerate(names)]
    (root / "identity_CelebA.txt").write_text("\n".join(listed), encoding="utf-8")
    return f"celeba:{root}"


def composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def decomposed(name: str) -> str:
    return unicodedata.normalize("NFD", name)


def writer(root: Path, ending: str, form: Callable[[str], str] = composed) -> Image:
    """Return what writes an image that a list names; its content is its composed name, so that it can be told."""

    def write(name: str) -> None:
        path = root / (form(name) + ending)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(composed(name).encode())

    return write


def compared(place: str) -> list[tuple[bytes, bytes, bool, int]]:
    """Return the comparisons of a benchmark by the contents of their images, and whose they are."""
    found = load_benchmark(place)
    contents = [sample.read() for sample in found.samples]
    return [
        (contents[a], contents[b], bool(same), int(found.persons[a] == found.persons[b]))
        for a, b, same in zip(found.left, found.right, found.genuine, strict=True)
    ]


@pytest.mark.parametrize("kind", BENCHMARKS)
@pytest.mark.parametrize("ending", [".JPG", ".jpeg", ".Png", ".BMP", ".tif", ".TIFF", ".ppm", ".WEBP", ".gif"])
def test_every_ending_that_folders_find(kind: Callable[[Path, Image], str], ending: str, tmp_path: Path) -> None:
    expected = compared(kind(tmp_path / "a", writer(tmp_path / "a", ".jpg")))
    assert expected
    assert compared(kind(tmp_path / "b", writer(tmp_path / "b", ending))) == expected


@pytest.mark.parametrize("kind", BENCHMARKS)
@pytest.mark.parametrize("ending", [".jpg", ".PNG"])
def test_names_in_another_normal_form(kind: Callable[[Path, Image], str], ending: str, tmp_path: Path) -> None:
    expected = compared(kind(tmp_path / "a", writer(tmp_path / "a", ".jpg")))
    assert compared(kind(tmp_path / "b", writer(tmp_path / "b", ending, decomposed))) == expected


@pytest.mark.parametrize("kind", [celeba, ufpr])
@pytest.mark.parametrize("form", [composed, decomposed])
@pytest.mark.parametrize("ending", [".jpg", ".png", ".JPEG"])
def test_identity_lists_too(
    kind: Callable[[Path, Image], str], form: Callable[[str], str], ending: str, tmp_path: Path
) -> None:
    def read(root: Path, image: Image) -> list[tuple[bytes, int, bool]]:
        found = load_training_set(kind(root, image))
        return [(found.read(n), int(found.labels[n]), found.mirrored(n)) for n in range(len(found))]

    expected = read(tmp_path / "a", writer(tmp_path / "a", ".jpg"))
    assert read(tmp_path / "b", writer(tmp_path / "b", ending, form)) == expected


def test_the_endings_of_folders_are_those_of_lists(tmp_path: Path) -> None:
    for number, ending in enumerate(sorted(IMAGE_SUFFIXES)):
        (tmp_path / f"{number}{ending.upper()}").write_bytes(b"x")
    images = ListedImages(tmp_path)
    assert {f"{path.name}" for n in range(len(IMAGE_SUFFIXES)) if (path := images.find(str(n)))} == set(
        list_images(tmp_path)
    )


def test_another_ending_is_told(tmp_path: Path) -> None:
    same = load_benchmark(three_columns(tmp_path / "a", writer(tmp_path / "a", ".JPG")))
    assert "ending" not in same.protocol
    other = load_benchmark(three_columns(tmp_path / "b", writer(tmp_path / "b", ".png")))
    assert other.protocol.endswith("20 of its images have another ending than the list gives.")
    without = load_benchmark(lfw(tmp_path / "c", writer(tmp_path / "c", ".png")))
    assert "ending" not in without.protocol


def test_what_is_exactly_as_listed_comes_first(tmp_path: Path) -> None:
    for name in ("a.png", "a.JPG", "b.TIFF", "b.JPG", "b.jpeg", "c.png", "c.PNG", decomposed("é.jpg"), "é.jpg"):
        (tmp_path / name).write_bytes(b"x")
    images = ListedImages(tmp_path)

    def found(key: str) -> str:
        path = images.find(key)
        assert path is not None
        return path.name

    assert found("a.png") == "a.png"
    assert found("a.jpg") == "a.JPG"
    assert found("a") == found("a.bmp") == "a.JPG"
    assert found("b") == "b.JPG"
    assert found("b.tiff") == "b.TIFF"
    assert found("c") == "c.png"
    assert found("é.jpg") == found("é") == "é.jpg"
    assert found(decomposed("é.jpg")) == decomposed("é.jpg")
    assert images.find("d") is None
    assert images.find("gone/a.jpg") is None


def test_one_file_is_not_two_listed_images(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.png"):
        (tmp_path / name).write_bytes(b"x")
    images = ListedImages(tmp_path)
    assert list(images.find_all(["a.jpg", "a.png"])) == ["a.jpg"]
    assert list(images.find_all(["b.jpg", "b.bmp"])) == []
    assert list(images.find_all(["b.jpg", "a.png"])) == ["b.jpg", "a.png"]


def test_a_missing_image_is_still_missing(tmp_path: Path) -> None:
    place = lfw(tmp_path, writer(tmp_path, ".png", decomposed))
    next(tmp_path.glob("Zo*/*_0002.png")).unlink()
    with pytest.raises(VeriQuantError, match=r"1 of the 20 images that .* are missing in .*: Zoë/Zoë_0002"):
        load_benchmark(place)
    assert load_benchmark(place, allow_missing=True).skipped == ("Zoë/Zoë_0002",)


def test_one_person_in_folders_of_two_systems(tmp_path: Path) -> None:
    for form, shots in ((composed, (1, 2)), (decomposed, (3, 4))):
        for shot in shots:
            writer(tmp_path, ".png", form)(f"Zoë/{shot}")
            writer(tmp_path, ".png", form)(f"plain/{shot}")
    assert len(set(load_benchmark(f"folder:{tmp_path}").persons.tolist())) == 2
    assert load_training_set(f"folder:{tmp_path}").people == ("Zoë", "plain")


def test_names_that_are_no_unicode(tmp_path: Path) -> None:
    for person in (b"Jos\xe9", b"plain"):
        for shot in (b"1", b"2"):
            path = bytes(tmp_path) + b"/" + person + b"/" + shot + b".jpg"
            Path(path.decode(errors="surrogateescape")).parent.mkdir(exist_ok=True)
            Path(path.decode(errors="surrogateescape")).write_bytes(person + shot)
    assert len(load_benchmark(f"folder:{tmp_path}").digest) == 64
