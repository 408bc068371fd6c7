"""YOLO, out: Ultralytics' layout of images/, labels/ and data.yaml."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from longtail.datasets import ClassMap
from longtail.samples import SPLITS, Sample


def image_path(sample: Sample) -> str:
    """Where an image goes: images/SPLIT/PATH, without a leading images/ of its own."""
    return f"images/{sample.split}/{sample.path.removeprefix('images/')}"


def write(samples: Iterable[Sample], classes: Mapping[int, str]) -> dict[str, bytes]:
    """labels/SPLIT/NAME.txt for each image (empty where it has no box), data.yaml, and a sidecar of what is synthetic.

    Lines are `class cx cy w h`, as fractions of the image; classes are counted from 0 in ascending order of id.
    """
    class_map = ClassMap(classes)
    files: dict[str, bytes] = {}
    sidecar = {}
    used = set()
    for sample in samples:
        used.add(sample.split)
        lines = []
        for a in sample.annotations:
            if a.bbox_xywh is None:
                continue
            x, y, w, h = a.bbox_xywh
            values = ((x + w / 2) / sample.width, (y + h / 2) / sample.height, w / sample.width, h / sample.height)
            lines.append(f"{class_map.index_of(a.category_id)} " + " ".join(repr(float(v)) for v in values))
        stem = image_path(sample).removeprefix("images/").rsplit(".", 1)[0]
        files[f"labels/{stem}.txt"] = "".join(line + "\n" for line in lines).encode()
        if sample.provenance is not None:
            sidecar[image_path(sample)] = {"id": sample.id, "provenance": sample.provenance.to_json()}
    names = "".join(f"  {i}: {json.dumps(classes[c], ensure_ascii=False)}\n" for i, c in enumerate(sorted(classes)))
    splits = "".join(f"{s}: images/{s}\n" for s in SPLITS if s in used)
    files["data.yaml"] = f"path: .\n{splits}names:\n{names}".encode()
    files["longtail.json"] = json.dumps({"synthetic": sidecar}).encode()
    return files
