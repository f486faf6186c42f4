"""Photographs with coloured dots for eyes, nose and mouth are aligned by a detector that finds the dots."""

from __future__ import annotations

import csv
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from veriquant.alignment import AlignSettings, Face, align_folder, template
from veriquant.alignment.folder import crop_names
from veriquant.alignment.journal import JOURNAL, LIST
from veriquant.alignment.similarity import inverse, transformed
from veriquant.errors import VeriQuantError

pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'veriquant[align]'")

COLOURS = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)])


class Dots:
    """Finds faces by their five colours; the red of a face says nothing of its size, so the box is the points' own."""

    digest = "dots"

    def __init__(self, stop_after: int | None = None) -> None:
        self.seen = 0
        self.stop_after = stop_after
        self._lock = threading.Lock()

    def __call__(self, image: np.ndarray) -> list[Face]:
        with self._lock:
            self.seen += 1
            if self.stop_after is not None and self.seen > self.stop_after:
                raise KeyboardInterrupt
        count = int(image[0, 0, 0]) // 50
        faces = []
        for number in range(count):
            half = image.shape[1] // max(count, 1)
            part = image[:, number * half : (number + 1) * half]
            points = np.array([_middle(part, colour) for colour in COLOURS])
            points[:, 0] += number * half
            low, high = points.min(0), points.max(0)
            faces.append(Face((*low, *(high - low)), points, 0.9 - 0.1 * number))
        return faces


def _middle(image: np.ndarray, colour: np.ndarray) -> np.ndarray:
    near = (np.abs(image.astype(int) - colour).max(2) < 60).nonzero()
    return np.array([near[1].mean(), near[0].mean()])


def matrix(scale: float, angle: float, x: float, y: float) -> np.ndarray:
    """Return what moves the template's middle to (x, y), turned by `angle` degrees and enlarged."""
    a = np.deg2rad(angle)
    rotation = scale * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    return np.column_stack([rotation, np.array([x, y]) - rotation @ [55.5, 71.5]])


def photograph(path: Path, *places: np.ndarray, size: tuple[int, int] = (400, 400)) -> None:
    """Draw the template's five points, each as a disc of 2.5 pixels in the crop, at every place."""
    image = np.full((*size, 3), 120, np.uint8)
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    for place in places:
        back = transformed(np.column_stack([columns.ravel(), rows.ravel()]).astype(float), inverse(place))
        for point, colour in zip(template(), COLOURS, strict=True):
            near = (np.hypot(*(back - point).T) < 2.5).reshape(size)
            image[near] = colour
    image[0, 0] = 50 * len(places)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


PLACES = [matrix(2, 20, 200, 180), matrix(0.9, -30, 90, 100), matrix(3.1, 5, 200, 210), matrix(1, 0, 60, 75)]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number, place in enumerate(PLACES):
        photograph(folder / f"p{number % 2}" / f"{number}.png", place)
    return folder


def dots_of(crop: Path) -> np.ndarray:
    image = np.asarray(Image.open(crop))
    return np.array([_middle(image, colour) for colour in COLOURS])


