from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from toy_detector import AROUND, toy_yunet

from veriquant.alignment import AlignSettings, YuNet, align_folder, template
from veriquant.alignment.crop import crop_transform
from veriquant.alignment.similarity import transformed
from veriquant.errors import VeriQuantError
from veriquant.frontends.images import decode
from veriquant.frontends.sample import Sample

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'veriquant[align]'")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_yunet(tmp_path_factory.mktemp("detector") / "yunet.onnx")


def spotted(*spots: tuple[int, int], size: tuple[int, int] = (200, 240)) -> np.ndarray:
    image = np.zeros((*size, 3), np.uint8)
    for x, y in spots:
        image[y : y + 8, x : x + 8] = 255
    return image


def test_boxes_points_and_scores(toy: Path) -> None:
    detector = YuNet(toy)
    rows = detector._search(spotted((40, 40), (120, 96)))
    assert len(rows) == 2
    np.testing.assert_allclose(rows[0, :4], [20, 20, 48, 48], atol=1e-3)
    np.testing.assert_allclose(rows[0, 4:14].reshape(5, 2), 44 + 8 * AROUND, atol=1e-3)
    assert rows[0, 14] > 0.99
    assert [tuple(np.round(face.box)) for face in detector(spotted((40, 40), (120, 96)))] == [
        (20, 20, 48, 48), (100, 76, 48, 48)
    ]  # fmt: skip
    assert detector(spotted()) == []


def test_places_in_a_large_image_are_in_its_own_pixels(toy: Path) -> None:
    image = cv2.resize(spotted((40, 40)), None, fx=8, fy=8, interpolation=cv2.INTER_NEAREST)
    (face,) = YuNet(toy)._at(image, 240)
    np.testing.assert_allclose(face.box, np.array([20, 20, 48, 48]) * 8, atol=0.1)
    np.testing.assert_allclose(face.points + 0.5, (44.5 + 8 * AROUND) * 8, atol=0.1)


def test_a_border_changes_no_place(toy: Path) -> None:
    detector = YuNet(toy)
    plain, bordered = (detector._at(spotted((40, 40)), 640, border)[0] for border in (0, 48))
    np.testing.assert_allclose(plain.points, bordered.points, atol=1e-3)
    np.testing.assert_allclose(plain.box, bordered.box, atol=1e-3)


def test_threads_do_not_mix_their_images(toy: Path) -> None:
    detector = YuNet(toy)
    images = [spotted((8 * (n % 20), 8 * (n // 2)), size=(200 + n, 240)) for n in range(24)]
    alone = [detector(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(detector, images))
    for one, other in zip(alone, together, strict=True):
        assert [face.box for face in one] == [face.box for face in other]


def test_files_that_are_no_yunet(tmp_path: Path, world: Path) -> None:
    with pytest.raises(VeriQuantError, match=r"no such detector file; give the file of YuNet .* MIT licence"):
        YuNet(tmp_path / "gone.onnx")
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(VeriQuantError, match="empty"):
        YuNet(tmp_path / "empty.onnx")
    (tmp_path / "junk.onnx").write_bytes(b"junk" * 100)
    for file in (tmp_path / "junk.onnx", world / "tiny.onnx"):
        with pytest.raises(VeriQuantError, match="OpenCV does not run it as YuNet"):
            YuNet(file)


def test_weights_that_are_no_numbers_find_nothing(tmp_path: Path, toy: Path) -> None:
    model = onnx.load(toy)
    for tensor in model.graph.initializer:
        if tensor.name.startswith("ckps"):
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full((1, 1, 10), np.nan, np.float32), tensor.name))
    onnx.save(model, tmp_path / "nan.onnx")
    assert YuNet(tmp_path / "nan.onnx")(spotted((40, 40))) == []


@pytest.mark.real
def test_real_faces_come_back(real: Path, tmp_path: Path) -> None:
    """Real crops, turned, enlarged and pasted into larger images, are aligned to within the detector's own noise."""
    rng = np.random.default_rng(0)
    folder = real / "faces" / "cfp-112x112" / "Data" / "Images"
    truth = {}
    for number in range(1, 13):
        image = decode(Sample("face", folder / f"{number:03}" / "frontal" / "01.jpg"))
        angle, scale = np.deg2rad(rng.uniform(-30, 30)), rng.uniform(1.2, 4)
        rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        place = np.column_stack([rotation, rng.uniform(320, 480, 2) - rotation @ [55.5, 55.5]])
        photo = cv2.warpAffine(image, place, (800, 800), flags=cv2.INTER_CUBIC, borderValue=(90, 110, 100))
        (tmp_path / "photos").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "photos" / f"{number}.png"), photo[..., ::-1])
        truth[f"{number}.png"] = place
    detector = YuNet(next((real / "networks" / "yunet").glob("*.onnx")))
    found = align_folder(tmp_path / "photos", tmp_path / "out", detector)
    assert sum(count for outcome, count in found.outcomes.items() if outcome.startswith("aligned")) == 12
    apart = []
    for name, place in truth.items():
        (face,) = [max(detector(decode(Sample(name, tmp_path / "photos" / name))), key=lambda face: face.area)]
        there = transformed(transformed(template(), place), crop_transform(face, AlignSettings()))
        apart.append(np.linalg.norm(there - template(), axis=1).mean())
    assert np.mean(apart) < 3
