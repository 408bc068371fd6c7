"""COCO instances: in, one JSON file a split; out, the same, with every source field as it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from infra.formats.listing import SourceDataset, by_path, split_of
from infra.objects import ObjectInfo
from longtail.boxes import check_inside, xywh_to_xyxy
from longtail.errors import BrokenDataset, InvalidRequest
from longtail.names import check_relative
from longtail.samples import SPLITS, Annotation, Sample, Split
from longtail.seeds import derive_id

IMAGE_FIELDS = ("id", "file_name", "width", "height")
ANNOTATION_FIELDS = ("image_id", "category_id", "bbox")
SLACK_PX = 1.0


def looks_like(objects: list[ObjectInfo]) -> bool:
    return any(is_annotation_file(o.path) for o in objects)


def is_annotation_file(path: str) -> bool:
    return path.endswith(".json") and path.count("/") <= 1 and path not in ("summary.json", "longtail.json")


def read(objects: list[ObjectInfo], load: Callable[[str], bytes]) -> SourceDataset:
    """Every JSON file at the prefix or one folder down, as one dataset; the file's name says the split."""
    known = by_path(objects)
    problems: list[str] = []
    classes: dict[int, str] = {}
    samples: list[Sample] = []
    meta: dict[str, Any] = {"files": {}}
    for path in sorted(p for p in known if is_annotation_file(p)):
        body = parse(path, load(known[path].uri), problems)
        if body is None:
            continue
        split = split_of(path) or "train"
        meta["files"][split] = {k: v for k, v in body.items() if k not in ("images", "annotations")}
        for category in body["categories"]:
            name = classes.setdefault(category["id"], category["name"])
            if name != category["name"]:
                problems.append(f"{path}: category {category['id']} is {category['name']!r} here and {name!r} in another file")
        samples += read_file(path, body, split, known, classes, problems)
    return SourceDataset("detection", classes, tuple(samples), tuple(problems), meta)


def parse(path: str, data: bytes, problems: list[str]) -> dict[str, Any] | None:
    try:
        body = json.loads(data, parse_constant=lambda s: _refuse(s))
    except (ValueError, UnicodeDecodeError) as error:
        problems.append(f"{path}: not readable as JSON: {error}")
        return None
    if not isinstance(body, dict) or not all(isinstance(body.get(k), list) for k in ("images", "annotations", "categories")):
        problems.append(f"{path}: expected a COCO object with the lists 'images', 'annotations' and 'categories'")
        return None
    return body


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number")


def read_file(
    path: str, body: Mapping[str, Any], split: Split, known: Mapping[str, ObjectInfo], classes: Mapping[int, str], problems: list[str]
) -> list[Sample]:
    labels: dict[Any, list[Annotation]] = {}
    sizes = {image.get("id"): (image.get("width", 0), image.get("height", 0)) for image in body["images"]}
    seen: set[Any] = set()
    for record in body["annotations"]:
        where = f"{path}: annotation {record.get('id')}"
        if record.get("id") in seen:
            problems.append(f"{where}: the id is used twice")
            continue
        seen.add(record.get("id"))
        annotation = read_annotation(where, record, sizes, classes, problems)
        if annotation is not None:
            labels.setdefault(record["image_id"], []).append(annotation)
    samples, image_ids = [], set()
    for record in body["images"]:
        where = f"{path}: image {record.get('id')}"
        if record.get("id") in image_ids:
            problems.append(f"{where}: the id is used twice")
            continue
        image_ids.add(record.get("id"))
        try:
            name = check_relative(str(record.get("file_name")), what="file_name")
        except InvalidRequest as error:
            problems.append(f"{where}: {error}")
            continue
        item = next((known[p] for p in candidates(path, name) if p in known), None)
        if item is None:
            problems.append(f"{where}: {name!r} is not below the prefix (looked for {', '.join(candidates(path, name))})")
            continue
        extra = {"source_id": record["id"], "file_name": name, "fields": {k: v for k, v in record.items() if k not in IMAGE_FIELDS}}
        samples.append(
            Sample(
                id=derive_id("real", split, record["id"], name),
                path=item.path,
                uri=item.uri,
                etag=item.etag,
                size_bytes=item.size_bytes,
                width=int(record.get("width", 0)),
                height=int(record.get("height", 0)),
                split=split,
                annotations=tuple(labels.get(record["id"], ())),
                extra=extra,
            )
        )
    return samples


