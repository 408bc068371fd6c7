"""Each bad input gets one clear problem document and leaves nothing half-done."""

from __future__ import annotations

import io
import json

import httpx
import pytest
from PIL import Image

from infra.objects import Objects
from longtail.client import ApiProblem, Client, JobFailed
from longtail.errors import StorageUnavailable


def jpeg(size=(40, 30), turned=1):
    exif = Image.Exif()
    exif[0x0112] = turned
    out = io.BytesIO()
    Image.new("RGB", size, (90, 80, 70)).save(out, "JPEG", exif=exif)
    return out.getvalue()


def png(size):
    out = io.BytesIO()
    Image.new("L", size, 255).save(out, "PNG")
    return out.getvalue()


def deep():
    out = io.BytesIO()
    Image.new("I;16", (40, 30), 900).save(out, "PNG")
    return out.getvalue()


def voc(width=40, xmax=20):
    box = f"<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>{xmax}</xmax><ymax>20</ymax></bndbox>"
    size = f"<size><width>{width}</width><height>30</height></size>"
    return f"<annotation><filename>a.jpg</filename>{size}<object><name>c</name>{box}</object></annotation>".encode()


def coco(**changes):
    image = {"id": 1, "file_name": "a.jpg", "width": 40, "height": 30}
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 10, 10]}
    return json.dumps({"images": [image], "annotations": [{**annotation, **changes}], "categories": [{"id": 1, "name": "c"}]}).encode()


def bomb():
    out = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(out, "PNG")
    return out.getvalue()


BROKEN = [
    pytest.param({"train.json": b'{"images": ['}, "broken-dataset", "train.json: not readable as JSON", id="broken_json"),
    pytest.param({"train.json": coco(bbox=[35, 2, 10, 10]), "a.jpg": jpeg()}, "broken-dataset", "annotation 1: box .* outside its image", id="box_outside"),
    pytest.param({"train.json": coco(category_id=9), "a.jpg": jpeg()}, "broken-dataset", "category 9", id="unknown_category"),
    pytest.param({"train.json": coco(), "a.jpg": jpeg()[:200]}, "broken-dataset", "a.jpg: cannot be decoded", id="truncated_image"),
    pytest.param({"train.json": coco(), "a.jpg": bomb()}, "broken-dataset", "a.jpg: 30000x30000 is more than", id="decompression_bomb"),
    pytest.param({"train.json": coco(), "a.jpg": jpeg((50, 30))}, "broken-dataset", "annotations say 40x30, the image is 50x30", id="wrong_size"),
    pytest.param({"train.json": coco()}, "broken-dataset", "'a.jpg' is not below the prefix", id="image_missing"),
    pytest.param({"train.json": coco(), "a.jpg": deep()}, "broken-dataset", "a.jpg: has more than 8 bits a channel", id="sixteen_bits"),
    pytest.param({"train.json": coco(), "a.jpg": jpeg(turned=6)}, "broken-dataset", "annotations say 40x30, the image is 30x40", id="turned"),
    pytest.param({"train.json": coco(), "a.jpg": b""}, "broken-dataset", "a.jpg: cannot be decoded", id="empty_image"),
    pytest.param({"Crack/a.jpg": jpeg(), "Crack/a.png": png((50, 30))}, "broken-dataset", "its mask is 50x30, the image is 40x30", id="mask_size"),
    pytest.param({"Crack/a.jpg": jpeg(), "Crack/a.png": b"no"}, "broken-dataset", "a.png: cannot be decoded", id="mask_broken"),
    pytest.param(
        {"data.yaml": b"train: images\nnames: [c]", "images/a.jpg": jpeg(), "labels/a.txt": b"0 0.9 0.5 0.4 0.2"}, "broken-dataset",
        "labels/a.txt: object 1: box .* outside its image of 40x30", id="yolo_outside",
    ),
    pytest.param(
        {"Annotations/a.xml": voc(xmax=90), "JPEGImages/a.jpg": jpeg()}, "broken-dataset", "a.jpg: object 1: box .* outside its image", id="voc_outside"
    ),
    pytest.param(
        {"Annotations/a.xml": voc(width=99), "JPEGImages/a.jpg": jpeg()}, "broken-dataset", "annotations say 99x30, the image is 40x30", id="voc_size"
    ),
    pytest.param({"notes.txt": b"hello"}, "broken-dataset", "found none of YOLO", id="no_dataset"),
    pytest.param({"train.json": coco().replace(b"a.jpg", b"../a.jpg"), "a.jpg": jpeg()}, "broken-dataset", "without '..'", id="path_climbs"),
]


