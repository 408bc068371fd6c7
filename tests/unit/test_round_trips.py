"""import ∘ export is the identity: any dataset written in a format reads back as it was, and writes the same again.

globox is the second opinion: what it reads in our files is what we wrote.
"""

from __future__ import annotations

import io
import json
import random
import tarfile
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

import globox
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from infra.formats import voc, webdataset, yolo
from infra.formats.export import archive, layout
from infra.formats.listing import DEALT
from infra.formats.source import READ, finish
from infra.objects import ObjectInfo
from longtail.errors import BrokenDataset
from longtail.samples import Annotation, Provenance, Sample

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=12).map(str.strip).filter(bool)
STEMS = st.text(st.characters(codec="utf-8", categories=["L", "Nd"], include_characters=" _-(),+&"), min_size=1, max_size=10).map(str.strip).filter(bool)
WIDTH, HEIGHT = 160, 120


@st.composite
def boxes(draw):
    x0, y0 = draw(st.integers(0, WIDTH - 2)), draw(st.integers(0, HEIGHT - 2))
    return float(x0), float(y0), float(draw(st.integers(1, WIDTH - x0))), float(draw(st.integers(1, HEIGHT - y0)))


@st.composite
def datasets(draw, task="detection"):
    """(samples, classes): every class is used, so that a format that only lists used ones can keep them all."""
    classes = dict(enumerate(sorted(draw(st.lists(NAMES, min_size=1, max_size=4, unique=True)))))
    stems = draw(st.lists(STEMS, min_size=len(classes), max_size=7, unique_by=str.lower))
    samples = []
    for i, stem in enumerate(stems):
        split = draw(st.sampled_from(["train", "val", "test"]))
        first = [Annotation(category_id=i, bbox_xywh=draw(boxes()))] if i in classes else []
        more = [Annotation(category_id=draw(st.sampled_from(list(classes))), bbox_xywh=draw(boxes())) for _ in range(draw(st.integers(0, 3)))]
        annotations = tuple(first + more)
        if task == "classification":
            annotations = (Annotation(category_id=i if i in classes else 0),)
        samples.append(sample_at(f"{stem}.jpg", split, annotations))
    return samples, classes


def sample_at(path, split, annotations):
    return Sample(
        id=path, path=path, uri=f"s3://b/{path}", etag="e", size_bytes=1, width=WIDTH, height=HEIGHT, split=split, annotations=tuple(annotations)
    )  # fmt: skip


def export(format, samples, classes, meta, task="detection"):
    """{path: bytes, or the sample whose image lies there}."""
    with TemporaryDirectory() as scratch:
        entries = layout(format, samples, classes, meta, task=task, scratch=Path(scratch))
        return {path: content.read_bytes() if isinstance(content, Path) else content for path, content in entries}


class StoredFiles:
    """Files in a dictionary, read as from a bucket."""

    def __init__(self, files):
        self.files = files

    def list(self, uri):
        return [ObjectInfo(p, f"{uri}/{p}", "e", 1) for p in self.files]

    def read(self, uri):
        return self.files[uri.removeprefix("s3://c/")]


def reimport(format, files):
    """(source, samples) that a reader makes of exported files once the images' sizes are known."""
    stored = StoredFiles(files)
    source = READ[format](stored.list("s3://c"), stored.read)
    assert source.problems == ()
    return source, [finish(format, s, (WIDTH, HEIGHT), stored.read) for s in source.samples]


def content(samples, classes, rounded=4):
    """What must not change: per file name its split and its (class name, box) in order."""
    return {
        s.path.split("/")[-1]: (s.split, [(classes[a.category_id], a.bbox_xywh and tuple(round(v, rounded) for v in a.bbox_xywh)) for a in s.annotations])
        for s in samples
    }


@pytest.mark.parametrize("format", ["yolo", "voc", "coco"])
@settings(max_examples=60, deadline=None)
@given(data=datasets())
def test_a_dataset_reads_back_as_it_was_written(format, data):
    samples, classes = data
    files = export(format, samples, classes, {})
    source, again = reimport(format, files)
    assert content(again, source.classes) == content(samples, classes)
    assert list(source.classes.values()) == list(classes.values())
    second = export(format, again, source.classes, source.meta)
    text = {p: c for p, c in files.items() if isinstance(c, bytes)}
    assert {p: parsed(p, c) for p, c in second.items() if isinstance(c, bytes)} == {p: parsed(p, c) for p, c in text.items()}
    assert {p for p in second if p not in text} == {p for p in files if p not in text}


