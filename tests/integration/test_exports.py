"""A version leaves the service, as a prefix in the bucket or as a stream: what it holds, marked, and what is proven of it."""

from __future__ import annotations

import io
import json
import tarfile

from infra.marks import read_mark
from longtail.samples import DIGITAL_SOURCE_TYPES


def test_a_coco_export_reads_back_as_the_same_dataset(stack, cells, published):
    body = {"format": "coco", "destination": "s3://team-data/exported-coco"}
    job = stack.client.post(f"/v1/datasets/{cells}/versions/{published['version']}/exports", body)
    files = stack.client.wait(job["job"], timeout_s=120)["result"]["files"]
    assert "longtail-version.json" in files
    told = json.loads(stack.objects.read("s3://team-data/exported-coco/longtail-version.json"))
    version = stack.client.get(f"/v1/datasets/{cells}/versions/{published['version']}")
    assert told == {"dataset": cells, "version": version["number"], "synthetic_images": published["added"]} | {
        k: version[k] for k in ("proof", "accepted_unproven")
    }
    job = stack.client.post("/v1/datasets", {"name": stack.name("back"), "uri": "s3://team-data/exported-coco"})
    again = stack.client.wait(job["job"], timeout_s=120)["result"]["dataset"]
    first = stack.client.get(f"/v1/datasets/{cells}/versions/{published['version']}")["health"]
    second = stack.client.get(f"/v1/datasets/{again}/versions/1")["health"]
    assert [c["instances"] for c in first["classes"]] == [c["instances"] for c in second["classes"]]


def test_the_streamed_archive_holds_marked_synthetic_images(stack, cells, published):
    data = b"".join(stack.client.download(f"/v1/datasets/{cells}/versions/{published['version']}/archive", format="yolo"))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        sidecar = json.loads(tar.extractfile("longtail.json").read())["synthetic"]
        names = tar.getnames()
        assert len(sidecar) == published["added"]
        assert json.loads(tar.extractfile("longtail-version.json").read())["proof"] == "none"
        for path in sidecar:
            assert path in names
            assert read_mark(tar.extractfile(path).read()).source_type == DIGITAL_SOURCE_TYPES["inpaint"]


def test_a_streamed_archive_says_what_is_proven_where_its_format_has_no_place_for_that(stack, cells, published):
    where, version = f"/v1/datasets/{cells}/versions/{published['version']}", stack.client.get(f"/v1/datasets/{cells}/versions/{published['version']}")
    answer = stack.client.http.get(f"{where}/archive", params={"format": "webdataset"}, timeout=120)
    said = {k: answer.headers[f"Longtail-{k}"] for k in ("Proof", "Accepted-Unproven")}
    assert said == {"Proof": version["proof"], "Accepted-Unproven": str(version["accepted_unproven"]).lower()}
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        assert tar.getnames() and "longtail-version.json" not in tar.getnames()
    place = f"s3://team-data/{stack.name('shards')}"
    first = stack.client.post(f"{where}/exports", {"format": "webdataset", "destination": place})
    assert stack.client.wait(first["job"], timeout_s=120)["result"]["files"][0] == "longtail-version.json"
    assert json.loads(stack.objects.read(f"{place}/longtail-version.json"))["accepted_unproven"] is version["accepted_unproven"]