def candidates(annotation_path: str, name: str) -> list[str]:
    """Where a file name may lie: beside the JSON's folder, under images/, or under the split's own folder."""
    split = split_of(annotation_path) or "train"
    return [name, f"images/{name}", f"{split}/{name}", f"images/{split}/{name}", f"JPEGImages/{name}", f"{split}2017/{name}"]


def read_annotation(
    where: str, record: Mapping[str, Any], sizes: Mapping[Any, tuple[int, int]], classes: Mapping[int, str], problems: list[str]
) -> Annotation | None:
    if record.get("category_id") not in classes:
        problems.append(f"{where}: category {record.get('category_id')} is not in 'categories' ({sorted(classes)})")
        return None
    if record.get("image_id") not in sizes:
        problems.append(f"{where}: image {record.get('image_id')} is not in 'images'")
        return None
    box = record.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(v, int | float) for v in box):
        problems.append(f"{where}: expected bbox [x, y, width, height] in pixels, found {box!r}")
        return None
    width, height = sizes[record["image_id"]]
    try:
        check_inside(xywh_to_xyxy((box[0], box[1], box[2], box[3])), width, height, what=where, slack_px=SLACK_PX)
    except InvalidRequest as error:
        problems.append(str(error))
        return None
    extra = {k: v for k, v in record.items() if k not in ANNOTATION_FIELDS}
    return Annotation(category_id=record["category_id"], bbox_xywh=(box[0], box[1], box[2], box[3]), extra=extra)


def write(samples: Iterable[Sample], classes: Mapping[int, str], meta: Mapping[str, Any]) -> dict[str, bytes]:
    """annotations/instances_{split}.json for each split that has images; file names as at the source.

    Source ids stay; synthetic images and their annotations get the next free ones.
    """
    samples = list(samples)
    next_image = 1 + max((int(s.extra["source_id"]) for s in samples if isinstance(s.extra.get("source_id"), int)), default=0)
    taken = [a.extra["id"] for s in samples for a in s.annotations if isinstance(a.extra.get("id"), int)]
    next_annotation = 1 + max(taken, default=0)
    files: dict[str, bytes] = {}
    for split in SPLITS:
        images, annotations = [], []
        for sample in (s for s in samples if s.split == split):
            image_id = sample.extra.get("source_id")
            if image_id is None:
                image_id, next_image = next_image, next_image + 1
            images.append(image_record(sample, image_id))
            for a in sample.annotations:
                record: dict[str, Any] = {**a.extra, "image_id": image_id, "category_id": a.category_id, "bbox": list(a.bbox_xywh or ())}
                if "id" not in record:
                    record, next_annotation = {"id": next_annotation, "iscrowd": 0, **record}, next_annotation + 1
                    record.setdefault("area", record["bbox"][2] * record["bbox"][3])
                annotations.append(record)
        if images:
            categories = [{"id": c, "name": n} for c, n in sorted(classes.items())]
            head = {"categories": categories, **meta.get("files", {}).get(split, {})}
            files[f"annotations/instances_{split}.json"] = json.dumps({**head, "images": images, "annotations": annotations}).encode()
    if not files:
        raise BrokenDataset("this version holds no image to export")
    return files


def image_record(sample: Sample, image_id: Any) -> dict[str, Any]:
    record: dict[str, Any] = {
        "id": image_id,
        "file_name": sample.extra.get("file_name", sample.path),
        "width": sample.width,
        "height": sample.height,
        **sample.extra.get("fields", {}),
    }
    if sample.provenance is not None:
        record["longtail"] = {"id": sample.id, "origin": "synthetic", "provenance": sample.provenance.to_json()}
    return record