def parsed(path, data):
    if path.endswith(".json"):
        return json.loads(data)
    return ElementTree.canonicalize(data.decode()) if path.endswith(".xml") else data


@settings(max_examples=30, deadline=None)
@given(data=datasets(task="classification"))
def test_an_imagefolder_reads_back_as_it_was_written(data):
    samples, classes = data
    slash = {c: name.replace("/", "_").replace("\\", "_").replace(".", "_") for c, name in classes.items()}
    moved = [replace(s, path=f"{s.split}/{slash[s.annotations[0].category_id]}/{s.path}") for s in samples]
    source, again = reimport("imagefolder", export("imagefolder", moved, slash, {}, task="classification"))
    assert {s.path: (s.split, source.classes[s.annotations[0].category_id]) for s in again} == {
        s.path: (s.split, slash[s.annotations[0].category_id]) for s in moved
    }


@pytest.mark.parametrize("format", ["yolo", "voc", "coco"])
@settings(max_examples=20, deadline=None)
@given(data=datasets(), seed=st.integers(0, 100))
def test_splits_that_were_dealt_on_request_come_back_from_where_all_was_train(format, data, seed):
    samples, classes = data
    whole, read = reimport(format, export(format, [replace(s, split="train") for s in samples], classes, {}))
    draw = random.Random(seed)
    dealt = [replace(s, split=draw.choice(["train", "val", "test"])) for s in read]
    source, again = reimport(format, export(format, dealt, whole.classes, {**whole.meta, DEALT: {}}))
    assert content(again, source.classes) == content(dealt, whole.classes)


def test_dealt_splits_of_an_imagefolder_are_folders_and_what_is_synthetic_trains():
    label = (Annotation(category_id=0),)
    made = replace(sample_at("cat/m.jpg", "train", label), id="syn", origin="synthetic", provenance=record_of("cat"))
    flat = [sample_at("cat/a.jpg", "train", label), sample_at("cat/b.jpg", "val", label), made]
    assert [*export("imagefolder", flat, {0: "cat"}, {DEALT: {}}, task="classification")][:3] == [
        "train/cat/a.jpg", "val/cat/b.jpg", "train/cat/m.jpg"]
    assert [*export("imagefolder", flat[::2], {0: "cat"}, {}, task="classification")][:2] == ["cat/a.jpg", "cat/m.jpg"]
    laid = [sample_at("Training/cat/a.jpg", "train", label), sample_at("val/cat/b.jpg", "val", label), made]
    files = export("imagefolder", laid, {0: "cat"}, {}, task="classification")
    assert [*files][:3] == ["Training/cat/a.jpg", "val/cat/b.jpg", "Training/cat/m.jpg"]
    assert [*json.loads(files["longtail.json"])["synthetic"]] == ["Training/cat/m.jpg"]


def record_of(name):
    return Provenance(
        mode="inpaint", class_name=name, seed=1, novelty=0.2, model=None, model_version=None, model_uri=None, background=None, exemplar=None,
        box_xyxy=(0, 0, 4, 4),
    )  # fmt: skip


@pytest.mark.parametrize("format", ["yolo", "voc", "coco"])
@settings(max_examples=15, deadline=None)
@given(data=datasets())
def test_globox_reads_the_same_boxes(tmp_path_factory, format, data):
    samples, classes = data
    folder = tmp_path_factory.mktemp("globox")
    for path, written in export(format, samples, classes, {}).items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(written if isinstance(written, bytes) else picture())
    found = {}
    for split in {s.split for s in samples}:
        own = {s.path for s in samples if s.split == split}
        if format == "yolo":
            theirs = globox.AnnotationSet.from_yolo_v5(folder / "labels" / split, image_folder=folder / "images" / split)
        elif format == "voc":
            theirs = globox.AnnotationSet.from_pascal_voc(folder / "Annotations")
        else:
            theirs = globox.AnnotationSet.from_coco(folder / "annotations" / f"instances_{split}.json")
        index = dict(enumerate(classes.values()))
        for annotation in theirs:
            name = annotation.image_id.split("/")[-1]
            if name in own:
                found[name] = sorted(
                    (index[int(b.label)] if format == "yolo" else b.label, *(round(v, 2) for v in (b.xmin, b.ymin, b.xmax - b.xmin, b.ymax - b.ymin)))
                    for b in annotation.boxes
                )
    assert found == {s.path: sorted((classes[a.category_id], *a.bbox_xywh) for a in s.annotations) for s in samples}


