"""COCO, YOLO and ImageFolder: in, out, and back; broken ones named."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from infra.formats import coco, imagefolder
from infra.formats.export import layout, tar_of
from infra.objects import ObjectInfo
from longtail.errors import InvalidRequest
from longtail.samples import Annotation, Provenance, Sample

CATEGORIES = [{"id": 7, "name": "white cell", "supercategory": "cell"}, {"id": 3, "name": "Plättchen"}]


def objects(*paths):
    return [ObjectInfo(p, f"s3://bucket/{p}", f"etag-{p}", 10) for p in paths]


def read(body, *paths, name="annotations/instances_train.json"):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return coco.read(objects(name, *paths), lambda uri: raw)


def dataset(**changes):
    image = {"id": 12, "file_name": "a b.jpg", "width": 100, "height": 50, "licence": 4}
    annotation = {"id": 5, "image_id": 12, "category_id": 7, "bbox": [1.5, 2, 30, 40], "area": 1200, "iscrowd": 0, "odd": [1]}
    return {"info": {"x": 1}, "images": [image], "annotations": [{**annotation, **changes}], "categories": CATEGORIES}


def export(format, samples, source):
    with TemporaryDirectory() as scratch:
        entries = layout(format, samples, source.classes, source.meta, task="detection", scratch=Path(scratch))
        return {path: content.read_bytes() if isinstance(content, Path) else content for path, content in entries}


def test_coco_in_and_out_is_the_identity():
    body = dataset()
    source = read(body, "a b.jpg")
    assert source.problems == ()
    files = export("coco", source.samples, source)
    assert json.loads(files["annotations/instances_train.json"]) == body


ids = st.integers(1, 10**9)


@given(st.lists(st.tuples(ids, st.integers(1, 40), st.integers(1, 20)), min_size=1, max_size=8, unique_by=lambda t: t[0]), st.randoms())
def test_coco_keeps_any_ids_and_boxes(rows, rng):
    images = [{"id": i, "file_name": f"d/{i}.png", "width": 60, "height": 60} for i, _, _ in rows]
    annotations = [
        {"id": n + 1, "image_id": i, "category_id": rng.choice([3, 7]), "bbox": [x + 0.25, y, 5.5, 6], "iscrowd": 0} for n, (i, x, y) in enumerate(rows)
    ]
    body = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    source = read(body, *[f"images/d/{i}.png" for i, _, _ in rows])
    assert source.problems == ()
    out = json.loads(export("coco", source.samples, source)["annotations/instances_train.json"])
    assert sorted(out["images"], key=str) == sorted(images, key=str)
    assert sorted(out["annotations"], key=lambda a: a["id"]) == annotations


@pytest.mark.parametrize(
    ("body", "paths", "says"),
    [
        pytest.param(b'{"images": [', ("a b.jpg",), "not readable as JSON", id="broken_json"),
        pytest.param(b'{"images": [], "annotations": [], "categories": [NaN]}', (), "not a finite number", id="nan_constant"),
        pytest.param(b"\xff\xfe\x00", (), "not readable as JSON", id="bad_encoding"),
        pytest.param([1, 2], (), "expected a COCO object", id="a_list"),
        pytest.param({"images": []}, (), "expected a COCO object", id="keys_missing"),
        pytest.param(dataset(bbox=[90, 2, 30, 40]), ("a b.jpg",), "annotation 5: box .* outside its image of 100x50", id="box_outside"),
        pytest.param(dataset(bbox=[1, 2, 0, 40]), ("a b.jpg",), "no area", id="no_area"),
        pytest.param(dataset(bbox=[1, 2, -3, 40]), ("a b.jpg",), "no area", id="negative_width"),
        pytest.param(dataset(bbox=[1, 2, 3]), ("a b.jpg",), "expected bbox", id="three_numbers"),
        pytest.param(dataset(bbox="wide"), ("a b.jpg",), "expected bbox", id="a_word"),
        pytest.param(dataset(category_id=99), ("a b.jpg",), "category 99 is not in 'categories'", id="unknown_category"),
        pytest.param(dataset(image_id=99), ("a b.jpg",), "image 99 is not in 'images'", id="unknown_image"),
        pytest.param(dataset(), (), "'a b.jpg' is not below the prefix", id="image_missing"),
    ],
)
def test_a_broken_coco_is_one_clear_problem(body, paths, says):
    source = read(body, *paths)
    assert len(source.problems) == 1
    assert re.search(says, source.problems[0])
    assert "instances_train.json" in source.problems[0]


def test_a_file_name_that_climbs_out_is_refused():
    body = dataset()
    body["images"][0]["file_name"] = "../../etc/passwd"
    source = read(body, "a b.jpg")
    assert "without '..'" in source.problems[0]
    assert source.samples == ()


def test_an_id_used_twice_is_named():
    body = dataset()
    body["annotations"].append(dict(body["annotations"][0]))
    assert "used twice" in read(body, "a b.jpg").problems[0]


def synthetic():
    record = Provenance(
        mode="inpaint", class_name="white cell", seed=1, novelty=0.2, model="m", model_version=1, model_uri="s3://b/m", background=None,
        exemplar=None, box_xyxy=(0, 0, 4, 4),
    )  # fmt: skip
    return Sample(
        id="syn-1", path="longtail/b/syn-1.jpg", uri="s3://bucket/x/syn.jpg", etag="e", size_bytes=3, width=100, height=50, split="train",
        annotations=(Annotation(category_id=7, bbox_xywh=(0, 0, 4, 4)),), origin="synthetic", batch="b", provenance=record,
    )  # fmt: skip


def test_a_synthetic_image_gets_free_ids_and_its_mark_in_coco():
    source = read(dataset(), "a b.jpg")
    out = json.loads(export("coco", [*source.samples, synthetic()], source)["annotations/instances_train.json"])
    image, annotation = out["images"][1], out["annotations"][1]
    assert (image["id"], annotation["id"], annotation["image_id"]) == (13, 6, 13)
    assert image["longtail"]["provenance"]["seed"] == 1


def test_yolo_lines_by_hand():
    """Box [1.5, 2, 30, 40] in 100x50: centre (16.5, 22) -> 0.165, 0.44; size 0.3, 0.8. Class 7 is the second id of (3, 7)."""
    source = read(dataset(), "a b.jpg")
    files = export("yolo", [*source.samples, synthetic()], source)
    assert files["labels/train/a b.txt"] == b"1 0.165 0.44 0.3 0.8\n"
    assert yaml.safe_load(files["data.yaml"]) == {"path": ".", "train": "images/train", "names": {0: "Plättchen", 1: "white cell"}}
    assert "images/train/longtail/b/syn-1.jpg" in json.loads(files["longtail.json"])["synthetic"]


def test_an_image_without_a_box_has_an_empty_label_file():
    body = dataset()
    body["annotations"] = []
    source = read(body, "a b.jpg")
    assert export("yolo", source.samples, source)["labels/train/a b.txt"] == b""


def test_imagefolder_keeps_names_and_splits():
    source = imagefolder.read(objects("train/röd bil/1.png", "val/x/2.PNG", "test/x/3.jpg", "notes.txt"))
    assert source.classes == {0: "röd bil", 1: "x"}
    assert [(s.path, s.split) for s in source.samples] == [("train/röd bil/1.png", "train"), ("val/x/2.PNG", "val"), ("test/x/3.jpg", "test")]


def test_an_imagefolder_without_splits_is_all_train():
    source = imagefolder.read(objects("a/1.png", "b/2.png"))
    assert {s.split for s in source.samples} == {"train"}


def test_a_coco_of_many_images_is_whole():
    """More records than fit in any buffer on their way through the spool."""
    body = dataset()
    body["images"] = [{"id": i, "file_name": f"{i}.jpg", "width": 100, "height": 50, "note": "n" * 200} for i in range(2000)]
    body["annotations"] = [{"id": i, "image_id": i, "category_id": 7, "bbox": [1.5, 2, 30, 40], "iscrowd": 0} for i in range(2000)]
    source = read(body, *[f"{i}.jpg" for i in range(2000)])
    assert json.loads(export("coco", source.samples, source)["annotations/instances_train.json"]) == body


@pytest.mark.parametrize("format", ["coco", "yolo", "voc", "webdataset"])
def test_an_archive_is_a_tar_with_every_file_once(format):
    source = read(dataset(), "a b.jpg")
    version = {"dataset": "d", "number": 3, "health": {"synthetic_images": 2}, "proof": "positive", "accepted_unproven": None}
    chunks = tar_of(format, source.samples, source.classes, source.meta, task="detection", load=lambda s: b"pixels of " + s.id.encode(), version=version)
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        names = tar.getnames()
        inside = tar.extractfile(next(n for n in names if n.endswith(".jpg")))
        assert inside is not None and inside.read().startswith(b"pixels of real-")
    said = [] if format == "webdataset" else ["longtail-version.json"]  # of shards every file is a sample's
    assert sorted(names) == sorted([*said, *export(format, source.samples, source)])


def test_a_task_in_a_format_that_cannot_hold_it_is_refused():
    with pytest.raises(InvalidRequest, match="use imagefolder"):
        next(layout("coco", [], {}, {}, task="classification", scratch=Path()))