@pytest.mark.parametrize(("files", "code", "says"), BROKEN)
def test_a_broken_dataset_is_refused_whole(stack, files, code, says):
    name = stack.name("broken")
    for path, data in files.items():
        stack.objects.write(f"s3://team-data/{name}/{path}", data)
    job = stack.client.post("/v1/datasets", {"name": name, "uri": f"s3://team-data/{name}"})["job"]
    with pytest.raises(JobFailed, match=says) as error:
        stack.client.wait(job, timeout_s=60)
    assert error.value.code == code
    with pytest.raises(ApiProblem, match="no dataset"):
        stack.client.get(f"/v1/datasets/{name}")


def test_what_is_broken_can_be_skipped_and_is_listed(stack):
    name = stack.name("skipping")
    body = json.loads(coco())
    body["images"].append({"id": 2, "file_name": "b.jpg", "width": 40, "height": 30})
    for path, data in {"train.json": json.dumps(body).encode(), "a.jpg": jpeg(), "b.jpg": jpeg()[:99]}.items():
        stack.objects.write(f"s3://team-data/{name}/{path}", data)
    job = stack.client.post("/v1/datasets", {"name": name, "uri": f"s3://team-data/{name}", "on_problem": "skip"})["job"]
    result = stack.client.wait(job, timeout_s=60)["result"]
    assert result["images"] == 1
    assert "b.jpg" in result["skipped"][0]


@pytest.mark.parametrize(
    ("uri", "says"), [("s3://no-such-bucket/x", "bucket 'no-such-bucket' does not exist"), ("s3://team-data/no-such-prefix", "nothing lies below")]
)
def test_a_missing_bucket_or_prefix_is_named(stack, uri, says):
    job = stack.client.post("/v1/datasets", {"name": stack.name("missing"), "uri": uri})["job"]
    with pytest.raises(JobFailed, match=says) as error:
        stack.client.wait(job, timeout_s=60)
    assert error.value.code == "not-found"