def picture():
    out = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT)).save(out, "JPEG")
    return out.getvalue()


def read_yolo(files):
    return reimport("yolo", {p: c.encode() if isinstance(c, str) else c for p, c in files.items()})


LINE = "0 0.5 0.5 0.25 0.5\n"
SPLIT_LAYOUTS = [
    pytest.param("train: images/train\nval: images/val", ["images/train/a.jpg", "images/val/b.jpg"], id="images_then_split"),
    pytest.param("train: train/images\nval: val/images", ["train/images/a.jpg", "val/images/b.jpg"], id="split_then_images"),
    pytest.param("train: ../train/images\nval: ../valid/images", ["train/images/a.jpg", "valid/images/b.jpg"], id="roboflow"),
    pytest.param("path: /home/me/sets/x\ntrain: images/train\nval: images/val", ["images/train/a.jpg", "images/val/b.jpg"], id="path_of_another_machine"),
    pytest.param("path: ../datasets/x\ntrain: images/t\nval: images/v", ["x/images/t/a.jpg", "x/images/v/b.jpg"], id="path_relative"),
    pytest.param("train: /abs/images/train\nval: /abs/images/val", ["images/train/a.jpg", "images/val/b.jpg"], id="absolute_entries"),
    pytest.param("train: [images/a, images/c]\nval: images/b", ["images/a/a.jpg", "images/b/b.jpg", "images/c/c.jpg"], id="a_list_of_folders"),
    pytest.param("train: t.txt\nval: v.txt", ["images/a.jpg", "images/b.jpg"], id="lists_in_text_files"),
]


@pytest.mark.parametrize(("config", "images"), SPLIT_LAYOUTS)
def test_each_way_to_lay_out_splits_in_yolo_is_read_and_written_back(config, images):
    files = {"data.yaml": f"{config}\nnames: [ölfleck]\nnc: 1\nroboflow: {{version: 3}}", **dict.fromkeys(images, b"")}
    files |= {yolo.label_path(p): LINE for p in images}
    if ".txt" in config:
        files |= {"t.txt": "./images/a.jpg\n", "v.txt": "/abs/images/b.jpg\n"}
    source, samples = read_yolo(files)
    by_name = {s.path.split("/")[-1]: s for s in samples}
    assert by_name["a.jpg"].split == "train"
    assert by_name["b.jpg"].split == "val"
    assert by_name["a.jpg"].annotations[0].bbox_xywh == (WIDTH * 0.375, HEIGHT * 0.25, WIDTH * 0.25, HEIGHT * 0.5)
    out = export("yolo", samples, source.classes, source.meta)
    assert yaml.safe_load(out["data.yaml"])["roboflow"] == {"version": 3}
    again, back = reimport("yolo", {p: c if isinstance(c, bytes) else b"" for p, c in out.items()})
    assert back == [replace(s, uri=s.uri, size_bytes=1) for s in samples]
    assert again.classes == source.classes


def test_a_yolo_polygon_is_kept_and_its_box_is_around_it():
    line = "0 0.1 0.2 0.4 0.2 0.4 0.7"
    source, samples = read_yolo({"data.yaml": "train: images\nnames: {0: c}", "images/a.jpg": b"", "labels/a.txt": line})
    assert samples[0].annotations[0].bbox_xywh == pytest.approx((16, 24, 48, 60))
    assert export("yolo", samples, source.classes, source.meta)["labels/a.txt"] == f"{line}\n".encode()


