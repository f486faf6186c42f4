"""Images on disk become float32 batches: decoded ahead on a bounded pool of threads, in order.

What is done to an image, in this order:

1. it is decoded; the first frame of several is taken;
2. the EXIF orientation is applied, so that a photograph stands upright as every viewer shows it, and as the field's
   readers that build on OpenCV (``imread``, ``imdecode``; InsightFace's evaluation and RecordIO packs) give it.
   TIFF's own tag counts; orientations in XMP or in old PNG text do not, as OpenCV knows neither;
3. greyscale, palette, CMYK and 16-bit images become 8-bit RGB; an alpha channel is ignored;
4. where the size differs from the specification's, the image is stretched to it, bilinear with antialiasing;
5. where the sample says so (`Sample.mirrored`), left and right are exchanged;
6. for a network that takes grey images, the luma (ITU-R BT.601) takes the place of the colours;
7. ``(pixel - mean) / std`` in the specification's colour order and layout.

Steps 2 to 5 are counted in a `FrontEndStats`, so that nothing is altered in silence. An aligned face crop passes
through untouched.
"""

from __future__ import annotations

import io
import os
import warnings
from collections import Counter, deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from veriquant.errors import VeriQuantError
from veriquant.frontends.sample import Sample
from veriquant.frontends.spec import InputSpec

Batch = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

#: Formats that Pillow may try. Its full list includes EPS, which starts Ghostscript.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM", "GIF", "JPEG2000")

#: The largest image that is read, and from which size on its file must have a byte for so many pixels: a photograph
#: has one for twenty at most.
_MOST_PIXELS, _LARGE, _PIXELS_A_BYTE = 64_000_000, 16_000_000, 200
# Pillow's own limit lies above; what it merely warns of is refused here.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)

_CHUNK = 16
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"RIFF", b"II*\0", b"MM\0*", b"GIF8", b"\0\0\0\x0cjP")


@dataclass
class FrontEndStats:
    """What the front end did to the images that it was given; pass one to `image_batches` to have it filled."""

    images: int = 0
    resized: int = 0
    rotated: int = 0
    """Turned upright by their EXIF orientation."""
    converted: int = 0
    """Not 8-bit RGB (greyscale, palette, CMYK, alpha, 16-bit), or not 8-bit grey where the network takes grey."""
    grey: int = 0
    """Shown in grey, as the network takes them."""
    mirrored: int = 0
    """Shown mirrored because the sample says so."""
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    """(height, width) of the images that were resized."""

    def add(self, other: FrontEndStats) -> None:
        """Add the counts of `other` to these."""
        self.images += other.images
        self.resized += other.resized
        self.rotated += other.rotated
        self.converted += other.converted
        self.grey += other.grey
        self.mirrored += other.mirrored
        self.sizes.update(other.sizes)

    def note(self) -> str:
        """Return a sentence that says what was altered, empty where every image passed through untouched."""
        parts = []
        if self.resized:
            common = ", ".join(f"{count} of {w}×{h}" for (h, w), count in self.sizes.most_common(3))
            more = ", …" if len(self.sizes) > 3 else ""
            parts.append(f"{self.resized} resized (width×height: {common}{more})")
        if self.converted:
            parts.append(f"{self.converted} converted to {'grey' if self.grey else 'RGB'}")
        if self.rotated:
            parts.append(f"{self.rotated} turned upright by EXIF")
        if self.mirrored:
            parts.append(f"{self.mirrored} mirrored")
        return f"of {self.images} images {'; '.join(parts)}" if parts else ""


def image_batches(
    samples: Sequence[Sample],
    spec: InputSpec,
    batch_size: int,
    *,
    threads: int | None = None,
    stats: FrontEndStats | None = None,
) -> Generator[Batch, None, None]:
    """Yield `samples` in order as float32 batches shaped by `spec`; the last batch may be smaller.

    Images are decoded ahead on `threads` threads (None: as many as there are cores, at most 4); the work in flight is
    bounded, so memory is too. The first image, in order, that cannot be decoded raises `VeriQuantError` naming its
    file. The threads end with the iterator, also where it is closed or dropped half-way. `stats` counts the images of
    the batches that were yielded. For mirror images see `mirror`.
    """
    if batch_size < 1:
        raise VeriQuantError(f"the batch size must be at least 1, found {batch_size}")
    if threads is not None and threads < 1:
        raise VeriQuantError(f"the number of decoding threads must be at least 1, found {threads}")
    return _batches(samples, spec, batch_size, threads or min(4, _cores()), stats)


