from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Cli, Fails, complaint
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from toy_detector import toy_yunet

from veriquant.frontends.sample import Sample
from veriquant.frontends.spec import ARCFACE
from veriquant.frontends.unaligned import looks_unaligned


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name, spots in {"a/1.png": [(40, 40)], "a/2.png": [], "b/3.jpg": [(40, 40), (160, 96)]}.items():
        image = Image.new("RGB", (240, 200))
        for spot in spots:
            image.paste((255, 255, 255), (*spot, spot[0] + 8, spot[1] + 8))
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / "photos" / name)
    return tmp_path / "photos"


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'veriquant[align]'")
    return toy_yunet(tmp_path / "yunet.onnx")


def test_align(cli: Cli, photos: Path, detector: Path, tmp_path: Path) -> None:
    command = ("align", photos, "-o", tmp_path / "out", "--detector", detector)
    code, out, _ = cli(*command)
    assert code == 0
    assert "ArcFace template; of several faces the largest; detector: yunet.onnx" in out
    assert "no face: a/2.png" in out
    assert (tmp_path / "out" / "a" / "1.jpg").exists()
    assert Image.open(tmp_path / "out" / "b" / "3.jpg").size == (112, 112)
    assert str(tmp_path / "out" / "alignment.csv") in out
    code, out, _ = cli(*command)
    assert "3 of 3 images had been done before" in out
    code, out, _ = cli(*command, "--size", "112x96", "--crop", "0.2", "--face", "central")
    assert "made anew" in out
    assert Image.open(tmp_path / "out" / "a" / "1.jpg").size == (96, 112)


def test_align_refuses(fails: Fails, photos: Path, detector: Path, tmp_path: Path) -> None:
    assert "with --detector" in fails("align", photos, "-o", tmp_path / "out")
    run = ("align", photos, "--detector", detector)
    assert "is the folder of photographs itself" in fails(*run, "-o", photos)
    assert "--size 11a: expected 112 or 112x96" in fails(*run, "-o", tmp_path / "out", "--size", "11a")
    assert "--size: " in fails(*run, "-o", tmp_path / "out", "--size", "99999")
    assert "--face: " in fails(*run, "-o", tmp_path / "out", "--face", "all")
    assert "--crop: " in fails(*run, "-o", tmp_path / "out", "--crop", "-1")
    assert not (tmp_path / "out").exists()


def test_without_opencv_it_says_which_extra(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "yunet.onnx").write_bytes(b"x")
    bare = "import sys; sys.modules['cv2'] = None; from veriquant.cli.main import main; main()"
    command = [sys.executable, "-c", bare, "align", photos, "-o", tmp_path / "out", "--detector", tmp_path / "yunet.onnx"]  # noqa: E501  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=dict(os.environ))
    line = complaint(done.returncode, done.stdout, done.stderr)
    assert line == "error: aligning faces needs OpenCV: pip install 'veriquant[align]'"


def images(folder: Path, sizes: list[tuple[int, int]]) -> list[Sample]:
    folder.mkdir(exist_ok=True)
    for number, size in enumerate(sizes):
        Image.new("RGB", size).save(folder / f"{number}.png")
    return [Sample(f"{number}", folder / f"{number}.png") for number in range(len(sizes))]


@pytest.mark.parametrize(
    ("sizes", "unaligned"),
    [
        ([(112, 112)] * 10, False),
        ([(160, 160)] * 10, False),
        ([(48 + n, 48 + n) for n in range(20)], False),  # eyes cut out of faces
        ([(250, 250)] * 10, True),  # LFW as it is published
        ([(178, 218)] * 10, True),  # CelebA's own alignment
        ([(120 + n, 121 + n) for n in range(20)], True),
        ([(112, 112)] * 6 + [(640, 480)] * 4, False),
        ([(112, 112)] * 4 + [(640, 480)] * 6, True),
    ],
)
def test_which_sizes_look_unaligned(tmp_path: Path, sizes: list[tuple[int, int]], unaligned: bool) -> None:
    line = looks_unaligned(images(tmp_path / "some", sizes), ARCFACE)
    assert bool(line) == unaligned
    assert "\n" not in line


def test_what_cannot_be_read_is_left_to_whoever_decodes_it(tmp_path: Path) -> None:
    samples = images(tmp_path / "some", [(640, 480)] * 3)
    (tmp_path / "some" / "0.png").write_bytes(b"nothing")
    assert "of 2 looked at" in looks_unaligned(samples, ARCFACE)
    assert looks_unaligned([Sample("x", content=b"")], ARCFACE) == ""


def test_verbs_say_so_and_go_on(cli: Cli, world: Path, tmp_path: Path) -> None:
    for person in "ab":
        for number in (1, 2):
            path = tmp_path / "wild" / person / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.effect_noise((200 + 10 * number, 150), 60).save(path)
    code, out, _ = cli("evaluate", world / "tiny.onnx", "-b", f"folder:{tmp_path / 'wild'}", "--resamples", 0)
    assert code == 0
    assert "note: wild: images look unaligned: of 4 looked at, 4 are no crops" in out
    code, out, _ = cli("quantize", world / "tiny.onnx", "-c", tmp_path / "wild", "-o", tmp_path / "q.onnx")
    assert code == 0
    assert "note: images look unaligned" in out
    code, out, _ = cli("evaluate", world / "tiny.onnx", "-b", f"lfw:{world / 'lfw'}", "--resamples", 0)
    assert "unaligned" not in out
