"""ImageFolder: class folders, optionally below split folders."""

from __future__ import annotations

from collections.abc import Callable

from infra.formats.listing import SourceDataset, bare_sample, is_image, split_of
from infra.objects import ObjectInfo
from longtail.samples import Annotation, Split


def looks_like(objects: list[ObjectInfo]) -> bool:
    return any("/" in o.path and is_image(o.path) for o in objects)


def read(objects: list[ObjectInfo], _load: Callable[[str], bytes] | None = None) -> SourceDataset:
    """CLASS/NAME, all of it train, or SPLIT/CLASS/NAME; classes are numbered in order of name."""
    found: list[tuple[ObjectInfo, str, Split]] = []
    problems: list[str] = []
    for item in objects:
        if not is_image(item.path):
            continue
        parts = item.path.split("/")
        split = split_of(parts[0]) if len(parts) > 2 else None
        if len(parts) < 2:
            problems.append(f"{item.path}: an image outside any class folder")
            continue
        found.append((item, parts[1] if split else parts[0], split or "train"))
    names = sorted({name for _, name, _ in found})
    ids = {name: i for i, name in enumerate(names)}
    samples = tuple(bare_sample(item, split, annotations=(Annotation(category_id=ids[name]),)) for item, name, split in found)
    return SourceDataset("classification", dict(enumerate(names)), samples, tuple(problems))
