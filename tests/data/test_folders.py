import os
import time
from pathlib import Path

import pytest

from veriquant.data import load_calibration
from veriquant.data.digest import image_digests, samples_digest
from veriquant.data.folder import list_images
from veriquant.errors import VeriQuantError
from veriquant.frontends import Sample


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    for number in range(20):
        path = root / f"p{number % 4}" / f"{number:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"image %d" % number)
    (root / "top.PNG").write_bytes(b"top")
    (root / "notes.txt").write_text("no image")
    (root / "p0" / "._00.jpg").write_bytes(b"hidden")
    (root / ".trash").mkdir()
    (root / ".trash" / "x.jpg").write_bytes(b"hidden")
    return root


def test_list_images(folder: Path) -> None:
    names = list_images(folder)
    assert names == sorted(names)
    assert len(names) == 21
    assert {"top.PNG", "p0/00.jpg", "p3/19.jpg"} <= set(names)


def test_linked_folders_are_listed_once(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.jpg").write_bytes(b"x")
    (folder / "linked").symlink_to(other)
    (other / "circle").symlink_to(folder)
    assert list_images(folder).count("linked/x.jpg") == 1
    assert len(list_images(folder)) == 22


def test_a_folder_that_is_none(folder: Path) -> None:
    with pytest.raises(VeriQuantError, match=r"folder of images: .*gone does not exist"):
        list_images(folder / "gone")
    with pytest.raises(VeriQuantError, match=r"folder of images: .*notes\.txt is a file, not a folder"):
        list_images(folder / "notes.txt")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may list any folder")
def test_a_folder_that_may_not_be_listed(folder: Path) -> None:
    (folder / "p0").chmod(0)
    try:
        with pytest.raises(VeriQuantError, match="cannot list"):
            list_images(folder)
    finally:
        (folder / "p0").chmod(0o755)


def test_calibration_is_reproducible(folder: Path) -> None:
    first, again = load_calibration(folder, 8), load_calibration(str(folder), 8, seed=0)
    assert first == again
    assert (len(first.samples), first.requested, first.available, first.excluded) == (8, 8, 21, 0)
    assert first.note == f"8 of 21 images of {folder}, seed 0"
    assert len({sample.name for sample in first.samples}) == 8
    assert [sample.name for sample in first.samples] == [
        sample.path.relative_to(folder).as_posix() for sample in first.samples if sample.path
    ]
    other = load_calibration(folder, 8, seed=1)
    assert {s.name for s in other.samples} != {s.name for s in first.samples}
    assert other.digest != first.digest


def test_a_larger_set_begins_with_the_smaller(folder: Path) -> None:
    assert load_calibration(folder, 12).samples[:5] == load_calibration(folder, 5).samples


def test_the_choice_is_the_same_everywhere(folder: Path) -> None:
    names = [sample.name for sample in load_calibration(folder, 4, seed=7).samples]
    assert names == ["top.PNG", "p2/06.jpg", "p0/00.jpg", "p1/17.jpg"]


def test_one_image_more_changes_at_most_one(folder: Path) -> None:
    before = {sample.name for sample in load_calibration(folder, 8).samples}
    for number in range(30):
        path = folder / f"more{number}.jpg"
        path.write_bytes(b"more")
        after = {sample.name for sample in load_calibration(folder, 8).samples}
        assert len(before - after) <= 1
        path.unlink()


def test_the_digest_is_of_contents(folder: Path, tmp_path: Path) -> None:
    before = load_calibration(folder, 21)
    moved = tmp_path / "moved"
    folder.rename(moved)
    assert load_calibration(moved, 21).digest == before.digest
    (moved / "p0" / "00.jpg").write_bytes(b"another")
    assert load_calibration(moved, 21).digest != before.digest


def test_fewer_images_than_wanted(folder: Path) -> None:
    found = load_calibration(folder)
    assert (len(found.samples), found.requested) == (21, 500)
    assert found.note == f"21 of 21 images of {folder}, seed 0 (500 were asked for)"


def test_images_of_a_benchmark_are_left_out(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    link = tmp_path / "link"
    link.symlink_to(folder)
    exclude = [Path("images/p0/00.jpg"), link / "p1" / "01.jpg", folder / "p2" / "02.jpg", tmp_path / "elsewhere.jpg"]
    found = load_calibration(folder, 21, exclude=exclude)
    assert len(found.samples) == found.available == 18
    assert found.excluded == 3
    assert found.note == (
        f"18 of 18 images of {folder}, the 3 images of benchmarks left out, seed 0 (21 were asked for)"
    )
    assert not {"p0/00.jpg", "p1/01.jpg", "p2/02.jpg"} & {sample.name for sample in found.samples}
    with pytest.raises(VeriQuantError, match=r"all 21 images in .* are used by a benchmark"):
        load_calibration(folder, exclude=[folder / name for name in list_images(folder)])


def test_impossible_calibration(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(VeriQuantError, match="needs at least 1 image, 0 were asked for"):
        load_calibration(folder, 0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(VeriQuantError, match=r"no images in .*empty: a calibration set is a folder of images"):
        load_calibration(tmp_path / "empty")
    with pytest.raises(VeriQuantError, match="does not exist"):
        load_calibration(tmp_path / "gone")


def test_digests_of_eight_thousand_files_are_quick(tmp_path: Path) -> None:
    samples = []
    for number in range(8000):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(b"%d" % number * 500)
        samples.append(Sample(path.name, path))
    start = time.monotonic()
    digests = image_digests(samples)
    assert time.monotonic() - start < 4
    assert len(set(digests)) == 8000
    assert digests[:300] == image_digests(samples[:300])
    assert samples_digest(samples[:2]) != samples_digest(samples[:2], b"")
    assert samples_digest(samples[:2], b"a", b"b") != samples_digest(samples[:2], b"ab")
    (tmp_path / "77.jpg").unlink()
    with pytest.raises(VeriQuantError, match=r"cannot read image .*77\.jpg"):
        image_digests(samples)
