"""ImageFolder: class folders, optionally below split folders."""

from __future__ import annotations

from infra.formats.listing import SourceDataset, split_of
from infra.objects import ObjectInfo
from longtail.samples import Annotation, Sample
from longtail.seeds import derive_id

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


def looks_like(objects: list[ObjectInfo]) -> bool:
    return any("/" in o.path and o.path.lower().endswith(IMAGE_SUFFIXES) for o in objects)


def read(objects: list[ObjectInfo]) -> SourceDataset:
    """CLASS/NAME, all of it train, or SPLIT/CLASS/NAME; classes are numbered in order of name."""
    found: list[tuple[ObjectInfo, str, str]] = []
    problems: list[str] = []
    for item in objects:
        if not item.path.lower().endswith(IMAGE_SUFFIXES):
            continue
        parts = item.path.split("/")
        split = split_of(parts[0]) if len(parts) > 2 else None
        if len(parts) < 2:
            problems.append(f"{item.path}: an image outside any class folder")
            continue
        found.append((item, parts[1] if split else parts[0], split or "train"))
    names = sorted({name for _, name, _ in found})
    ids = {name: i for i, name in enumerate(names)}
    samples = tuple(
        Sample(
            id=derive_id("real", item.path),
            path=item.path,
            uri=item.uri,
            etag=item.etag,
            size_bytes=item.size_bytes,
            width=0,
            height=0,
            split=split,  # type: ignore[arg-type]
            annotations=(Annotation(category_id=ids[name]),),
        )
        for item, name, split in found
    )
    return SourceDataset("classification", dict(enumerate(names)), samples, tuple(problems))
