"""Pascal VOC: Annotations/NAME.xml beside JPEGImages/, with or without ImageSets/Main."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from infra.formats.listing import SIDECAR, Entry, SourceDataset, bare_sample, by_path, is_image, load_all
from infra.objects import ObjectInfo
from longtail.boxes import check_inside, xywh_to_xyxy
from longtail.errors import BrokenDataset, InvalidRequest
from longtail.names import check_relative
from longtail.samples import SPLITS, Annotation, Sample, Split

CORNERS = ("xmin", "ymin", "xmax", "ymax")
SLACK_PX = 1.0


def looks_like(objects: list[ObjectInfo]) -> bool:
    return any(is_annotation(o.path) for o in objects)


def is_annotation(path: str) -> bool:
    return path.startswith("Annotations/") and path.lower().endswith(".xml")


def read(objects: list[ObjectInfo], load: Callable[[str], bytes]) -> SourceDataset:
    """Every image under JPEGImages/, its objects from the XML of its name; one without XML is empty.

    Corners are taken as they lie: width is xmax - xmin. Classes are numbered from 0 in order of name. Lists in
    ImageSets/Main say the splits (trainval is train where no list says otherwise); without them all of it is train.
    """
    known = by_path(objects)
    problems: list[str] = []
    splits = read_splits(known, load, problems)
    parsed: dict[str, tuple[Element, list[tuple[str, Annotation]]]] = {}
    for item, data in load_all([known[p] for p in sorted(known) if is_annotation(p)], load, problems):
        try:
            root = parse(item.path, data)
            image = image_of(item.path, root, known)
        except InvalidRequest as error:
            problems.append(str(error))
            continue
        if image in parsed:
            problems.append(f"{item.path}: {image} has a second annotation file")
            continue
        parsed[image] = (root, read_objects(item.path, root, problems))
    names = sorted({name for _, found in parsed.values() for name, _ in found})
    ids = {name: i for i, name in enumerate(names)}
    samples = []
    for path in (p for p in known if p.startswith("JPEGImages/") and is_image(p)):
        stem = posixpath.splitext(path.removeprefix("JPEGImages/"))[0]
        if splits and stem not in splits:
            problems.append(f"{path}: is in no list of ImageSets/Main")
            continue
        head, found = parsed.get(path, (None, []))
        annotations = tuple(Annotation(category_id=ids[name], bbox_xywh=a.bbox_xywh, extra=a.extra) for name, a in found)
        extra = {"voc": text_of(head)} if head is not None else {}
        sample = bare_sample(known[path], splits.get(stem, "train"), annotations=annotations, extra=extra)
        samples.append(sample if head is None else with_claimed_size(sample, head))
    return SourceDataset("detection", dict(enumerate(names)), tuple(samples), tuple(problems), {"voc": {"lists": bool(splits)}})


def read_splits(known: Mapping[str, ObjectInfo], load: Callable[[str], bytes], problems: list[str]) -> dict[str, Split]:
    """{stem: split} of ImageSets/Main; a list of one class (two columns, CLASS_train.txt) says nothing of splits."""
    splits: dict[str, Split] = {}
    lists: list[tuple[str, Split]] = [("train", "train"), ("val", "val"), ("test", "test"), ("trainval", "train")]
    for name, split in lists:
        path = f"ImageSets/Main/{name}.txt"
        if path not in known:
            continue
        try:
            lines = load(known[path].uri).decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise BrokenDataset(f"{path}: is not text in UTF-8: {error}") from error
        for line in lines:
            stem = line.strip()
            if stem and splits.setdefault(stem, split) != split and name != "trainval":
                problems.append(f"{path}: {stem} is in {splits[stem]} and in {split}")
    stems = {posixpath.splitext(p.removeprefix("JPEGImages/"))[0] for p in known if p.startswith("JPEGImages/")}
    problems += [f"ImageSets/Main: {stem!r} is listed and not in JPEGImages/" for stem in splits if stem not in stems]
    return splits


def parse(path: str, data: bytes) -> Element:
    """The file's root. Raises InvalidRequest; entities are never expanded."""
    if b"<!ENTITY" in data or b"<!DOCTYPE" in data:
        raise InvalidRequest(f"{path}: XML with a document type or entities is not read")
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InvalidRequest(f"{path}: not readable as XML: {error}") from error
    if root.tag != "annotation":
        raise InvalidRequest(f"{path}: expected <annotation>, found <{root.tag}>")
    return root


def image_of(path: str, root: Element, known: Mapping[str, ObjectInfo]) -> str:
    """The image that a file describes: the one of its own name, else the one that <filename> says."""
    stem = posixpath.splitext(path.removeprefix("Annotations/"))[0]
    named = (root.findtext("filename") or "").strip()
    wanted = [f"JPEGImages/{stem}{suffix}" for suffix in (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".bmp", ".webp", ".tif")]
    if named:
        wanted.append(f"JPEGImages/{check_relative(named, what=f'{path}: filename')}")
    found = next((w for w in wanted if w in known), None)
    if found is None:
        raise InvalidRequest(f"{path}: neither JPEGImages/{stem}.* nor its <filename> {named!r} is below the prefix")
    return found