def rows_of(out: Path) -> list[dict[str, str]]:
    with open(out / LIST, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("size", [(112, 112), (112, 96), (160, 160)])
def test_points_come_to_stand_on_the_template(photos: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    found = align_folder(photos, tmp_path / "out", Dots(), AlignSettings(size=size), threads=2)
    assert found.outcomes == {"aligned": 4}
    for number in range(4):
        crop = tmp_path / "out" / f"p{number % 2}" / f"{number}.jpg"
        assert Image.open(crop).size == (size[1], size[0])
        assert np.abs(dots_of(crop) - template(size)).max() < 1


def test_a_large_face_is_averaged_down_and_stands_where_it_should(tmp_path: Path) -> None:
    photograph(tmp_path / "photos" / "a.png", matrix(9.3, 12, 640, 700), size=(1400, 1300))
    align_folder(tmp_path / "photos", tmp_path / "out", Dots())
    assert np.abs(dots_of(tmp_path / "out" / "a.jpg") - template()).max() < 0.7


def test_a_square_around_the_box(photos: Path, tmp_path: Path) -> None:
    align_folder(photos, tmp_path / "out", Dots(), AlignSettings(size=(160, 160), margin=0.25))
    dots = dots_of(tmp_path / "out" / "p1" / "3.jpg")  # upright: its box is as high as the template, 40.7 pixels
    assert (dots.max(0) - dots.min(0))[1] == pytest.approx(160 / 1.5, abs=2)
    assert np.abs((dots.max(0) + dots.min(0)) / 2 - 79.5).max() < 1.5


def test_the_list_says_what_was_found(photos: Path, tmp_path: Path) -> None:
    photograph(photos / "none.png")
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff nonsense")
    photograph(photos / "two.png", matrix(1, 0, 80, 100), matrix(1.5, 0, 300, 180))
    out = tmp_path / "out"
    found = align_folder(photos, out, Dots())
    assert found.outcomes == {"aligned": 4, "aligned, one of several faces": 1, "no face": 1, "unreadable": 1}
    rows = rows_of(out)
    assert [row["image"] for row in rows] == [
        "broken.jpg", "none.png", "p0/0.png", "p0/2.png", "p1/1.png", "p1/3.png", "two.png", "two.png"
    ]  # fmt: skip
    assert "truncated or damaged" in rows[0]["reason"]
    assert (rows[1]["faces"], rows[1]["crop"], rows[1]["score"]) == ("0", "", "")
    assert [(row["chosen"], row["faces"]) for row in rows[-2:]] == [("0", "2"), ("1", "2")]  # the larger one
    wanted = transformed(template(), PLACES[3])
    assert float(rows[5]["nose_x"]) == pytest.approx(wanted[2, 0], abs=0.6)
    assert float(rows[5]["right_mouth_y"]) == pytest.approx(wanted[4, 1], abs=0.6)
    assert sorted(path.name for path in out.rglob("*.jpg")) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "two.jpg"]


def test_of_several_faces_the_most_central(tmp_path: Path) -> None:
    photograph(tmp_path / "photos" / "two.png", matrix(1, 0, 180, 200), matrix(1.5, 0, 330, 100))
    found = align_folder(tmp_path / "photos", tmp_path / "out", Dots(), AlignSettings(face="central"))
    assert found.records[0].chosen == 0


def test_an_interrupted_run_goes_on(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        align_folder(photos, out, Dots(stop_after=2))
    assert not list(out.rglob("*.tmp"))
    for crop in out.rglob("*.jpg"):
        Image.open(crop).load()
    again = Dots()
    found = align_folder(photos, out, again)
    assert (again.seen, found.kept) == (2, 2)
    assert found.outcomes == {"aligned": 4}
    third = Dots()
    assert align_folder(photos, out, third).kept == 4
    assert third.seen == 0


def test_what_changed_is_done_again(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    align_folder(photos, out, Dots())
    photograph(photos / "p0" / "0.png", matrix(1.1, 3, 150, 150))
    (out / "p0" / "2.jpg").unlink()
    (out / "p1" / "1.jpg").write_bytes(b"cut")
    again = Dots()
    assert align_folder(photos, out, again).kept == 1
    assert again.seen == 3
    assert np.abs(dots_of(out / "p0" / "0.jpg") - template()).max() < 1


def test_other_settings_make_all_anew(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    align_folder(photos, out, Dots())
    found = align_folder(photos, out, Dots(), AlignSettings(size=(64, 64)))
    assert (found.kept, found.anew) == (0, True)
    assert Image.open(out / "p0" / "0.jpg").size == (64, 64)
    other = Dots()
    other.digest = "another"
    photograph(photos / "p0" / "0.png")  # no face any more
    assert align_folder(photos, out, other, AlignSettings(size=(64, 64))).outcomes == {"aligned": 3, "no face": 1}
    assert not (out / "p0" / "0.jpg").exists()


def test_crops_of_images_that_are_gone_are_told(photos: Path, tmp_path: Path) -> None:
    align_folder(photos, tmp_path / "out", Dots())
    (photos / "p0" / "0.png").unlink()
    assert align_folder(photos, tmp_path / "out", Dots()).left_over == 1


def test_a_torn_journal_loses_one_image_at_most(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    align_folder(photos, out, Dots())
    content = (out / JOURNAL).read_bytes()
    (out / JOURNAL).write_bytes(content[: content.rindex(b'"score"')])
    assert align_folder(photos, out, Dots()).kept == 3
    (out / JOURNAL).write_bytes(b"\x00\xff not json\n[1]\n" + content)
    assert align_folder(photos, out, Dots()).kept == 4


def test_what_no_alignment_wrote_is_not_written_over(photos: Path, tmp_path: Path) -> None:
    mine = tmp_path / "out" / "p1" / "3.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(VeriQuantError, match=r"p1/3\.jpg is there already and no alignment wrote it \(1 such files\)"):
        align_folder(photos, tmp_path / "out", Dots())
    assert mine.read_bytes() == b"mine"


@pytest.mark.parametrize("out", [".", "p0", "p0/deeper", ".."])
def test_photographs_are_not_written_over(photos: Path, out: str) -> None:
    before = {path: path.read_bytes() for path in photos.rglob("*.png")}
    with pytest.raises(VeriQuantError, match="name a folder beside it with -o"):
        align_folder(photos, photos / out, Dots())
    assert {path: path.read_bytes() for path in photos.parent.rglob("*.png")} == before


def test_nothing_to_align(tmp_path: Path) -> None:
    with pytest.raises(VeriQuantError, match="does not exist"):
        align_folder(tmp_path / "gone", tmp_path / "out", Dots())
    (tmp_path / "empty").mkdir()
    with pytest.raises(VeriQuantError, match="no images in"):
        align_folder(tmp_path / "empty", tmp_path / "out", Dots())
    assert not (tmp_path / "out").exists()


def test_no_two_images_have_one_crop() -> None:
    names = ["a.jpg", "a.png", "a.JPG", "b.png", "B.bmp", "a.png.jpg", "c/d.e.tif"]
    crops = crop_names(names)
    assert crops["a.jpg"] == "a.jpg"
    assert crops["c/d.e.tif"] == "c/d.e.jpg"
    assert len({crop.casefold() for crop in crops.values()}) == len(names)
    assert set(crops) == set(names)


def test_an_image_on_its_side_is_aligned_upright(tmp_path: Path) -> None:
    photograph(tmp_path / "upright.png", matrix(1, 0, 90, 110), size=(240, 200))
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "photos").mkdir()
    lying = Image.open(tmp_path / "upright.png").transpose(Image.Transpose.ROTATE_90)
    lying.putpixel((0, 239), (50, 50, 50)) if lying.size[1] > 239 else None
    lying.save(tmp_path / "photos" / "a.png", exif=exif)
    align_folder(tmp_path / "photos", tmp_path / "out", Dots())
    assert np.abs(dots_of(tmp_path / "out" / "a.jpg") - template()).max() < 1


def test_the_journal_is_plain_lines(photos: Path, tmp_path: Path) -> None:
    align_folder(photos, tmp_path / "out", Dots())
    lines = [json.loads(line) for line in (tmp_path / "out" / JOURNAL).read_text().splitlines() if line]
    assert lines[0]["settings"]["detector"] == "dots"
    assert [line["image"] for line in lines[1:]] == ["p0/0.png", "p0/2.png", "p1/1.png", "p1/3.png"]
