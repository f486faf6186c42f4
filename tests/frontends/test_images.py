import io
import struct
import threading
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from veriquant.errors import VeriQuantError
from veriquant.frontends import CONVENTIONS, FrontEndStats, InputSpec, Sample, decode, image_batches, mirror, normalise
from veriquant.frontends import images as module

SPEC = InputSpec(size=(16, 16))


def workers() -> int:
    return sum(thread.name.startswith("veriquant-decode") for thread in threading.enumerate())


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> Sample:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return Sample("drawn", content=buffer.getvalue())


def pixels(seed: int = 0, shape: tuple[int, ...] = (16, 16, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("name", sorted(CONVENTIONS))
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("color", ["RGB", "BGR"])
def test_batches_are_the_formula_of_the_specification(name: str, layout: str, color: str) -> None:
    spec = CONVENTIONS[name].model_copy(update={"size": (6, 9), "layout": layout, "color": color})
    drawn = [pixels(seed, (6, 9, 3)) for seed in range(7)]
    (batch,) = image_batches([encoded(Image.fromarray(image)) for image in drawn], spec, 7)
    wanted = np.stack(drawn).astype(np.float64)
    if color == "BGR":
        wanted = wanted[..., ::-1]
    wanted = (wanted - np.array(spec.mean)) / np.array(spec.std)
    if layout == "NCHW":
        wanted = wanted.transpose(0, 3, 1, 2)
    assert batch.dtype == np.float32
    assert batch.flags.c_contiguous
    assert batch.shape == wanted.shape
    np.testing.assert_allclose(batch, wanted, rtol=3e-7, atol=1e-6)
    np.testing.assert_array_equal(batch, normalise(np.stack(drawn), spec))
    turned = normalise(np.stack([image[:, ::-1] for image in drawn]), spec)
    np.testing.assert_array_equal(mirror(batch, spec.layout), turned)


def test_normalise_refuses_another_size() -> None:
    with pytest.raises(ValueError, match="expected images of shape"):
        normalise(pixels(shape=(2, 5, 5, 3)), SPEC)


@pytest.mark.parametrize("count", [0, 1, 4, 50])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize("threads", [1, 3, None])
def test_order_and_sizes_of_batches(count: int, batch_size: int, threads: int | None) -> None:
    samples = [encoded(Image.fromarray(np.full((2, 2, 3), value, np.uint8))) for value in range(count)]
    spec = InputSpec(size=(2, 2), mean=(0, 0, 0), std=(1, 1, 1))
    stats = FrontEndStats()
    batches = list(image_batches(samples, spec, batch_size, threads=threads, stats=stats))
    assert [len(batch) for batch in batches] == [min(batch_size, count - at) for at in range(0, count, batch_size)]
    assert [int(value) for batch in batches for value in batch[:, 0, 0, 0]] == list(range(count))
    assert stats.images == count
    assert stats.note() == ""
    assert workers() == 0


def test_jpeg_pixels_are_pillows_own(draw) -> None:
    content = draw(3, size=(112, 112))
    found = decode(Sample("x", content=content), (112, 112))
    np.testing.assert_array_equal(found, np.asarray(Image.open(io.BytesIO(content))))


def test_other_sizes_are_resized_with_antialiasing_and_counted() -> None:
    checker = np.indices((64, 64)).sum(0) % 2 * 255
    fine = Image.fromarray(np.repeat(checker[:, :, None], 3, 2).astype(np.uint8))
    stats = FrontEndStats()
    samples = [encoded(fine), encoded(Image.fromarray(pixels())), encoded(fine)]
    (batch,) = image_batches(samples, SPEC, 8, stats=stats)
    assert (stats.images, stats.resized, dict(stats.sizes)) == (3, 2, {(64, 64): 2})
    assert stats.note() == "of 3 images 2 resized (width×height: 2 of 64×64)"
    assert abs(batch[0]).max() < 0.1  # the average of black and white, where sampling without a filter gives ±1
    total = FrontEndStats()
    total.add(stats)
    total.add(stats)
    assert (total.images, total.resized, total.sizes[64, 64]) == (6, 4, 4)


def test_size_is_height_by_width() -> None:
    spec = InputSpec(size=(4, 8))
    (batch,) = image_batches([encoded(Image.fromarray(pixels(shape=(8, 16, 3))))], spec, 1)
    assert batch.shape == (1, 3, 4, 8)


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGBA", "I;16", "CMYK"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    grey = np.tile(np.arange(16, dtype=np.uint8) * 17, (16, 1))
    image = Image.fromarray(grey)
    if mode == "I;16":
        sample = encoded(Image.fromarray(grey.astype(np.uint16) * 257))
    elif mode == "CMYK":
        sample = encoded(image.convert("RGB").convert("CMYK"), "TIFF")
    elif mode == "RGBA":
        image = image.convert("RGB")
        image.putalpha(Image.fromarray(grey[::-1].copy()))
        sample = encoded(image)
    else:
        sample = encoded(image.convert(mode))
    stats = FrontEndStats()
    found = decode(sample, (16, 16), stats)
    assert found.shape == (16, 16, 3)
    assert stats.converted == 1
    assert stats.note() == "of 1 images 1 converted to RGB"
    wanted = np.repeat(np.where(grey > 127, 255, 0)[:, :, None] if mode == "1" else grey[:, :, None], 3, 2)
    if mode == "1":  # dithered: only its ends are certain
        found, wanted = found[:, [0, -1]], wanted[:, [0, -1]]
    assert np.abs(found.astype(int) - wanted).max() <= 1


def test_greyscale_and_cmyk_jpeg() -> None:
    flat = Image.new("RGB", (16, 16), (200, 30, 40))
    for image in (flat.convert("L"), flat.convert("CMYK")):
        found = decode(encoded(image, "JPEG", quality=95))
        np.testing.assert_allclose(found, np.asarray(image.convert("RGB")), atol=4)


def test_exif_orientation_is_applied_and_counted() -> None:
    upright = np.zeros((16, 16, 3), np.uint8)
    upright[:8] = 255  # the upper half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying: turn it 90° clockwise to see it upright
    lying = Image.fromarray(upright).transpose(Image.Transpose.ROTATE_90)
    for kind in ("JPEG", "PNG"):
        stats = FrontEndStats()
        found = decode(encoded(lying, kind, exif=exif), (16, 16), stats)
        assert (stats.rotated, stats.resized) == (1, 0)
        assert stats.note() == "of 1 images 1 turned upright by EXIF"
        assert np.abs(found.astype(int) - upright).max() < 20
    plain = Image.Exif()
    plain[0x0112] = 1
    stats = FrontEndStats()
    decode(encoded(lying, "JPEG", exif=plain), (16, 16), stats)
    assert stats.rotated == 0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_every_orientation_is_pillows_own(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    sample = encoded(Image.fromarray(pixels(shape=(8, 12, 3))), kind, exif=exif)
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(sample.read()))))
    found = decode(sample, stats=(stats := FrontEndStats()))
    np.testing.assert_array_equal(found, wanted)
    assert stats.rotated == (orientation > 1)


