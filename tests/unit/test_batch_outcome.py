"""What a batch says of itself once its filters have spoken: rates, objects that were taken out, and advice where too much is lost."""

from __future__ import annotations

import pytest

from infra.database import BATCHES, GENERATORS, SAMPLES
from workflows.batches import keep


@pytest.fixture
def stack(records):
    database = records.catalogue.database
    database.insert(BATCHES, {"id": "b", "dataset": "d", "state": "filtering", "request": {}, "job": "j"})
    gates = [{"name": "kid", "class_name": "cell", "novelty": 0.25}]
    database.insert(GENERATORS, {"id": "d:2", "dataset": "d", "version": 2, "uri": "s3://b/g", "run": "r", "classes": ["cell"], "gates": gates, "recipe": {},
                                 "source": "finetune", "job": "j", "dataset_version": 1})  # fmt: skip
    return records


def sample(k):
    fields = {"id": f"s{k}", "uri": "s3://b/x", "etag": "e", "size_bytes": 1, "width": 8, "height": 8, "annotations": []}
    record = {"mode": "inpaint", "class_name": "cell", "novelty": 0.3, "model": "d", "model_version": 2}
    return {**fields, "record": record, "objects": []}


def verdict(objects, *reasons):
    figures = {"change": 9.0}
    return {"accepted": not reasons, "reasons": list(reasons), "nearest": "n#0", "derived_from": ["n#0"], "figures": figures, "objects": objects}


def test_a_batch_that_loses_objects_says_so_though_every_image_is_left(stack):
    """Of four images with three objects each two were refused in all: nothing is rejected, and two thirds are gone."""
    first = [verdict([True, False, False], "label")] * 4
    told = keep(stack, "b", [sample(k) for k in range(4)], [verdict([True])] * 4, first)
    assert told["rejected"] == {} and told["accepted"] == 4
    assert told["objects"] == {"made": 12, "accepted": 4, "taken_out": 8, "taken_out_for": {"label": 4}}
    assert told["advice"].startswith("8 of 12 objects were filtered out, most by 'label'") and "fine-tune longer" in told["advice"]
    assert told["unasked"].startswith("made at novelty 0.3, where the gates of generator 2 looked at 'cell' at 0.25")
    assert stack.catalogue.database.get(BATCHES, "b")["summary"] == told


def test_a_batch_that_loses_images_says_so(stack):
    verdicts = [verdict([True]), *[verdict([False], "copy")] * 2]
    told = keep(stack, "b", [sample(k) for k in range(3)], verdicts, verdicts)
    assert told["rates"] == {"copy": pytest.approx(2 / 3)} and told["advice"].startswith("2 of 3 images were filtered out, most by 'copy'")
    assert [r["state"] for r in stack.catalogue.database.every(SAMPLES, batch="b")] == ["accepted", "rejected", "rejected"]


def test_what_no_generator_made_is_not_sent_to_be_trained(stack):
    verdicts = [verdict([False], "copy")] * 3
    pasted = [{**sample(k), "record": {"model_version": None}} for k in range(3)]
    told = keep(stack, "b", pasted, verdicts, verdicts)
    assert told["advice"] == "3 of 3 images were filtered out, most by 'copy'" and "unasked" not in told


def test_a_batch_that_keeps_half_gives_no_advice(stack):
    verdicts = [verdict([True]), verdict([False], "copy")]
    told = keep(stack, "b", [{**sample(k), "record": {**sample(k)["record"], "novelty": 0.25}} for k in range(2)], verdicts, verdicts)
    assert "advice" not in told and "unasked" not in told
