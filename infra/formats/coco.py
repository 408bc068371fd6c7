"""COCO instances: in, one JSON file a split; out, the same, with every source field as it was."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from infra.formats.listing import SIDECAR, VERSION_FILE, Entry, SourceDataset, by_path, split_of
from infra.formats.segmentation import check_segmentation
from infra.objects import ObjectInfo
from longtail.boxes import check_inside, xywh_to_xyxy
from longtail.errors import InvalidRequest
from longtail.names import check_relative
from longtail.samples import SPLITS, Annotation, Sample, Split
from longtail.seeds import derive_id

IMAGE_FIELDS = ("id", "file_name", "width", "height")
LISTS = ("images", "annotations", "categories")
ANNOTATION_FIELDS = ("image_id", "category_id", "bbox")
SLACK_PX = 1.0


def looks_like(objects: list[ObjectInfo]) -> bool:
    return any(is_annotation_file(o.path) for o in objects)


def is_annotation_file(path: str) -> bool:
    return path.endswith(".json") and path.count("/") <= 1 and path not in ("summary.json", SIDECAR, VERSION_FILE)


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
                problems.append(f"{path}: category {category['id']} is {category['name']!r} here and {name!r} before")
        samples += read_file(path, body, split, known, classes, problems)
    twice = [name for name, count in Counter(classes.values()).items() if count > 1]
    problems += [f"{name!r} is the name of categories {sorted(k for k, v in classes.items() if v == name)}; a class is asked for by name" for name in twice]
    lies: dict[str, Sample] = {}
    for sample in samples:
        first = lies.setdefault(sample.path, sample)
        if first is not sample:
            problems.append(f"{sample.path}: is image {first.extra['source_id']} of {first.split} and image {sample.extra['source_id']} of {sample.split}")
    meta["next_image_id"] = next_free(s.extra["source_id"] for s in samples)
    meta["next_annotation_id"] = next_free(a.extra.get("id") for s in samples for a in s.annotations)
    return SourceDataset("detection", classes, tuple(samples), tuple(problems), meta)


def next_free(ids: Iterable[Any]) -> int:
    """One more than the largest whole number among the ids."""
    return 1 + max((i for i in ids if isinstance(i, int)), default=0)


def parse(path: str, data: bytes, problems: list[str]) -> dict[str, Any] | None:
    """The file's object with whole records of each kind; what is wrong with it joins the problems, and then it is None."""
    try:
        body = json.loads(data, parse_constant=not_a_number)
    except NotANumber:
        found = [where for where, record in records(json.loads(data)) if not finite(record)]
        problems += [f"{path}: {where}: has a value that is not a finite number" for where in found or ["somewhere"]]
        return None
    except (ValueError, RecursionError) as error:
        problems.append(f"{path}: not readable as JSON: {str(error)[:200]}")
        return None
    if not isinstance(body, dict) or not all(isinstance(body.get(k), list) for k in LISTS):
        problems.append(f"{path}: expected a COCO object with the lists 'images', 'annotations' and 'categories'")
        return None
    wrong = [f"{path}: {problem}" for where, record in records(body) if (problem := wrong_with(where, record))]
    problems += wrong
    return None if wrong else body


class NotANumber(ValueError):
    """JSON that says NaN or Infinity."""


def not_a_number(constant: str) -> None:
    raise NotANumber(constant)


def finite(record: object) -> bool:
    try:
        json.dumps(record, allow_nan=False)
    except ValueError:
        return False
    return True


def records(body: object) -> Iterator[tuple[str, Any]]:
    """Every record with its list and id, or its place where it has none."""
    for kind in LISTS if isinstance(body, dict) else ():
        for i, record in enumerate(body.get(kind) or ()):  # type: ignore[attr-defined]
            known = record.get("id") if isinstance(record, dict) else None
            yield f"{kind.removesuffix('s') if kind != 'categories' else 'category'} {known if known is not None else f'at place {i}'}", record