@pytest.mark.parametrize("orientation", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_images_stand_as_opencv_reads_them(orientation: int, kind: str) -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'veriquant[align]'")
    exif = Image.Exif()
    exif[0x0112] = orientation
    coarse = np.kron(pixels(shape=(2, 3, 3)), np.ones((8, 8, 1), np.uint8))
    sample = encoded(Image.fromarray(coarse), kind, exif=exif, quality=95)
    wanted = cv2.imdecode(np.frombuffer(sample.read(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    found = decode(sample)
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).mean() < 6


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_only_exif_turns_an_image(kind: str) -> None:
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    )
    sample = encoded(Image.fromarray(pixels(shape=(8, 12, 3))), kind, xmp=xmp)
    assert decode(sample, stats=(stats := FrontEndStats())).shape == (8, 12, 3)
    assert stats.rotated == 0


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_metadata_over_good_pixels() -> None:
    sample = encoded(Image.fromarray(pixels()), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff garbage")
    stats = FrontEndStats()
    decode(sample, stats=stats)
    assert (stats.images, stats.rotated) == (1, 0)
    sample = encoded(Image.fromarray(pixels()), "JPEG", exif=b"Exif\0\0nonsense")
    decode(sample, stats=stats)
    assert (stats.images, stats.rotated) == (2, 0)


def test_a_strange_orientation_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 77
    decode(encoded(Image.fromarray(pixels()), "JPEG", exif=exif), (16, 16), stats := FrontEndStats())
    assert stats.rotated == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_truncated_files_are_named(tmp_path: Path, draw, kind: str, part: float) -> None:
    content = draw(1, size=(64, 64), kind=kind)
    path = tmp_path / "half.img"
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(VeriQuantError, match=r"half\.img is truncated or damaged \(\d+ bytes\)"):
        decode(Sample("half", path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"x\.jpg is empty \(0 bytes\)"),
        (b"hello, world", r"x\.jpg is not an image: its 12 bytes start with b'hello, w'"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", r"x\.jpg is not an image"),
        (b"\xff\xd8\xff", r"x\.jpg is truncated or damaged \(3 bytes\)"),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    with pytest.raises(VeriQuantError, match=message):
        decode(Sample("x", path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(VeriQuantError, match=r"cannot read image .*gone\.jpg: No such file"):
        decode(Sample("gone", tmp_path / "gone.jpg"))


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(VeriQuantError, match="floating-point pixels"):
        decode(encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"))


@pytest.mark.parametrize(
    ("width", "height"), [(2**31 - 1, 2**31 - 1), (40_000, 40_000), (9_000, 9_000), (5_000, 5_000), (16_000_001, 1)]
)
def test_a_header_alone_gets_no_memory(width: int, height: int) -> None:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with pytest.raises(VeriQuantError, match=r"is refused: .*(pixels|exceeds limit)"):
            decode(Sample("bomb.png", content=content))


def test_a_decompression_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(VeriQuantError, match="is refused: Image size"):
        decode(encoded(Image.fromarray(pixels())))


def test_a_sample_of_nothing_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="neither a path nor content"):
        Sample("x").read()


def test_the_first_bad_image_in_order_is_reported(tmp_path: Path, draw) -> None:
    samples = []
    for number in range(60):
        path = tmp_path / f"{number:02}.jpg"
        draw(number, path)
        samples.append(Sample(path.name, path))
    for number in (33, 34, 50):
        (tmp_path / f"{number}.jpg").write_bytes(b"broken")
    batches = image_batches(samples, SPEC, 10, threads=4)
    taken = [next(batches) for _ in range(3)]
    assert len(taken) == 3
    with pytest.raises(VeriQuantError, match=r"33\.jpg is not an image"):
        next(batches)
    assert workers() == 0


def test_work_ahead_is_bounded_and_ends_with_the_iterator(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    real = module.decode

    def counting(sample: Sample, *rest: object, **more: object) -> np.ndarray:
        read.append(sample.name)
        return real(sample, *rest, **more)

    monkeypatch.setattr(module, "decode", counting)
    content = encoded(Image.fromarray(pixels())).read()
    samples = [Sample(str(number), content=content) for number in range(2000)]
    batches = image_batches(samples, SPEC, 20, threads=2)
    next(batches)
    deadline = time.monotonic() + 5
    seen = -1
    while seen != len(read) and time.monotonic() < deadline:
        seen = len(read)
        time.sleep(0.2)
    assert workers() > 0
    assert len(read) <= 20 * 5
    batches.close()
    assert workers() == 0
    assert len(read) < 200

    batches = image_batches(samples, SPEC, 20)
    next(batches)
    del batches
    assert workers() == 0


@pytest.mark.parametrize(("batch_size", "threads", "what"), [(0, None, "batch size"), (1, 0, "decoding threads")])
def test_impossible_settings(batch_size: int, threads: int | None, what: str) -> None:
    with pytest.raises(VeriQuantError, match=f"{what} must be at least 1, found 0"):
        image_batches([], SPEC, batch_size, threads=threads)


@pytest.mark.real
def test_a_real_crop_passes_through_untouched(real: Path) -> None:
    paths = sorted((real / "faces" / "lfw-112x112" / "Aaron_Peirsol").iterdir())
    stats = FrontEndStats()
    (batch,) = image_batches([Sample(p.name, p) for p in paths], CONVENTIONS["raw"], 64, stats=stats)
    assert batch.shape == (len(paths), 3, 112, 112)
    assert stats.note() == ""
    np.testing.assert_array_equal(batch[0], np.asarray(Image.open(paths[0])).transpose(2, 0, 1))