def mirror(batch: Batch, layout: Literal["NCHW", "NHWC"]) -> Batch:
    """Return the left-right mirror images of a batch, for flip test-time augmentation."""
    return np.ascontiguousarray(batch[..., ::-1] if layout == "NCHW" else batch[:, :, ::-1])


def decode(
    sample: Sample, size: tuple[int, int] | None = None, stats: FrontEndStats | None = None, *, grey: bool = False
) -> Pixels:
    """Return one image as uint8 RGB (height, width, 3), upright, stretched to `size` (height, width) where given.

    A sample that is `mirrored` comes with left and right exchanged. `grey`: it will be shown in grey, so that `stats`
    do not count a grey image among the converted ones; its three colours are equal.
    """
    content = sample.read()
    counts = FrontEndStats() if stats is None else stats
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
        _check_size(*image.size, len(content))
        image, turned = _upright(image)
        counts.rotated += turned
        counts.converted += image.mode != ("L" if grey else "RGB")
        counts.grey += grey
        if image.mode != "RGB":
            image = _rgb(image)
        if size is not None and image.size != (size[1], size[0]):
            counts.sizes[image.size[1], image.size[0]] += 1
            counts.resized += 1
            image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        if sample.mirrored:
            counts.mirrored += 1
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        flat = image.tobytes()
    except Exception as error:  # Pillow's decoders raise almost anything on damaged content
        raise VeriQuantError(_complaint(sample, content, error)) from error
    counts.images += 1
    return np.frombuffer(flat, np.uint8).reshape(image.size[1], image.size[0], 3)


def normalise(pixels: Pixels, spec: InputSpec) -> Batch:
    """Return uint8 RGB images (n, height, width, 3) as a float32 batch in the specification's order and layout."""
    batch = _empty(len(pixels), spec)
    expected = (*spec.size, 3)
    if pixels.shape[1:] != expected:
        raise ValueError(f"expected images of shape {expected}, found {pixels.shape[1:]}")
    normaliser = _Normaliser(spec)
    for image, out in zip(pixels, batch, strict=True):
        normaliser(image, out)
    return batch


class _Normaliser:
    """``(pixel - mean) / std`` of one RGB image, written where it belongs in a batch.

    One image at a time stays in the cache, float32 throughout; a step that does nothing is left out.
    """

    def __init__(self, spec: InputSpec) -> None:
        self.channels_first = spec.layout == "NCHW"
        self.reverse = spec.color == "BGR"
        self.grey = spec.color == "GREY"
        self.mean = self._constant(spec.mean, spec)
        self.scale = self._constant(tuple(1 / value for value in spec.std), spec)
        self.subtracts = any(spec.mean)
        self.scales = any(value != 1 for value in spec.std)

    def _constant(self, values: tuple[float, ...], spec: InputSpec) -> npt.NDArray[np.float32]:
        if len(set(values)) == 1:
            return np.asarray(values[0], dtype=np.float32)
        array = np.asarray(values, dtype=np.float32)
        # channels last: one long row per line of the image, since a loop of three is slow
        return array[:, None, None] if self.channels_first else np.tile(array, spec.size[1])

    def __call__(self, image: Pixels, out: Batch) -> None:
        if self.reverse:
            image = image[:, :, ::-1]
        if self.grey:
            image = luma(image)
        if self.channels_first:
            image = image.transpose(2, 0, 1)
        else:
            image, out = image.reshape(image.shape[0], -1), out.reshape(out.shape[0], -1)
        if self.subtracts:
            np.subtract(image, self.mean, out=out)
        else:
            np.copyto(out, image)
        if self.scales:
            np.multiply(out, self.scale, out=out)


def luma(image: Pixels) -> Pixels:
    """Return the grey image, uint8 (height, width, 1), of an RGB one, as Pillow computes it (ITU-R BT.601)."""
    weighted = image.astype(np.uint32) @ np.array([19595, 38470, 7471], dtype=np.uint32)
    return ((weighted + 0x8000) >> 16).astype(np.uint8)[:, :, None]