def wrong_with(where: str, record: Any) -> str | None:
    """Why a record cannot be read at all, None where it can."""
    if not isinstance(record, dict):
        return f"{where}: expected an object, found {str(record)[:60]}"
    if where.startswith("annotation"):
        return None
    if not isinstance(record.get("id"), int | str) or isinstance(record.get("id"), bool):
        return f"{where}: has no id"
    if where.startswith("category"):
        named = isinstance(record.get("name"), str) and record["name"] and isinstance(record["id"], int)
        return None if named else f"{where}: expected a whole number as id and a name, found {str(record)[:60]}"
    for side in ("width", "height"):
        if not isinstance(record.get(side, 0), int) or record.get(side, 0) < 0:
            return f"{where}: {side} must be a whole number of pixels, found {record[side]!r}"
    return None


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
        if width and height:  # else it is checked once the image itself says
            check_inside(xywh_to_xyxy((box[0], box[1], box[2], box[3])), width, height, what=where, slack_px=SLACK_PX)
        check_segmentation(record.get("segmentation"), width, height, what=where)
    except InvalidRequest as error:
        problems.append(str(error))
        return None
    extra = {k: v for k, v in record.items() if k not in ANNOTATION_FIELDS}
    return Annotation(category_id=record["category_id"], bbox_xywh=(box[0], box[1], box[2], box[3]), extra=extra)


def write(samples: Iterable[Sample], classes: Mapping[int, str], meta: Mapping[str, Any], scratch: Path) -> Iterator[Entry]:
    """Each image where it lay, then annotations/instances_{split}.json for each split that has images.

    Source ids and file names stay; synthetic images and their annotations get ids that the source has not used. Records
    are spooled to `scratch`, so that a dataset of any size fits.
    """
    numbers = {"image": meta.get("next_image_id", 1), "annotation": meta.get("next_annotation_id", 1)}
    spools: dict[str, Spool] = {}
    try:
        for sample in samples:
            if sample.split not in spools:
                spools[sample.split] = Spool(scratch / sample.split)
            spool = spools[sample.split]
            image_id = sample.extra["source_id"] if "source_id" in sample.extra else take(numbers, "image")
            spool.images.write(image_record(sample, image_id))
            for a in sample.annotations:
                record: dict[str, Any] = {**a.extra, "image_id": image_id, "category_id": a.category_id, "bbox": list(a.bbox_xywh or ())}
                if "id" not in record:
                    record = {"id": take(numbers, "annotation"), "iscrowd": 0, **record}
                    record.setdefault("area", record["bbox"][2] * record["bbox"][3])
                spool.annotations.write(record)
            yield sample.path, sample
        categories = [{"id": c, "name": n} for c, n in sorted(classes.items())]
        for split in (s for s in SPLITS if s in spools):
            head = {"categories": categories, **meta.get("files", {}).get(split, {})}
            yield f"annotations/instances_{split}.json", spools[split].finish(head, scratch / f"{split}.json")
    finally:
        for spool in spools.values():
            spool.close()


def place(sample: Sample) -> Sample:
    """The sample itself. Raises InvalidRequest for a box outside an image whose size the annotations did not say."""
    for a in sample.annotations:
        if a.bbox_xywh is not None:
            check_inside(xywh_to_xyxy(a.bbox_xywh), sample.width, sample.height, what=f"{sample.path}: annotation {a.extra.get('id')}", slack_px=SLACK_PX)
    return sample


def take(numbers: dict[str, int], what: str) -> int:
    numbers[what] += 1
    return numbers[what] - 1


class Spool:
    """The images and annotations of one split, on their way to one JSON file."""

    def __init__(self, stem: Path) -> None:
        self.images, self.annotations = Records(stem.with_suffix(".images")), Records(stem.with_suffix(".annotations"))

    def finish(self, head: Mapping[str, Any], target: Path) -> Path:
        """Writes {head..., "images": [...], "annotations": [...]} and returns its place."""
        with target.open("wb") as out:
            out.write(json.dumps(head).encode().removesuffix(b"}") + b', "images": [')
            self.images.pour(out)
            out.write(b'], "annotations": [')
            self.annotations.pour(out)
            out.write(b"]}")
        return target

    def close(self) -> None:
        self.images.file.close()
        self.annotations.file.close()


class Records:
    """JSON records in a file, a comma between each two."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("w+b")

    def write(self, record: Mapping[str, Any]) -> None:
        self.file.write((b",\n" if self.file.tell() else b"") + json.dumps(record).encode())

    def pour(self, out: IO[bytes]) -> None:
        self.file.seek(0)
        shutil.copyfileobj(self.file, out, 1 << 20)


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