@pytest.mark.parametrize(
    ("files", "says"),
    [
        pytest.param({"labels/a.txt": "0 0.5 0.5 0.2"}, "line 1: expected 'class cx cy w h'", id="four_numbers"),
        pytest.param({"labels/a.txt": "0 0.5 0.5 nan 0.2"}, "line 1: expected fractions", id="nan"),
        pytest.param({"labels/a.txt": "0 0.5 0.5 1.5 0.2"}, "line 1: expected fractions", id="pixels"),
        pytest.param({"labels/a.txt": "0 0.5 0.5 -0.1 0.2"}, "line 1: expected fractions", id="negative"),
        pytest.param({"labels/a.txt": "7 0.5 0.5 0.1 0.2"}, "line 1: class 7 is not one of 0 to 0", id="class_out_of_range"),
        pytest.param({"labels/a.txt": "c 0.5 0.5 0.1 0.2"}, "line 1: expected numbers", id="a_name_for_a_number"),
        pytest.param({"labels/a.txt": b"\xff\xfe0"}, "labels/a.txt: not readable as UTF-8", id="encoding"),
        pytest.param({"labels/lost.txt": LINE}, "labels/lost.txt: labels of an image that is in no split", id="orphan"),
        pytest.param({"data.yaml": "train: images\nval: images\nnames: [c]"}, "is in train and in val", id="two_splits"),
        pytest.param({"data.yaml": "train: images\nval: nowhere\nnames: [c]"}, "nothing lies at 'nowhere'", id="split_missing"),
        pytest.param({"data.yaml": "names: [c]"}, "names no image", id="no_split"),
    ],
)
def test_a_broken_yolo_is_one_clear_problem(files, says):
    files = {"data.yaml": "train: images\nnames: [c]", "images/a.jpg": b"", **files}
    files = {p: c.encode() if isinstance(c, str) else c for p, c in files.items()}
    source = yolo.read([ObjectInfo(p, f"s3://c/{p}", "e", 1) for p in files], lambda uri: files[uri.removeprefix("s3://c/")])
    assert len(source.problems) == 1
    assert says in source.problems[0]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        pytest.param("train: [", "not readable as YAML", id="broken"),
        pytest.param("train: images", "expected 'names'", id="no_names"),
        pytest.param("names: [a, b]\nnc: 3", "'nc' says 3", id="nc_differs"),
        pytest.param("names: {0: a, 2: b}", "must number its classes", id="a_gap"),
        pytest.param("!!python/object/apply:os.system [echo]", "not readable as YAML", id="code"),
    ],
)
def test_a_broken_data_yaml_is_refused(config, says):
    with pytest.raises(BrokenDataset, match=says):
        yolo.read([ObjectInfo("data.yaml", "s3://c/data.yaml", "e", 1)], lambda uri: config.encode())


XML = """<annotation><folder>x</folder><filename>a.jpg</filename><size><width>160</width><height>120</height><depth>3</depth></size>
<object><name>röte Zelle</name><pose>Left</pose><occluded>1</occluded><bndbox><xmin>10</xmin><ymin>20</ymin><xmax>50</xmax><ymax>60.5</ymax></bndbox>
<part><name>core</name></part></object></annotation>"""


def read_voc(files):
    return voc.read([ObjectInfo(p, f"s3://c/{p}", "e", 1) for p in files], lambda uri: files[uri.removeprefix("s3://c/")])


def test_voc_keeps_what_it_does_not_use():
    lists = {"ImageSets/Main/train.txt": b"a\n", "ImageSets/Main/val.txt": b"empty\n"}
    files = {"Annotations/a.xml": XML.encode(), "JPEGImages/a.jpg": b"", "JPEGImages/empty.png": b"", **lists}
    source = read_voc(files)
    assert source.problems == ()
    assert [(s.path, s.split, len(s.annotations)) for s in source.samples] == [("JPEGImages/a.jpg", "train", 1), ("JPEGImages/empty.png", "val", 0)]
    assert source.samples[0].annotations[0].bbox_xywh == (10, 20, 40, 40.5)
    out = export("voc", source.samples, source.classes, source.meta)
    assert ElementTree.canonicalize(out["Annotations/a.xml"].decode(), strip_text=True) == ElementTree.canonicalize(XML, strip_text=True)
    assert "Annotations/empty.xml" not in out
    assert out["ImageSets/Main/val.txt"] == b"empty\n"


