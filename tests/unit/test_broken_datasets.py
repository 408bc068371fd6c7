"""A corpus of broken datasets: each gets a clear problem that names the file; none crashes, hangs or is taken in part.

The same readers and checks that a registration uses, on files in memory; tests/integration/test_bad_input.py has some through the API.
"""

from __future__ import annotations

import io
import itertools
import json
import re
import struct
import zlib

import pytest
from PIL import Image

from infra.formats.source import check_images, read_source
from infra.objects import ObjectInfo
from longtail.datasets import ClassMap
from longtail.errors import LongtailError


def stored(size=(40, 30), mode="RGB", format="JPEG", **options):
    out = io.BytesIO()
    Image.new(mode, size).save(out, format, **options)
    return out.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return stored(exif=exif)


def animated(format):
    out = io.BytesIO()
    frames = [Image.new("RGB", (40, 30), (n, 0, 0)) for n in (0, 200)]
    frames[0].save(out, format, save_all=True, append_images=frames[1:])
    return out.getvalue()


def png_header(width, height):
    """A PNG that ends after claiming a size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + struct.pack(">I", 99) + b"IDATxx"


def damaged_png():
    data = bytearray(stored(format="PNG"))
    data[data.index(b"IDAT") + 6] ^= 0xFF
    return bytes(data[:-12])


IMAGE = {"id": 1, "file_name": "a.jpg", "width": 40, "height": 30}
LABEL = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 10, 10]}
NAMES = [{"id": 1, "name": "c"}]


def body(*, images=(IMAGE,), annotations=(LABEL,), categories=NAMES, encoding="utf-8"):
    return json.dumps({"images": list(images), "annotations": list(annotations), "categories": list(categories)}).encode(encoding)


def coco(*, image=None, label=None, files=None, **lists):
    """A COCO dataset of one image, with this changed."""
    lists = {"images": [{**IMAGE, **(image or {})}], "annotations": [{**LABEL, **(label or {})}], **lists}
    return {"train.json": body(**lists), "a.jpg": stored(), **(files or {})}


def without(record, key):
    return {k: v for k, v in record.items() if k != key}


def yolo(label="0 0.5 0.5 0.2 0.2", config="train: images\nnames: [c]", **files):
    return {"data.yaml": config.encode(), "images/a.jpg": stored(), "labels/a.txt": label if isinstance(label, bytes) else label.encode(), **files}


def voc(box="<xmin>2</xmin><ymin>2</ymin><xmax>20</xmax><ymax>20</ymax>", name="<name>c</name>", width=40, head="", files=None):
    size = f"<size><width>{width}</width><height>30</height></size>"
    xml = f"{head}<annotation><filename>a.jpg</filename>{size}<object>{name}<bndbox>{box}</bndbox></object></annotation>"
    return {"Annotations/a.xml": xml.encode(), "JPEGImages/a.jpg": stored(), **(files or {})}


ENTITIES = '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]>'
LAUGHS = "\n".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in itertools.pairwise("abcdefghi"))

BROKEN = {
    # JSON as a file
    "json_truncated": ({"train.json": b'{"images": ['}, r"train.json: not readable as JSON"),
    "json_a_list": ({"train.json": b"[1, 2]", "a.jpg": stored()}, r"train.json"),
    "json_latin_1": (coco(files={"train.json": body().replace(b'"c"', b'"\xe5"')}), r"train.json: not readable as JSON"),
    "json_nested_too_deep": ({"train.json": b"[" * 100_000, "a.jpg": stored()}, r"train.json: not readable as JSON"),
    "json_number_too_long": (coco(files={"train.json": b'{"images": [{"id": ' + b"9" * 5000 + b"}]}"}), r"train.json"),
    "json_without_categories": ({"train.json": json.dumps({"images": [IMAGE], "annotations": [LABEL]}).encode(), "a.jpg": stored()}, r"train.json.*categories"),
    # COCO records
    "box_nan": (coco(label={"bbox": [2, float("nan"), 10, 10]}), r"annotation 1: has a value that is not a finite number"),
    "box_infinite": (coco(label={"bbox": [2, 2, float("inf"), 10]}), r"annotation 1: has a value that is not a finite number"),
    "box_negative": (coco(label={"bbox": [2, 2, -10, 10]}), r"annotation 1: box"),
    "box_empty": (coco(label={"bbox": [2, 2, 0, 10]}), r"annotation 1: box"),
    "box_outside_an_image_of_unsaid_size": (
        coco(images=[{"id": 1, "file_name": "a.jpg"}], label={"bbox": [35, 2, 10, 10]}), r"a.jpg: annotation 1: box .* outside its image of 40x30"
    ),
    "box_outside": (coco(label={"bbox": [35, 2, 10, 10]}), r"annotation 1: box .* outside its image"),
    "box_of_three": (coco(label={"bbox": [2, 2, 10]}), r"annotation 1"),
    "box_of_text": (coco(label={"bbox": ["2", "2", "10", "ten"]}), r"annotation 1"),
    "box_null": (coco(label={"bbox": None}), r"annotation 1"),
    "category_unknown": (coco(label={"category_id": 9}), r"annotation 1: category 9"),
    "category_null": (coco(label={"category_id": None}), r"annotation 1: category None"),
    "category_twice": (coco(categories=[{"id": 1, "name": "c"}, {"id": 1, "name": "d"}]), r"category 1"),
    "category_name_twice": (coco(categories=[*NAMES, {"id": 2, "name": "c"}]), r"'c' is the name of categories \[1, 2\]"),
    "category_name_missing": (coco(categories=[{"id": 1}]), r"train.json: category 1: expected"),
    "category_name_a_number": (coco(categories=[{"id": 1, "name": 5}]), r"train.json: category 1: expected"),
    "image_id_twice": (coco(images=[IMAGE, {**IMAGE, "file_name": "b.jpg"}], files={"b.jpg": stored()}), r"train.json: image 1: the id is used twice"),
    "image_listed_twice": (coco(images=[IMAGE, {**IMAGE, "id": 2}]), r"a.jpg: is image 1 of train and image 2 of train"),
    "annotation_id_twice": (coco(annotations=[LABEL, LABEL]), r"annotation 1: the id is used twice"),
    "annotation_of_no_image": (coco(label={"image_id": 7}), r"annotation 1: .*image.* 7"),
    "image_without_file_name": (coco(images=[without(IMAGE, "file_name")]), r"image"),
    "image_without_id": (coco(images=[without(IMAGE, "id")]), r"train.json: image at place 0: has no id"),
    "image_not_there": (coco(image={"file_name": "b.jpg"}), r"'b.jpg' is not below the prefix"),
    "image_width_wrong": (coco(image={"width": 50}), r"a.jpg: the annotations say 50x30, the image is 40x30"),
    "image_width_negative": (coco(image={"width": -40}), r"image 1: width must be a whole number of pixels, found -40"),
    "image_width_text": (coco(image={"width": "wide"}), r"image 1: width must be a whole number"),
    "path_climbs": (coco(image={"file_name": "../a.jpg"}), r"without '\.\.'"),
    "path_climbs_backwards": (coco(image={"file_name": "..\\..\\a.jpg"}), r"a\.jpg"),
    "path_absolute": (coco(image={"file_name": "/etc/passwd"}), r"/etc/passwd"),
    "path_with_nul": (coco(image={"file_name": "a\0.jpg"}), r"a"),
    "polygon_odd": (coco(label={"segmentation": [[1, 2, 3]]}), r"annotation 1"),
    "polygon_nan": (coco(label={"segmentation": [[1, 2, 3, float("nan"), 5, 6]]}), r"annotation 1: has a value that is not a finite number"),
    "rle_of_another_size": (coco(label={"segmentation": {"size": [99, 99], "counts": [9801]}}), r"annotation 1"),
    "rle_too_short": (coco(label={"segmentation": {"size": [30, 40], "counts": [5]}}), r"annotation 1"),
    "rle_unfinished": (coco(label={"segmentation": {"size": [30, 40], "counts": "ooo"}}), r"annotation 1: packed run lengths end"),
    "rle_garbage": (coco(label={"segmentation": {"size": [30, 40], "counts": "\x01\x7f"}}), r"annotation 1"),
    "in_train_and_in_val": (coco(files={"val.json": body(images=[{**IMAGE, "id": 2}], annotations=[])}), r"a.jpg: is image 1 of train and image 2 of val"),
    "categories_disagree": (coco(files={"val.json": body(images=[], annotations=[], categories=[{"id": 1, "name": "other"}])}), r"category 1"),
    # images
    "image_empty": (coco(files={"a.jpg": b""}), r"a.jpg: cannot be decoded"),
    "image_text": (coco(files={"a.jpg": b"<html>not found</html>"}), r"a.jpg: cannot be decoded"),
    "image_svg": (coco(files={"a.jpg": b"<svg xmlns='http://www.w3.org/2000/svg'/>"}), r"a.jpg: cannot be decoded"),
    "jpeg_truncated": (coco(files={"a.jpg": stored()[:300]}), r"a.jpg: cannot be decoded"),
    "png_truncated": (coco(files={"a.jpg": stored(format="PNG")[:60]}), r"a.jpg: cannot be decoded"),
    "png_damaged": (coco(files={"a.jpg": damaged_png()}), r"a.jpg: cannot be decoded"),
    "png_of_16_bits": (coco(files={"a.jpg": stored(mode="I;16", format="PNG")}), r"a.jpg: has more than 8 bits"),
    "tiff_of_floats": (coco(files={"a.jpg": stored(mode="F", format="TIFF")}), r"a.jpg: has more than 8 bits"),
    "tiff_of_two_pages": (coco(files={"a.jpg": animated("TIFF")}), r"a.jpg: has 2 frames"),
    "png_animated": (coco(files={"a.jpg": animated("PNG")}), r"a.jpg: has 2 frames"),
    "webp_animated": (coco(files={"a.jpg": animated("WEBP")}), r"a.jpg: has 2 frames"),
    "lab_colours": (coco(files={"a.jpg": stored(mode="LAB", format="TIFF")}), r"a.jpg: has LAB colours"),
    "header_of_30000": (coco(files={"a.jpg": png_header(30_000, 30_000)}), r"a.jpg: 30000x30000 is more than"),
    "header_of_no_width": (coco(files={"a.jpg": png_header(0, 30)}), r"a.jpg"),
    "turned_by_exif": (coco(files={"a.jpg": turned(6)}), r"annotations say 40x30, the image is 30x40"),
    # YOLO
    "yaml_broken": (yolo(config="train: [images"), r"data.yaml"),
    "yaml_a_list": (yolo(config="- images"), r"data.yaml"),
    "yaml_tag": (yolo(config="train: !!python/object/apply:os.system [ls]\nnames: [c]"), r"data.yaml"),
    "yaml_laughs": (yolo(config=f"a: &a [x]\n{LAUGHS}\ntrain: images\nnames: [c]"), r"data.yaml"),
    "yaml_without_names": (yolo(config="train: images"), r"data.yaml.*names"),
    "yaml_two": (yolo(**{"other.yaml": b"train: images\nnames: [c]"}), r"expected one data.yaml"),
    "yaml_climbs": (yolo(config="path: ../..\ntrain: ../../etc\nnames: [c]"), r"data.yaml"),
    "yaml_names_nothing": (yolo(config="names: [c]"), r"names no image"),
    "yaml_split_not_there": (yolo(config="train: pictures\nnames: [c]"), r"data.yaml: train.*pictures"),
    "yolo_in_two_splits": (yolo(config="train: images\nval: images\nnames: [c]"), r"images/a.jpg: is in train and in val"),
    "yolo_class_out_of_range": (yolo("3 0.5 0.5 0.2 0.2"), r"labels/a.txt: .*1.* class 3"),
    "yolo_class_a_fraction": (yolo("0.5 0.5 0.5 0.2 0.2"), r"labels/a.txt"),
    "yolo_three_numbers": (yolo("0 0.5 0.5 0.2"), r"labels/a.txt"),
    "yolo_words": (yolo("cat 0.5 0.5 0.2 0.2"), r"labels/a.txt"),
    "yolo_nan": (yolo("0 nan 0.5 0.2 0.2"), r"labels/a.txt"),
    "yolo_negative": (yolo("0 0.5 0.5 -0.2 0.2"), r"labels/a.txt|a.jpg"),
    "yolo_odd_polygon": (yolo("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4"), r"labels/a.txt"),
    "yolo_binary": (yolo(b"\xff\xfe\x00\x01"), r"labels/a.txt"),
    "yolo_labels_of_no_image": (yolo(**{"labels/z.txt": b"0 0.5 0.5 0.2 0.2"}), r"labels/z.txt: labels of an image that is in no split"),
    # VOC
    "xml_broken": (voc(files={"Annotations/a.xml": b"<annotation><object>"}), r"Annotations/a.xml"),
    "xml_entities": (voc(head=ENTITIES, name="<name>&c;</name>"), r"Annotations/a.xml"),
    "voc_without_name": (voc(name=""), r"Annotations/a.xml"),
    "voc_box_reversed": (voc("<xmin>20</xmin><ymin>2</ymin><xmax>2</xmax><ymax>20</ymax>"), r"a.xml|a.jpg"),
    "voc_box_of_words": (voc("<xmin>two</xmin><ymin>2</ymin><xmax>20</xmax><ymax>20</ymax>"), r"Annotations/a.xml"),
    "voc_box_nan": (voc("<xmin>nan</xmin><ymin>2</ymin><xmax>20</xmax><ymax>20</ymax>"), r"a.xml|a.jpg"),
    "voc_box_missing_side": (voc("<xmin>2</xmin><ymin>2</ymin><xmax>20</xmax>"), r"Annotations/a.xml"),
    "voc_size_wrong": (voc(width=99), r"annotations say 99x30, the image is 40x30"),
    "voc_image_not_there": (voc(files={"Annotations/b.xml": b"<annotation><filename>b.jpg</filename></annotation>"}), r"b"),
    "voc_list_names_nothing": (voc(files={"ImageSets/Main/train.txt": b"a\nzz\n"}), r"zz"),
    "voc_list_binary": (voc(files={"ImageSets/Main/train.txt": b"\xff\xfe"}), r"ImageSets/Main/train.txt"),
    # masks and folders
    "mask_of_another_size": ({"Crack/a.jpg": stored(), "Crack/a.png": stored((50, 30), "L", "PNG")}, r"its mask is 50x30, the image is 40x30"),
    "mask_broken": ({"Crack/a.jpg": stored(), "Crack/a.png": b"no"}, r"a.png: cannot be decoded"),
    "outside_any_class": ({"cat/a.jpg": stored(), "b.jpg": stored()}, r"b.jpg: an image outside any class folder"),
    "sidecar_broken": ({"cat/a.jpg": stored(), "longtail.json": b"{"}, r"longtail.json"),
    "nothing_of_ours": ({"notes.txt": b"hello"}, r"found none of YOLO"),
}  # fmt: skip

FINE = {
    "cmyk": coco(files={"a.jpg": stored(mode="CMYK")}),
    "palette": coco(files={"a.jpg": stored(mode="P", format="PNG")}),
    "one_bit": coco(files={"a.jpg": stored(mode="1", format="PNG")}),
    "gray_and_alpha": coco(files={"a.jpg": stored(mode="LA", format="PNG")}),
    "rgba": coco(files={"a.jpg": stored(mode="RGBA", format="PNG")}),
    "turned_as_said": coco(image={"width": 30, "height": 40}, files={"a.jpg": turned(6)}),
    "mirrored": coco(files={"a.jpg": turned(2)}),
    "symbols": coco(image={"file_name": "a #1+2%20&=é'\"\U0001f600.jpg"}, files={"a #1+2%20&=é'\"\U0001f600.jpg": stored()}),
    "utf_8_with_mark": coco(files={"train.json": b"\xef\xbb\xbf" + body()}),
    "no_annotations": coco(annotations=[]),
    "no_sizes": coco(images=[{"id": 1, "file_name": "a.jpg"}]),
    "ids_of_text": coco(images=[{**IMAGE, "id": "a"}], label={"image_id": "a", "id": "x"}),
    "run_lengths": coco(label={"segmentation": {"size": [30, 40], "counts": [100, 20, 1080]}, "iscrowd": 1}),
    "packed_run_lengths": coco(label={"segmentation": {"size": [30, 40], "counts": "T3d0hQ1"}}),
    "categories_of_any_number": coco(categories=[{"id": 900000001, "name": " ünï cödé/\\ "}], label={"category_id": 900000001}),
}


class Files:
    """A bucket in memory."""

    def __init__(self, files):
        self.files = files

    def list(self, uri):
        return [ObjectInfo(path, f"{uri}/{path}", "e", len(data)) for path, data in self.files.items()]

    def read(self, uri, *, etag=None):
        return self.files[uri.removeprefix("s3://c/")]

    def read_ends(self, uri, *, etag, size_bytes, head, tail):
        data = self.read(uri)
        return data[:head], data[-tail:]


def looked_at(files):
    """(good samples, problems) as a registration finds them."""
    objects = Files(files)
    try:
        source, found = read_source(objects, "s3://c", format="auto")
        good, problems = check_images(
            found, source.samples, objects, classes=ClassMap(source.classes), max_pixels=50_000_000, report=lambda count: None
        )
    except LongtailError as error:
        return [], [str(error)]
    return good, [*source.problems, *problems]


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("files", "says"), BROKEN.values(), ids=BROKEN.keys())
def test_each_gets_one_clear_problem(files, says):
    _, problems = looked_at(files)
    assert len(problems) == 1
    assert re.search(says, problems[0])
    assert "Traceback" not in problems[0]
    assert len(problems[0]) < 400


@pytest.mark.parametrize("files", FINE.values(), ids=FINE.keys())
def test_what_is_only_unusual_is_taken(files):
    good, problems = looked_at(files)
    assert (len(good), problems) == (1, [])