def _batches(
    samples: Sequence[Sample], spec: InputSpec, batch_size: int, threads: int, stats: FrontEndStats | None
) -> Generator[Batch, None, None]:
    Image.preinit()  # importing the decoders is not safe on several threads at once
    normaliser = _Normaliser(spec)
    chunk = min(_CHUNK, -(-batch_size // threads))
    ahead = max(2, -(-2 * threads * _CHUNK // batch_size))
    waiting: deque[tuple[Batch, list[Future[FrontEndStats]]]] = deque()

    def fill(part: Sequence[Sample], out: Batch) -> FrontEndStats:
        counts = FrontEndStats()
        for sample, place in zip(part, out, strict=True):
            normaliser(decode(sample, spec.size, counts, grey=normaliser.grey), place)
        return counts

    def finish() -> Batch:
        batch, parts = waiting.popleft()
        for part in parts:
            counts = part.result()
            if stats is not None:
                stats.add(counts)
        return batch

    pool = ThreadPoolExecutor(threads, thread_name_prefix="veriquant-decode")
    try:
        for start in range(0, len(samples), batch_size):
            chosen = samples[start : start + batch_size]
            batch = _empty(len(chosen), spec)
            parts = [
                pool.submit(fill, chosen[at : at + chunk], batch[at : at + chunk])
                for at in range(0, len(chosen), chunk)
            ]
            waiting.append((batch, parts))
            if len(waiting) > ahead:
                yield finish()
        while waiting:
            yield finish()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _empty(count: int, spec: InputSpec) -> Batch:
    return np.empty(spec.batch_shape(count), dtype=np.float32)


def _upright(image: Image.Image) -> tuple[Image.Image, bool]:
    tiff = image.format == "TIFF"
    stored = _orientation(image.getexif()) if tiff else 1
    image.load()  # a PNG's metadata may stand behind its pixels
    if tiff:  # Pillow has turned it while loading, and has forgotten its orientation
        return image, stored in _TURNS
    if not (content := image.info.get("exif")):
        return image, False
    exif = Image.Exif()
    with suppress(Exception):  # damaged metadata over good pixels: every viewer shows them as they are stored
        exif.load(content)
    turn = _TURNS.get(_orientation(exif))
    return (image, False) if turn is None else (image.transpose(turn), True)


def stored_upright(image: Image.Image) -> bool:
    """Return whether an opened image's width is its width as it stands upright; its pixels need not be read."""
    exif = Image.Exif()
    with suppress(Exception):
        if image.format == "TIFF":
            exif = image.getexif()
        elif content := image.info.get("exif"):
            exif.load(content)
    return _orientation(exif) < 5


def _orientation(exif: Image.Exif) -> int:
    with suppress(Exception):
        return int(exif.get(_ORIENTATION, 1))
    return 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit greyscale, which convert() would clip at 255
        wide = np.asarray(image)
        return Image.fromarray((wide.clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("it holds floating-point pixels, whose range nobody can know")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


class _TooLargeError(ValueError):
    """An image that would take far more memory than its file lets expect."""


def _check_size(width: int, height: int, size: int) -> None:
    """Refuse, before any pixel is decoded, what nobody photographs: a header costs nothing, the pixels gigabytes."""
    pixels = width * height
    if pixels > _MOST_PIXELS or (pixels > _LARGE and pixels > _PIXELS_A_BYTE * size):
        raise _TooLargeError(
            f"its header says {width}×{height} pixels, in {size} bytes; up to {_MOST_PIXELS / 1e6:.0f} million pixels "
            "are read, and such large ones of a photograph's size on disk"
        )


def _complaint(sample: Sample, content: bytes, error: Exception) -> str:
    where = f"image {sample.where}"
    if not content:
        return f"{where} is empty (0 bytes)"
    if isinstance(error, Image.DecompressionBombError | _TooLargeError):
        return f"{where} is refused: {error}"
    if not content.startswith(_MAGIC):
        return f"{where} is not an image: its {len(content)} bytes start with {content[:8]!r}"
    why = "its header makes no sense" if isinstance(error, UnidentifiedImageError) else error
    return f"{where} is truncated or damaged ({len(content)} bytes): {why}"


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
