"""What a file says of its own origin, and what a registration makes of that."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from infra.formats.source import check_images
from infra.images import decode, encode
from infra.marks import Mark, read_mark
from longtail.datasets import ClassMap
from longtail.samples import DIGITAL_SOURCE_TYPES, Provenance, Sample

NAME = 'Blut "rot" <é> & söhne'
TRAINED = DIGITAL_SOURCE_TYPES["synthesis"]


def record(mode="inpaint"):
    return Provenance(
        mode=mode, class_name=NAME, seed=2**62, novelty=0.2, model="m", model_version=3, model_uri="s3://b/'m", background={"sample": "real-1"},
        exemplar=None, box_xyxy=(0.5, 0, 1, 1), scores={"seam": 0.5},
    )  # fmt: skip


def stored(format="PNG", **options):
    out = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(out, format=format, **options)
    return out.getvalue()


def made(format="PNG", mode="inpaint"):
    pixels, codec = decode(stored(format), what="x", max_pixels=10_000)
    return encode(pixels, codec, provenance=record(mode), sample_id="syn-1")


def marked_elsewhere(source_type):
    """As another tool would write it: an element, not an attribute."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", f"<rdf:Description><Iptc4xmpExt:DigitalSourceType>\n {source_type}</Iptc4xmpExt:DigitalSourceType></rdf:Description>")
    return stored(pnginfo=info)


class OneFile:
    """A bucket that holds one object."""

    def __init__(self, data):
        self.data = data

    def read_ends(self, uri, *, etag, size_bytes, head, tail):
        return self.data[:head], self.data[-tail:]

    def read(self, uri, *, etag=None):
        return self.data


def checked(data, *, split="train", **fields):
    """(sample or None, problem or None) of one image of a dataset."""
    sample = Sample(
        id="real-9", path="a.png", uri="s3://b/a.png", etag="e", size_bytes=len(data), width=0, height=0, split=split, annotations=(), **fields
    )
    good, problems = check_images(
        "imagefolder", [sample], OneFile(data), classes=ClassMap({0: NAME, 1: "other"}), max_pixels=10_000, report=lambda count: None
    )
    return (good[0] if good else None), (problems[0] if problems else None)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("mode", ["synthesis", "inpaint", "copy_paste"])
def test_every_file_says_how_it_was_made(format, mode):
    data = made(format, mode)
    assert read_mark(data) == Mark(DIGITAL_SOURCE_TYPES[mode], "syn-1", record(mode))
    assert b"longtail:syn-1" in data
    with Image.open(BytesIO(data)) as image:
        packet = image.info.get("xmp") or image.info["XML:com.adobe.xmp"]
    told = ElementTree.fromstring(packet)[0][0].attrib
    assert told["{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"] == DIGITAL_SOURCE_TYPES[mode]
    assert told["{http://purl.org/dc/elements/1.1/}identifier"] == "longtail:syn-1"


def test_a_real_image_has_no_mark():
    assert read_mark(stored("JPEG")) is None
    assert checked(stored("JPEG"))[0].origin == "real"


def test_an_image_of_ours_that_was_copied_about_is_known_again_without_its_sidecar():
    sample, problem = checked(made())
    assert (sample.id, sample.origin, sample.provenance, problem) == ("syn-1", "synthetic", record(), None)


@pytest.mark.parametrize("split", ["val", "test"])
def test_nothing_marked_enters_val_or_test(split):
    for data in (made(), made("JPEG", "copy_paste"), marked_elsewhere(TRAINED)):
        sample, problem = checked(data, split=split)
        assert sample is None
        assert problem == f"a.png: its file is marked as synthetic and lies in {split}; nothing synthetic enters val or test"


def test_what_another_generator_made_is_refused_since_nothing_says_from_what():
    sample, problem = checked(marked_elsewhere(TRAINED))
    assert sample is None
    assert problem == f"a.png: its file is marked as synthetic ({TRAINED}), and nothing says from what it was made; take it out"


@pytest.mark.parametrize("kind", ["digitalCapture", "compositeCapture", "negativeFilm"])
def test_what_a_camera_marked_is_real(kind):
    assert checked(marked_elsewhere(f"http://cv.iptc.org/newscodes/digitalsourcetype/{kind}"))[0].origin == "real"


def test_a_sidecar_that_contradicts_the_file_is_a_problem():
    sample, problem = checked(made(), origin="synthetic", provenance=replace(record(), seed=1))
    assert sample is None
    assert problem == "a.png: its file is marked as sample syn-1, and what lies beside it says real-9"


def test_a_class_that_the_dataset_does_not_have_is_a_problem():
    pixels, codec = decode(stored(), what="x", max_pixels=10_000)
    data = encode(pixels, codec, provenance=replace(record(), class_name="nobody"), sample_id="syn-1")
    assert "unknown class 'nobody'" in checked(data)[1]