def read_objects(path: str, root: Element, problems: list[str]) -> list[tuple[str, Annotation]]:
    """(class name, annotation) of each <object>; its element is kept whole in `extra`."""
    found = []
    for i, item in enumerate(root.findall("object"), 1):
        name = (item.findtext("name") or "").strip()
        box = item.find("bndbox")
        try:
            if not name:
                raise InvalidRequest("has no <name>")
            corners = [float(box.findtext(c, "")) for c in CORNERS] if box is not None else []
            if not corners:
                raise InvalidRequest("has no <bndbox>")
        except ValueError:
            problems.append(f"{path}: object {i}: expected numbers in xmin, ymin, xmax and ymax")
            continue
        except InvalidRequest as error:
            problems.append(f"{path}: object {i}: {error}")
            continue
        x0, y0, x1, y1 = corners
        found.append((name, Annotation(category_id=-1, bbox_xywh=(x0, y0, x1 - x0, y1 - y0), extra={"voc": text_of(item)})))
    return found


def with_claimed_size(sample: Sample, root: Element) -> Sample:
    """The size that the file claims, to be held against the image; 0 where it claims none."""
    claims = [root.findtext(f"size/{side}", "0").strip() for side in ("width", "height")]
    width, height = (int(c) if c.isdigit() else 0 for c in claims)
    return replace(sample, width=width, height=height)


def place(sample: Sample) -> Sample:
    """The sample itself. Raises InvalidRequest for a box that has no area or leaves the image."""
    for i, a in enumerate(sample.annotations, 1):
        if a.bbox_xywh is not None:
            check_inside(xywh_to_xyxy(a.bbox_xywh), sample.width, sample.height, what=f"{sample.path}: object {i}", slack_px=SLACK_PX)
    return sample


def text_of(element: Element) -> str:
    """The element as text, without the objects below it."""
    copy = Element(element.tag, element.attrib)
    copy.text = element.text
    copy.extend([child for child in element if child.tag != "object"])
    return ElementTree.tostring(copy, encoding="unicode")


def write(samples: Iterable[Sample], classes: Mapping[int, str], meta: Mapping[str, Any]) -> Iterator[Entry]:
    """An image and Annotations/NAME.xml for each sample, then a sidecar of what is synthetic and the lists of ImageSets/Main."""
    lists: dict[str, list[str]] = {}
    marks: dict[str, Any] = {}
    for sample in samples:
        path = image_path(sample)
        stem = posixpath.splitext(path.removeprefix("JPEGImages/"))[0]
        lists.setdefault(sample.split, []).append(stem)
        yield path, sample
        if sample.annotations or "voc" in sample.extra or "voc" not in meta:
            yield f"Annotations/{stem}.xml", ElementTree.tostring(element_of(sample, classes), encoding="utf-8")
        if sample.provenance is not None:
            marks[path] = {"id": sample.id, "provenance": sample.provenance.to_json()}
    yield SIDECAR, json.dumps({"synthetic": marks}).encode()
    if meta.get("voc", {}).get("lists", True) or len(lists) > 1:
        for split in (s for s in SPLITS if s in lists):
            yield f"ImageSets/Main/{split}.txt", "".join(f"{s}\n" for s in lists[split]).encode()


def image_path(sample: Sample) -> str:
    """JPEGImages/PATH, without a leading JPEGImages/ or images/ of its own."""
    return f"JPEGImages/{sample.path.removeprefix('JPEGImages/').removeprefix('images/')}"


def element_of(sample: Sample, classes: Mapping[int, str]) -> Element:
    if "voc" in sample.extra:
        root = ElementTree.fromstring(sample.extra["voc"])
    else:
        root = Element("annotation")
        add(root, "filename", posixpath.basename(sample.path))
        size = add(root, "size")
        for tag, pixels in (("width", sample.width), ("height", sample.height), ("depth", 3)):
            add(size, tag, str(pixels))
    for a in sample.annotations:
        if "voc" in a.extra:
            root.append(ElementTree.fromstring(a.extra["voc"]))
            continue
        if a.bbox_xywh is None:
            continue
        item = add(root, "object")
        add(item, "name", classes[a.category_id])
        for tag in ("truncated", "difficult"):
            add(item, tag, "0")
        box = add(item, "bndbox")
        for tag, value in zip(CORNERS, xywh_to_xyxy(a.bbox_xywh), strict=True):
            add(box, tag, repr(round(value, 6)).removesuffix(".0"))
    return root


def add(parent: Element, tag: str, text: str | None = None) -> Element:
    child = ElementTree.SubElement(parent, tag)
    child.text = text
    return child
