"""Images in and out: decoded within a limit, encoded as their source was, marked as what they are.

Encoding follows the source's format, quantisation tables and chroma subsampling, so that a model cannot learn the
compression in place of the object.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, JpegImagePlugin, PngImagePlugin

from infra.marks import xmp
from infra.vp8 import quantizer
from longtail.duplicates import Fingerprint
from longtail.errors import BrokenImage
from longtail.samples import Provenance

Pixels = NDArray[np.uint8]
Image.MAX_IMAGE_PIXELS = None  # our own limit is checked below, before a pixel is decoded
ORIENTATION = 0x0112
SMALL_PX = 128
END_OF_FILE = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
"""What the last bytes of a whole file hold, for the formats that end with a mark."""
CONTENT_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}


@dataclass(frozen=True)
class Codec:
    """How an image was stored: enough to store another the same way."""

    format: str
    mode: str
    quantization: dict[int, list[int]] | None = None
    subsampling: int | None = None
    palette: bytes | None = None
    """RGB triples of a palette image, at most 256."""
    quality: int | None = None
    """Of a lossy WebP, which does not say: the one at which its pixels are quantised as finely again."""


def decode(data: bytes, *, what: str, max_pixels: int) -> tuple[Pixels, Codec]:
    """(HxWx3 uint8, codec): orientation applied, alpha over white, gray spread over three channels.

    Raises BrokenImage, naming `what`, for anything that is not a whole image of at most `max_pixels`.
    """
    image = opened(data, what=what, max_pixels=max_pixels)
    tables = getattr(image, "quantization", None)
    sampling = JpegImagePlugin.get_sampling(image) if image.format == "JPEG" else None
    codec = Codec(
        image.format or "", image.mode, {int(k): list(v) for k, v in tables.items()} if tables else None, sampling,
        palette=bytes(image.getpalette("RGB") or ()) if image.mode == "P" else None,
        quality=webp_quality(image, data) if image.format == "WEBP" else None,
    )  # fmt: skip
    return np.asarray(upright_rgb(image)), codec


def webp_quality(image: Image.Image, data: bytes) -> int | None:
    """The quality at which this image is quantised as its file was; None for a lossless one."""
    wanted = quantizer(data)
    if wanted is None:
        return None

    def finer(quality: int) -> int:
        """How much finer than the file; grows with quality."""
        return wanted - (quantizer(saved(image, "WEBP", quality=quality)) or 0)

    low, high = 0, 100
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if finer(middle) > 0 else (middle, high)
    return min((low, high), key=lambda quality: abs(finer(quality)))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = BytesIO()
    image.save(out, format=kind, **options)
    return out.getvalue()


def upright_rgb(image: Image.Image) -> Image.Image:
    """As a viewer shows it on white."""
    upright = ImageOps.exif_transpose(image)
    if "A" in upright.mode or "transparency" in upright.info:
        rgba = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba)
    return upright.convert("RGB")


def small(data: bytes, *, what: str, max_pixels: int) -> Image.Image:
    """Upright RGB for looking at: a JPEG is decoded no larger than needed for SMALL_PX. Raises BrokenImage."""
    return upright_rgb(opened(data, what=what, max_pixels=max_pixels, least_side=SMALL_PX))


def fingerprint(data: bytes, image: Image.Image) -> Fingerprint:
    """A file's hash, and how its small image looks (see `longtail.duplicates`)."""
    gray = image.convert("L")
    wide, tall = (np.asarray(gray.resize(size, Image.Resampling.BOX), dtype=np.int16) for size in ((9, 8), (8, 9)))
    bits = np.concatenate([(wide[:, 1:] > wide[:, :-1]).ravel(), (tall[1:] > tall[:-1]).ravel()])
    colours = np.asarray(image.resize((8, 8), Image.Resampling.BOX), dtype=np.uint8)
    return Fingerprint(hashlib.sha256(data).hexdigest(), np.packbits(bits).tobytes(), colours.tobytes())


def opened(data: bytes, *, what: str, max_pixels: int, least_side: int | None = None) -> Image.Image:
    """The decoded image; no larger than `least_side` asks for, where the format can skip detail."""
    try:
        image = Image.open(BytesIO(data))
        check_kind(image, what=what, max_pixels=max_pixels)
        if least_side:
            image.draft(image.mode, (least_side, least_side))
        image.load()
    except BrokenImage:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
        raise BrokenImage(f"{what}: cannot be decoded as an image ({error})") from error
    return image


