"""Looking at a version's real images, on a Ray worker: fingerprints and features into the table of looks, then what is alike, and which boxes are odd."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from infra.catalogue import Catalogue
from infra.images import SMALL_PX, fingerprint, small
from infra.looks import Look
from infra.progress import Progress
from infra.tables import batched
from longtail.duplicates import Fingerprint, copies
from longtail.errors import LongtailError
from longtail.odd_boxes import odd_boxes
from longtail.samples import Sample
from trainers.quality.features import features
from trainers.tasks import at_work

READERS = 4
PART = 256
"""Images that are kept at a time: what is looked at again when the worker is killed."""
Seen = tuple[Sample, Fingerprint, np.ndarray[Any, np.dtype[np.uint8]]]


def inspect(*, job: str, dataset: str, version: int) -> dict[str, Any]:
    """{"images", "unread", "exact", "near", "leaking", "odd"}: what of the version's real images is there more than once, and boxes of odd sizes."""

    def real() -> Iterator[Sample]:
        return (s for s in catalogue.sources(dataset, row) if s.origin == "real")

    with at_work(1) as catalogue:
        row = catalogue.database.version(dataset, version, to_see=True)
        report, total = Progress(catalogue.database, job), max(1, catalogue.count(row))
        looks, done = catalogue.looks(dataset), 0
        known = looks.known()
        members: list[tuple[str, str, str]] = []
        unread: list[str] = []
        for part in batched(real(), PART):
            members += [(s.id, s.path, s.split) for s in part]
            seen = look_at(catalogue, [s for s in part if s.id not in known], unread)
            if seen:
                vectors = features([pixels for _, _, pixels in seen])
                looks.add([Look(sample.id, print_, vector) for (sample, print_, _), vector in zip(seen, vectors, strict=True)])
            done += len(part)
            report(0.9 * done / total, f"looked at {done} of {total} images")
        prints = looks.prints(i for i, _, _ in members)
        readable = [m for m in members if m[0] in prints]
        return {**copies(readable, [prints[i] for i, _, _ in readable]), "unread": unread, "odd": odd_boxes(real, catalogue.classes(dataset).names)}


def look_at(catalogue: Catalogue, samples: list[Sample], unread: list[str]) -> list[Seen]:
    """Each image that can be read, small; the others are told in `unread`."""

    def look(sample: Sample) -> Seen | str:
        try:
            data = catalogue.objects.read(sample.uri, etag=sample.etag)
            image = small(data, what=sample.path, max_pixels=catalogue.settings.max_image_pixels)
        except LongtailError as error:
            return str(error)
        return sample, fingerprint(data, image), np.asarray(image.resize((SMALL_PX, SMALL_PX)))

    seen: list[Seen] = []
    with ThreadPoolExecutor(READERS) as pool:
        for found in pool.map(look, samples):
            if isinstance(found, str):
                unread.append(found)
            else:
                seen.append(found)
    return seen