REFUSED = [
    pytest.param("/v1/datasets", {"name": "../x", "uri": "s3://team-data/x"}, 422, "dataset name", id="name_climbs"),
    pytest.param("/v1/datasets", {"name": "x", "uri": "s3://team-data/../x"}, 422, "without '..'", id="prefix_climbs"),
    pytest.param("/v1/datasets", {"name": "x", "uri": "file:///etc"}, 422, "expected s3://", id="not_s3"),
    pytest.param("/v1/datasets", {"name": "cells", "uri": "s3://team-data/cells"}, 409, "registered already", id="name_taken"),
    pytest.param("/v1/batches", {"dataset": "cells", "class_name": "Platelets", "count": 0}, 422, "greater than or equal to 1", id="batch_of_zero"),
    pytest.param("/v1/batches", {"dataset": "cells", "class_name": "Platelets", "count": 1_000_000}, 422, "less than or equal", id="batch_of_a_million"),
    pytest.param("/v1/batches", {"dataset": "cells", "class_name": "platelets"}, 422, "unknown class 'platelets'", id="unknown_class"),
    pytest.param("/v1/batches", {"dataset": "none", "class_name": "x"}, 404, "no dataset 'none'", id="unknown_dataset"),
    pytest.param("/v1/batches", {"dataset": "cells", "class_name": "WBC", "novelty": 1.5}, 422, "novelty", id="novelty_above_one"),
    pytest.param("/v1/batches", {"dataset": "cells", "class_name": "WBC", "colour": "red"}, 422, "colour", id="unknown_field"),
    pytest.param("/v1/batches", {"dataset": "cells", "class_name": "WBC", "version": 99}, 404, "no version 99", id="unknown_version"),
    pytest.param(
        "/v1/previews", {"dataset": "cells", "class_name": "WBC", "boxes": [{"image": "nope.jpg", "box_xyxy": [0, 0, 9, 9]}]}, 422, "'nope.jpg' is not in",
        id="unknown_image",
    ),
    pytest.param(
        "/v1/previews", {"dataset": "cells", "class_name": "WBC", "mode": "synthesis", "boxes": [{"image": "x", "box_xyxy": [0, 0, 9, 9]}]}, 422,
        "no background", id="box_without_background",
    ),
    pytest.param("/v1/previews", {"dataset": "cells", "class_name": "WBC", "interpolate": True, "novelty": 0.2}, 422, "changes nothing", id="latents_unseen"),
    pytest.param(
        "/v1/generators", {"dataset": "cells", "recipe": {"novelty_range": [0, 0.2], "full_novelty_share": 0}}, 422, "nothing is left", id="nothing_to_learn",
    ),
    pytest.param("/v1/expansions", {"dataset": "cells", "targets": {"WBC": 9}, "cron": "every day"}, 422, "cron 'every day'", id="bad_cron"),
    pytest.param("/v1/expansions", {"dataset": "cells", "targets": {"dragon": 9}}, 422, "unknown class 'dragon'", id="unknown_target"),
    pytest.param("/v1/generators/cells/champion", {"version": 99}, 404, "no generator version 99", id="unknown_generator"),
    pytest.param("/v1/evaluations", {"dataset": "cells", "base": 1, "candidate": 1}, 422, "does not add", id="nothing_added"),
    pytest.param("/v1/batches/none/publish", {}, 404, "no batch 'none'", id="unknown_batch"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "status", "says"), REFUSED)
def test_a_bad_request_is_one_problem_document(stack, cells, path, body, status, says):
    jobs = len(stack.client.get("/v1/jobs", limit=1000)["items"])
    with pytest.raises(ApiProblem, match=says) as error:
        stack.client.post(path, body)
    assert error.value.status == error.value.document["status"] == status
    assert {"type", "title", "detail", "code"} <= set(error.value.document)
    assert len(stack.client.get("/v1/jobs", limit=1000)["items"]) == jobs


def test_a_box_outside_its_image_is_refused_with_its_size(stack, cells):
    sample = next(s for s in stack.client.get(f"/v1/datasets/{cells}/versions/1/samples", limit=200)["items"] if s["split"] == "train")
    body = {"dataset": cells, "class_name": "WBC", "boxes": [{"image": sample["path"], "box_xyxy": [600, 10, 700, 90]}]}
    with pytest.raises(ApiProblem, match="outside its image of 640x480"):
        stack.client.post("/v1/previews", body)


def test_a_box_over_an_annotated_object_is_refused_since_its_label_would_be_false(stack, cells):
    page = stack.client.get(f"/v1/datasets/{cells}/versions/1/samples", limit=1, split="train", class_name="WBC")["items"][0]
    x, y, w, h = next(a["bbox_xywh"] for a in page["annotations"])
    body = {"dataset": cells, "class_name": "Platelets", "boxes": [{"image": page["path"], "box_xyxy": [x, y, x + w, y + h]}]}
    with pytest.raises(ApiProblem, match="would hide annotated object 0"):
        stack.client.post("/v1/previews", body)


def test_nothing_is_painted_on_val_or_test(stack, cells):
    sample = next(s for s in stack.client.get(f"/v1/datasets/{cells}/versions/1/samples", limit=200)["items"] if s["split"] == "test")
    body = {"dataset": cells, "class_name": "WBC", "boxes": [{"image": sample["path"], "box_xyxy": [10, 10, 90, 90]}]}
    with pytest.raises(ApiProblem, match="only real training images"):
        stack.client.post("/v1/previews", body)


