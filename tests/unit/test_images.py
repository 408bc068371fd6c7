"""Decoding within limits, and encoding as the source was, with its marks."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from infra.images import decode, encode, peek, size_of
from longtail.errors import BrokenImage
from longtail.samples import Provenance

LIMIT = 1_000_000


def stored(image, format, **options):
    out = BytesIO()
    image.save(out, format=format, **options)
    return out.getvalue()


def picture(size=(40, 30), mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def record(mode="inpaint"):
    return Provenance(
        mode=mode, class_name="c", seed=1, novelty=0.2, model=None, model_version=None, model_uri=None, background=None, exemplar=None,
        box_xyxy=(0, 0, 1, 1),
    )  # fmt: skip


def test_a_decompression_bomb_is_refused_before_it_is_decoded():
    bomb = stored(Image.new("1", (30_000, 30_000)), "PNG")
    with pytest.raises(BrokenImage, match=r"bomb.png: 30000x30000 is more than the 1000000 pixels"):
        size_of(bomb, what="bomb.png", max_pixels=LIMIT)


@pytest.mark.parametrize(
    "data",
    [pytest.param(b"", id="empty"), pytest.param(b"not an image", id="text"), pytest.param(stored(picture(), "JPEG")[:300], id="truncated_jpeg"),
     pytest.param(stored(picture(), "PNG")[:200], id="truncated_png")],
)  # fmt: skip
def test_what_is_not_a_whole_image_is_refused_by_name(data):
    with pytest.raises(BrokenImage, match=r"a/b\.jpg"):
        decode(data, what="a/b.jpg", max_pixels=LIMIT)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_mode_becomes_three_channels(mode):
    format = "JPEG" if mode == "CMYK" else "PNG"
    pixels, _ = decode(stored(picture(mode=mode), format), what="x", max_pixels=LIMIT)
    assert pixels.shape == (30, 40, 3)


def test_cmyk_goes_out_as_cmyk():
    pixels, codec = decode(stored(picture(mode="CMYK"), "JPEG"), what="x", max_pixels=LIMIT)
    again, kept = decode(encode(pixels, codec, provenance=record(), sample_id="s"), what="y", max_pixels=LIMIT)
    assert kept.mode == "CMYK"
    assert np.abs(again.astype(int) - pixels).mean() < 3


def test_more_than_eight_bits_a_channel_is_refused():
    data = stored(Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50), "PNG")
    with pytest.raises(BrokenImage, match="more than 8 bits a channel"):
        decode(data, what="x", max_pixels=LIMIT)
    with pytest.raises(BrokenImage, match="more than 8 bits a channel"):
        peek(data, data[-64:], what="x", max_pixels=LIMIT)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_peek_at_the_ends_tells_the_size_that_decoding_tells(format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = stored(picture(), format, exif=exif)
    pixels, _ = decode(data, what="x", max_pixels=LIMIT)
    assert peek(data[:4096], data[-64:], what="x", max_pixels=LIMIT) == (pixels.shape[1], pixels.shape[0])


def test_a_peek_at_a_cut_file_leaves_it_to_decoding():
    for format in ("JPEG", "PNG"):
        data = stored(picture(), format)[:-20]
        assert peek(data, data[-64:], what="x", max_pixels=LIMIT) is None


def test_transparency_is_laid_on_white():
    pixels, _ = decode(stored(Image.new("RGBA", (4, 4), (9, 9, 9, 0)), "PNG"), what="x", max_pixels=LIMIT)
    assert pixels.min() == 255


def test_orientation_is_applied():
    image, exif = picture((40, 30)), Image.Exif()
    exif[0x0112] = 6
    data = stored(image, "JPEG", exif=exif)
    assert size_of(data, what="x", max_pixels=LIMIT) == (30, 40)
    assert decode(data, what="x", max_pixels=LIMIT)[0].shape == (40, 30, 3)


@pytest.mark.parametrize(("quality", "subsampling"), [(60, 2), (90, 0), (75, 1)])
def test_jpeg_goes_out_with_the_tables_and_subsampling_it_came_with(quality, subsampling):
    data = stored(picture(), "JPEG", quality=quality, subsampling=subsampling)
    pixels, codec = decode(data, what="x", max_pixels=LIMIT)
    _, again = decode(encode(pixels, codec, provenance=record(), sample_id="s"), what="y", max_pixels=LIMIT)
    assert (again.format, again.quantization, again.subsampling) == (codec.format, codec.quantization, codec.subsampling)


def test_png_goes_out_pixel_for_pixel():
    pixels, codec = decode(stored(picture(), "PNG"), what="x", max_pixels=LIMIT)
    assert np.array_equal(decode(encode(pixels, codec, provenance=record(), sample_id="s"), what="y", max_pixels=LIMIT)[0], pixels)