def gray(data: bytes, *, what: str, max_pixels: int) -> Pixels:
    """HxW uint8, orientation applied: a mask. Raises BrokenImage."""
    return np.asarray(ImageOps.exif_transpose(opened(data, what=what, max_pixels=max_pixels)).convert("L"))


def peek(head: bytes, tail: bytes, *, what: str, max_pixels: int) -> tuple[int, int] | None:
    """(width, height) as a viewer sees them, from a file's first and last bytes; None where only the whole file can tell.

    Raises BrokenImage for an image that is too large or of a kind that we cannot write back.
    """
    try:
        image = Image.open(BytesIO(head))
        exif = image.getexif()
    except (OSError, SyntaxError, ValueError, EOFError, IndexError):
        return None
    check_kind(image, what=what, max_pixels=max_pixels)
    if END_OF_FILE.get(image.format or "", b"no end is known") not in tail:
        return None
    return upright_size(image, exif)


def check_kind(image: Image.Image, *, what: str, max_pixels: int) -> None:
    """Raises BrokenImage for an image that is too large to decode, or whose depth or colours we would not give back."""
    if image.width * image.height > max_pixels:
        raise BrokenImage(f"{what}: {image.width}x{image.height} is more than the {max_pixels} pixels allowed")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        raise BrokenImage(f"{what}: has more than 8 bits a channel (mode {image.mode}), which is not supported; convert it to 8 bits")
    if image.mode in ("LAB", "HSV"):
        raise BrokenImage(f"{what}: has {image.mode} colours, which are not supported; convert it to RGB")
    if getattr(image, "n_frames", 1) > 1:
        raise BrokenImage(f"{what}: has {getattr(image, 'n_frames', 0)} frames; expected a single image")


def upright_size(image: Image.Image, exif: Image.Exif) -> tuple[int, int]:
    return (image.height, image.width) if exif.get(ORIENTATION, 1) in (5, 6, 7, 8) else image.size


def size_of(data: bytes, *, what: str, max_pixels: int) -> tuple[int, int]:
    """(width, height) as a viewer sees them, after decoding the whole image."""
    image = opened(data, what=what, max_pixels=max_pixels)
    return upright_size(image, image.getexif())


def encode(pixels: Pixels, codec: Codec, *, provenance: Provenance | None, sample_id: str) -> bytes:
    """The pixels stored as the codec says, marked as what it is (see `infra.marks`)."""
    image = Image.fromarray(pixels)
    options: dict[str, Any] = {}
    packet = xmp(provenance, sample_id) if provenance else None
    if codec.format == "JPEG":
        if codec.mode in ("L", "CMYK"):
            image = image.convert(codec.mode)
        options = {"qtables": codec.quantization, "subsampling": codec.subsampling if codec.subsampling in (0, 1, 2) else 0}
        if codec.mode == "L":
            options.pop("subsampling")
        if packet:
            options["xmp"] = packet.encode()
    elif codec.format == "WEBP":
        options = {"lossless": True} if codec.quality is None else {"quality": codec.quality}
        if packet:
            options["xmp"] = packet.encode()
    else:
        if codec.mode == "L":
            image = image.convert("L")
        elif codec.mode == "1":
            image = image.convert("1", dither=Image.Dither.NONE)
        elif codec.palette:
            image = in_palette(pixels, codec.palette)
        if packet:
            info = PngImagePlugin.PngInfo()
            info.add_itxt("XML:com.adobe.xmp", packet)
            options["pnginfo"] = info
    return saved(image, stored_format(codec), **options)


def in_palette(pixels: Pixels, palette: bytes) -> Image.Image:
    """The pixels as indices of the palette's colours: exact for those that are in it, else the nearest."""
    colours = np.frombuffer(palette, dtype=np.uint8).reshape(-1, 3)
    found, inverse = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    distance = [np.square(part[:, None].astype(np.int32) - colours).sum(2).argmin(1) for part in np.array_split(found, len(found) // 4096 + 1)]
    image = Image.fromarray(np.concatenate(distance)[inverse].reshape(pixels.shape[:2]).astype(np.uint8), mode="P")
    image.putpalette(palette)
    return image


def stored_format(codec: Codec) -> str:
    """The format that output is stored in: the source's own, PNG where we have no encoder for that."""
    return codec.format if codec.format in CONTENT_TYPES else "PNG"


def to_png(pixels: Pixels) -> bytes:
    return saved(Image.fromarray(pixels), "PNG")