@pytest.mark.parametrize(
    ("files", "says"),
    [
        pytest.param({"Annotations/a.xml": b"<annotation>"}, "not readable as XML", id="broken"),
        pytest.param({"Annotations/a.xml": b"<!DOCTYPE a [<!ENTITY x 'y'>]><annotation/>"}, "document type or entities", id="entities"),
        pytest.param({"Annotations/a.xml": b"<html/>"}, "expected <annotation>", id="not_voc"),
        pytest.param({"Annotations/a.xml": XML.replace("10</xmin>", "ten</xmin>").encode()}, "object 1: expected numbers", id="a_word"),
        pytest.param({"Annotations/a.xml": XML.replace("bndbox", "box").encode()}, "object 1: has no <bndbox>", id="no_box"),
        pytest.param({"Annotations/b.xml": XML.replace("a.jpg", "../b.jpg").encode()}, "without '..'", id="climbs"),
        pytest.param({"Annotations/b.xml": XML.encode()}, "has a second annotation file", id="described_twice"),
        pytest.param({"Annotations/b.xml": XML.replace("a.jpg", "b.jpg").encode()}, "neither JPEGImages/b.* nor its <filename> 'b.jpg'", id="image_missing"),
        pytest.param({"ImageSets/Main/train.txt": b"a\nz\n"}, "'z' is listed and not in JPEGImages/", id="listed_missing"),
        pytest.param({"ImageSets/Main/train.txt": b"a\n", "JPEGImages/c.jpg": b""}, "JPEGImages/c.jpg: is in no list", id="unlisted"),
        pytest.param({"ImageSets/Main/train.txt": b"a\n", "ImageSets/Main/test.txt": b"a\n"}, "a is in train and in test", id="two_splits"),
    ],
)
def test_a_broken_voc_is_one_clear_problem(files, says):
    source = read_voc({"Annotations/a.xml": XML.encode(), "JPEGImages/a.jpg": b"", **files})
    assert len(source.problems) == 1, source.problems
    assert says in source.problems[0]


def test_a_mask_becomes_boxes_and_run_lengths_that_others_decode():
    from faster_coco_eval.core import mask as reference

    image = Image.new("L", (WIDTH, HEIGHT))
    image.paste(255, (10, 20, 40, 50))
    image.paste(255, (WIDTH - 12, HEIGHT - 30, WIDTH, HEIGHT))
    image.putpixel((80, 5), 255)
    out = io.BytesIO()
    image.save(out, "PNG")
    files = {"Crack/Imgs/a.jpg": b"", "Crack/Imgs/a.png": out.getvalue(), "Free/b.jpg": b"", "Free/b.png": picture()}
    source, samples = reimport("masks", files)
    assert source.classes == {0: "Crack", 1: "Free"}
    assert [a.bbox_xywh for a in samples[0].annotations] == [(10, 20, 30, 30), (WIDTH - 12, HEIGHT - 30, 12, 30)]
    assert samples[1].annotations == ()
    for annotation in samples[0].annotations:
        found = reference.decode(reference.frPyObjects(annotation.extra["segmentation"], HEIGHT, WIDTH))
        assert int(found.sum()) == annotation.extra["area"]
        x, y, w, h = map(int, annotation.bbox_xywh)
        assert found[y : y + h, x : x + w].all()


def test_webdataset_shards_hold_each_image_beside_its_labels():
    record = Provenance(
        mode="inpaint", class_name="b", seed=1, novelty=0.2, model="m", model_version=1, model_uri="s3://b/m", background=None, exemplar=None,
        box_xyxy=(0, 0, 4, 4),
    )  # fmt: skip
    samples = [sample_at(f"{i}.v1.jpg", "train" if i < 1001 else "test", [Annotation(category_id=5, bbox_xywh=(1, 2, 3, 4))]) for i in range(1003)]
    samples[3] = replace(samples[3], origin="synthetic", provenance=record)
    found = {}
    for split in ("train", "test"):
        members = webdataset.write([s for s in samples if s.split == split], {5: "b", 9: "ü"})
        for name, shard in webdataset.shards(split, members):
            found[name] = b"".join(archive(shard, lambda s: s.id.encode()))
    assert list(found) == ["train-000000.tar", "train-000001.tar", "test-000000.tar"]
    with tarfile.open(fileobj=io.BytesIO(found["train-000000.tar"])) as tar:
        names = tar.getnames()
        body = json.load(tar.extractfile(names[6]))
        assert tar.extractfile(names[7]).read() == b"3.v1.jpg"
    assert len(names) == 2000
    assert {n.split(".")[0] for n in names[:2]} == {"train-000000000"}
    assert (body["origin"], body["provenance"]["mode"], body["annotations"][0]["name"], body["annotations"][0]["class"]) == ("synthetic", "inpaint", "b", 0)