def test_too_few_instances_for_the_default_novelty(stack):
    name = stack.name("few")
    body = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "crack"}]}
    for i in range(4):
        body["images"].append({"id": i, "file_name": f"{i}.jpg", "width": 200, "height": 160})
        body["annotations"].append({"id": i, "image_id": i, "category_id": 1, "bbox": [20, 20, 40, 40]})
        stack.objects.write(f"s3://team-data/{name}/{i}.jpg", jpeg((200, 160)))
    stack.objects.write(f"s3://team-data/{name}/train.json", json.dumps(body).encode())
    stack.client.wait(stack.client.post("/v1/datasets", {"name": name, "uri": f"s3://team-data/{name}"})["job"], timeout_s=60)
    with pytest.raises(ApiProblem, match="needs at least 10") as error:
        stack.client.post("/v1/previews", {"dataset": name, "class_name": "crack"})
    assert (error.value.status, error.value.code) == (422, "too-few-instances")
    with pytest.raises(ApiProblem, match="needs at least 10") as error:
        stack.client.post("/v1/expansions", {"dataset": name, "targets": {"crack": 9}, "cron": "0 3 * * *"})
    assert (error.value.status, error.value.code) == (422, "too-few-instances")
    assert not [e for e in stack.client.get("/v1/expansions", limit=1000)["items"] if e["dataset"] == name]
    for fits in ({"targets": {"crack": 4}}, {"targets": {"crack": 9}, "novelty": 0.2}):  # nothing is lacking; little is asked
        assert stack.client.post("/v1/expansions", {"dataset": name, **fits})["id"]
    assert stack.client.post("/v1/previews", {"dataset": name, "class_name": "crack", "count": 1, "novelty": 0.2})["items"]
    assert stack.client.post("/v1/previews", {"dataset": name, "class_name": "crack", "count": 1, "mode": "copy_paste"})["items"]


def test_a_source_image_that_changed_is_noticed(stack):
    name = stack.name("changing")
    stack.objects.write(f"s3://team-data/{name}/train.json", coco())
    stack.objects.write(f"s3://team-data/{name}/a.jpg", jpeg())
    stack.client.wait(stack.client.post("/v1/datasets", {"name": name, "uri": f"s3://team-data/{name}"})["job"], timeout_s=60)
    out = io.BytesIO()
    Image.new("RGB", (40, 30), (1, 2, 3)).save(out, "JPEG")
    stack.objects.write(f"s3://team-data/{name}/a.jpg", out.getvalue())
    with pytest.raises(ApiProblem, match="changed since it was registered"):
        stack.client.post("/v1/previews", {"dataset": name, "class_name": "c", "count": 1, "mode": "copy_paste"})


def test_no_key_no_entry(stack):
    with pytest.raises(ApiProblem) as error:
        Client(stack.settings.api_url, "wrong").get("/v1/datasets")
    assert error.value.status == 401


def test_a_body_that_is_not_json_is_a_problem_document(stack):
    response = stack.client.http.post("/v1/batches", content=b"{", headers={"Content-Type": "application/json"})
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"


def test_an_s3_server_that_is_not_there_is_named(stack):
    gone = Objects(stack.settings.model_copy(update={"s3_endpoint": "127.0.0.1:9"}))
    with pytest.raises(StorageUnavailable, match=r"127\.0\.0\.1:9 did not answer"):
        gone.read("s3://team-data/x")


def test_live_and_ready(stack):
    assert httpx.get(f"{stack.settings.api_url}/health/live").status_code == 200
    assert httpx.get(f"{stack.settings.api_url}/health/ready", timeout=20).status_code == 200
    assert "longtail_requests_total" in httpx.get(f"{stack.settings.api_url}/metrics").text
