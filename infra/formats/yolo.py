"""YOLO in Ultralytics' form: a data.yaml, images, and for each a text file of labels."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import yaml

from infra.formats.listing import DEALT, SIDECAR, Entry, SourceDataset, bare_sample, by_path, is_image, load_all
from infra.objects import ObjectInfo
from longtail.boxes import BoxXywh, check_inside, xywh_to_xyxy
from longtail.datasets import ClassMap
from longtail.errors import BrokenDataset, InvalidRequest
from longtail.samples import SPLITS, Annotation, Sample, Split

SLACK_PX = 1.0
MAX_NODES = 1_000_000
OWN_KEYS = ("path", *SPLITS, "names", "nc")


def looks_like(objects: list[ObjectInfo]) -> bool:
    return any(is_config(o.path) for o in objects)


def is_config(path: str) -> bool:
    return path.count("/") <= 1 and path.lower().endswith((".yaml", ".yml"))


def label_path(image_path: str) -> str:
    """Ultralytics' rule: the last folder called images becomes labels, the suffix .txt."""
    head, found, tail = f"/{image_path}".rpartition("/images/")
    path = f"{head}/labels/{tail}" if found else f"/{image_path}"
    return path.removeprefix("/").rsplit(".", 1)[0] + ".txt"


def read(objects: list[ObjectInfo], load: Callable[[str], bytes]) -> SourceDataset:
    """The one data.yaml at the prefix or a folder down says classes and splits; an image without a label file is empty.

    A line is `class cx cy w h` or `class x1 y1 x2 y2 ...` (a polygon), as fractions of the image; it is kept as it was
    written, in the annotation's `extra`, and becomes a box in pixels once the image's size is known.
    """
    known = by_path(objects)
    problems: list[str] = []
    configs = sorted(p for p in known if is_config(p))
    if len(configs) != 1:
        raise BrokenDataset(f"expected one data.yaml at the prefix or one folder down, found {configs or 'none'}")
    config = parse(configs[0], load(known[configs[0]].uri))
    classes = class_names(configs[0], config)
    places = Places(posixpath.dirname(configs[0]), str(config.get("path") or "."), known, load)
    splits: dict[str, Split] = {}
    entries: dict[str, list[str]] = {}
    for split in SPLITS:
        listed = config.get(split) or []
        for entry in listed if isinstance(listed, list) else [listed]:
            where, images = places.images(f"{configs[0]}: {split}", str(entry), problems)
            entries.setdefault(split, []).extend(where)
            for path in images:
                if splits.setdefault(path, split) != split:
                    problems.append(f"{path}: is in {splits[path]} and in {split}")
    if not splits and not problems:
        problems.append(f"{configs[0]}: names no image under 'train', 'val' or 'test'")
    labels: dict[str, tuple[Annotation, ...]] = {}
    files = [known[label_path(p)] for p in splits if label_path(p) in known]
    for item, data in load_all(files, load, problems):
        labels[item.path] = read_labels(item.path, data, classes, problems)
    wanted = {label_path(p) for p in splits}
    if splits:
        problems += [f"{p}: labels of an image that is in no split" for p in known if "labels/" in p and p.endswith(".txt") and p not in wanted]
    samples = tuple(bare_sample(known[p], split, annotations=labels.get(label_path(p), ())) for p, split in sorted(splits.items()))
    meta = {"yolo": {"splits": entries, "fields": {k: v for k, v in config.items() if k not in OWN_KEYS}}}
    return SourceDataset("detection", classes, samples, tuple(problems), meta)


