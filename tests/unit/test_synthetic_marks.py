"""What is synthetic says so in every format that it goes out in, and is known for it when it comes back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from infra.formats.source import read_source
from longtail.errors import BrokenDataset
from longtail.samples import Annotation, Provenance
from tests.unit.test_round_trips import StoredFiles, export, picture, sample_at


@pytest.mark.parametrize("format", ["coco", "yolo", "voc"])
def test_what_went_out_as_synthetic_comes_back_as_synthetic(format):
    record = Provenance(
        mode="inpaint", class_name="b", seed=1, novelty=0.2, model="m", model_version=1, model_uri="s3://b/m", background={"id": "x"}, exemplar=None,
        box_xyxy=(0, 0, 4, 4), scores={"seam": 0.5},
    )  # fmt: skip
    label = (Annotation(category_id=0, bbox_xywh=(1, 2, 3, 4)),)
    made = replace(sample_at("longtail/y.jpg", "train", label), id="syn-1", origin="synthetic", provenance=record)
    files = export(format, [sample_at("x.jpg", "train", label), made], {0: "b"}, {})
    objects = StoredFiles({p: c if isinstance(c, bytes) else picture() for p, c in files.items()})
    source, found = read_source(objects, "s3://c", format="auto")
    assert (found, source.problems) == (format, ())
    assert {s.path.split("/")[-1]: (s.origin, s.provenance) for s in source.samples} == {"x.jpg": ("real", None), "y.jpg": ("synthetic", record)}
    assert next(s.id for s in source.samples if s.provenance) == "syn-1"


def test_what_is_marked_as_synthetic_does_not_enter_val():
    record = Provenance(
        mode="inpaint", class_name="b", seed=1, novelty=0.2, model=None, model_version=None, model_uri=None, background=None, exemplar=None,
        box_xyxy=(0, 0, 4, 4),
    )  # fmt: skip
    label = (Annotation(category_id=0, bbox_xywh=(1, 2, 3, 4)),)
    made = replace(sample_at("y.jpg", "val", label), origin="synthetic", provenance=record)
    files = export("yolo", [sample_at("x.jpg", "train", label), made], {0: "b"}, {})
    source, _ = read_source(StoredFiles({p: c if isinstance(c, bytes) else picture() for p, c in files.items()}), "s3://c", format="auto")
    assert [s.path for s in source.samples] == ["images/train/x.jpg"]
    assert "nothing synthetic enters val or test" in source.problems[0]


def test_a_sidecar_that_cannot_be_read_stops_the_registration():
    objects = StoredFiles({"longtail.json": b"{}", "a/1.png": picture()})
    with pytest.raises(BrokenDataset, match="cannot be told from real ones"):
        read_source(objects, "s3://c", format="auto")