def parse(path: str, data: bytes) -> dict[str, Any]:
    try:
        config = yaml.safe_load(data.decode())
        if spread(config, {}) > MAX_NODES:
            raise BrokenDataset(f"{path}: spreads to more than {MAX_NODES} values by its aliases")
        json.dumps(config)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise BrokenDataset(f"{path}: not readable as YAML in UTF-8: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict) or not config.get("names"):
        raise BrokenDataset(f"{path}: expected 'names' (a list, or a map from number to name) and 'train', 'val' or 'test'")
    return config


def spread(value: Any, known: dict[int, int]) -> int:
    """How many values YAML stands for once its aliases are written out; each is walked once."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = 0
        known[id(value)] = 1 + sum(spread(v, known) for v in (value.values() if isinstance(value, dict) else value))
    return known[id(value)]


def class_names(path: str, config: Mapping[str, Any]) -> dict[int, str]:
    names = config["names"]
    pairs = enumerate(names) if isinstance(names, list) else names.items() if isinstance(names, dict) else ()
    try:
        classes = {int(k): str(v) for k, v in pairs}
    except (TypeError, ValueError):
        classes = {}
    if not classes or sorted(classes) != list(range(len(classes))):
        raise BrokenDataset(f"{path}: 'names' must number its classes 0, 1, 2, ..., found {names!r}")
    if "nc" in config and config["nc"] != len(classes):
        raise BrokenDataset(f"{path}: 'nc' says {config['nc']} classes, 'names' has {len(classes)}")
    return classes


class Places:
    """Finds what a split's entry means in a bucket: paths in a data.yaml are of the machine where it was written."""

    def __init__(self, folder: str, root: str, known: Mapping[str, ObjectInfo], load: Callable[[str], bytes]) -> None:
        self.folder, self.root, self.known, self.load = folder, root, known, load

    def images(self, where: str, entry: str, problems: list[str]) -> tuple[list[str], list[str]]:
        """(the entry as it lies below the prefix, its images): a folder, or a .txt that lists them."""
        for path in self.candidates(entry):
            if path in self.known and path.endswith(".txt"):
                return [path], self.listed(path, problems)
            below = [p for p in self.known if (p.startswith(f"{path}/") or path == ".") and is_image(p)]
            if below:
                return [path], below
        problems.append(f"{where}: nothing lies at {entry!r} (looked for {', '.join(self.candidates(entry))})")
        return [], []

    def candidates(self, entry: str) -> list[str]:
        """The longest first: below `path` with its leading folders dropped one by one; where the entry is absolute, its own too.

        A '../' that leads out, as Roboflow writes it, is dropped.
        """
        parts = [p for p in posixpath.normpath(posixpath.join(self.folder, self.root, entry)).split("/") if p not in ("", "..", ".")]
        own = 1 if entry.startswith("/") else len([p for p in posixpath.normpath(entry).split("/") if p not in ("..", ".")])
        tails = ["/".join(parts[i:]) or "." for i in range(len(parts) - own + 1)]
        return list(dict.fromkeys([*tails, *(posixpath.normpath(posixpath.join(self.folder, t)) for t in tails)]))

    def listed(self, path: str, problems: list[str]) -> list[str]:
        try:
            lines = self.load(self.known[path].uri).decode().splitlines()
        except UnicodeDecodeError:
            problems.append(f"{path}: not readable as UTF-8")
            return []
        images = []
        for line in filter(None, (line.strip() for line in lines)):
            found = [c for c in (posixpath.normpath(posixpath.join(posixpath.dirname(path), line)), *self.candidates(line)) if c in self.known]
            if found:
                images.append(found[0])
            else:
                problems.append(f"{path}: {line!r} is not below the prefix")
        return images


def read_labels(path: str, data: bytes, classes: Mapping[int, str], problems: list[str]) -> tuple[Annotation, ...]:
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        problems.append(f"{path}: not readable as UTF-8")
        return ()
    annotations = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            annotations.append(read_line(line.strip(), classes))
        except InvalidRequest as error:
            problems.append(f"{path}: line {number}: {error}")
    return tuple(annotations)


def read_line(line: str, classes: Mapping[int, str]) -> Annotation:
    values = line.split()
    if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
        raise InvalidRequest(f"expected 'class cx cy w h' or 'class x1 y1 x2 y2 x3 y3 ...', found {line[:80]!r}")
    try:
        category, numbers = float(values[0]), [float(v) for v in values[1:]]
    except ValueError as error:
        raise InvalidRequest(f"expected numbers, found {line[:80]!r}") from error
    if category not in classes:
        raise InvalidRequest(f"class {values[0]} is not one of 0 to {len(classes) - 1}")
    if not all(0 <= n <= 1 for n in numbers):
        raise InvalidRequest(f"expected fractions of the image from 0 to 1, found {line[:80]!r}")
    return Annotation(category_id=int(category), extra={"yolo": " ".join(values[1:])})


def place(sample: Sample) -> Sample:
    """The sample with its boxes in pixels. Raises InvalidRequest for a box that has no area or leaves the image."""
    annotations = []
    for i, a in enumerate(sample.annotations):
        box = box_of([float(v) for v in a.extra["yolo"].split()], sample.width, sample.height)
        check_inside(xywh_to_xyxy(box), sample.width, sample.height, what=f"{label_path(sample.path)}: object {i + 1}", slack_px=SLACK_PX)
        annotations.append(replace(a, bbox_xywh=box))
    return replace(sample, annotations=tuple(annotations))


def box_of(fractions: Sequence[float], width: int, height: int) -> BoxXywh:
    """Pixels from `cx cy w h`, or around a polygon's corners."""
    if len(fractions) == 4:
        cx, cy, w, h = fractions
        return (cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height
    xs, ys = [x * width for x in fractions[::2]], [y * height for y in fractions[1::2]]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def image_path(sample: Sample, meta: Mapping[str, Any]) -> str:
    """Where an image goes: where it lay in a YOLO source, else images/SPLIT/PATH without a leading images/ of its own."""
    if "yolo" in meta and sample.origin == "real":
        return sample.path
    return f"images/{sample.split}/{sample.path.removeprefix('images/')}"


def line_of(annotation: Annotation, sample: Sample) -> str:
    """`cx cy w h` as fractions, or the source's own line."""
    if "yolo" in annotation.extra:
        return str(annotation.extra["yolo"])
    x, y, w, h = annotation.bbox_xywh or (0, 0, sample.width, sample.height)
    values = ((x + w / 2) / sample.width, (y + h / 2) / sample.height, w / sample.width, h / sample.height)
    return " ".join(repr(float(v)) for v in values)


def write(samples: Iterable[Sample], classes: Mapping[int, str], meta: Mapping[str, Any]) -> Iterator[Entry]:
    """A label file (empty where there is no box) and an image for each sample, then a sidecar of what is synthetic and data.yaml.

    Classes are counted from 0 in ascending order of id. A split that the source listed in a .txt, or that was dealt
    on request, is listed in one.
    """
    class_map = ClassMap(classes)
    source = meta.get("yolo", {})
    marks: dict[str, Any] = {}
    used: dict[str, list[str]] = {}
    listed: dict[str, list[str]] = {}
    for sample in samples:
        path, split = image_path(sample, meta), sample.split
        entries = used.setdefault(split, list(source.get("splits", {}).get(split, [])))
        if DEALT in meta or any(e.endswith(".txt") for e in entries):
            listed.setdefault(split, []).append(path)
        elif not is_below(path, entries):
            entries.append(f"images/{split}")
        lines = [f"{class_map.index_of(a.category_id)} {line_of(a, sample)}\n" for a in sample.annotations if a.bbox_xywh is not None]
        yield label_path(path), "".join(lines).encode()
        yield path, sample
        if sample.provenance is not None:
            marks[path] = {"id": sample.id, "provenance": sample.provenance.to_json()}
    yield SIDECAR, json.dumps({"synthetic": marks}).encode()
    config: dict[str, Any] = {**source.get("fields", {}), "path": "."}
    for split in (s for s in SPLITS if s in used):
        if split in listed:
            yield f"{split}.txt", "".join(f"./{p}\n" for p in listed[split]).encode()
            config[split] = f"{split}.txt"
        else:
            config[split] = used[split][0] if len(used[split]) == 1 else used[split]
    config["names"] = {i: classes[c] for i, c in enumerate(sorted(classes))}
    yield "data.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode()


def is_below(path: str, folders: Sequence[str]) -> bool:
    return any(folder == "." or path.startswith(f"{folder}/") for folder in folders)
