"""Pictures of boxes of odd sizes: what a person needs to see whether a label is wrong."""

from __future__ import annotations

import base64
from typing import Any

from PIL import Image

from infra.catalogue import Catalogue
from infra.database import Row
from infra.images import Pixels, decode, saved
from longtail.boxes import BoxXyxy, xywh_to_xyxy
from longtail.errors import BrokenImage, NotFound, SourceChanged

SHOWN = 12
AROUND = 2.0
"""What is shown, in longer sides of the box, NEAREST_PX at the least."""
NEAREST_PX = 64
LARGEST_PX = 300


def odd_pictures(catalogue: Catalogue, dataset: str, version: Row, odd: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The first SHOWN odd boxes of an inspection, each with "picture" (width, height, base64 PNG), "box" (xyxy in it) and "side_px".

    Left out are images that were withdrawn, or changed or vanished since. Raises StorageUnavailable.
    """
    chosen = odd["first"][:SHOWN] if odd else []
    ids = {o["id"] for o in chosen} - catalogue.withdrawn(dataset)
    pictures: dict[str, Pixels] = {}
    for sample in catalogue.samples(dataset, version, ids=sorted(ids)) if ids else ():
        try:
            data = catalogue.objects.read(sample.uri, etag=sample.etag)
            pictures[sample.id], _ = decode(data, what=sample.path, max_pixels=catalogue.settings.max_image_pixels)
        except (BrokenImage, NotFound, SourceChanged):
            continue
    return [{**one, **surroundings(pictures[one["id"]], xywh_to_xyxy(one["bbox_xywh"]))} for one in chosen if one["id"] in pictures]


def surroundings(pixels: Pixels, box: BoxXyxy) -> dict[str, Any]:
    """{"picture", "box", "side_px"}: the box (xyxy, at least partly in the image) with what is about it, LARGEST_PX at the most, and where it lies in that."""
    height, width = pixels.shape[:2]
    side = max(box[2] - box[0], box[3] - box[1])
    half = max(AROUND * side, NEAREST_PX) / 2
    across, down = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    x0, y0 = (min(size - 1, max(0, round(middle - half))) for middle, size in ((across, width), (down, height)))
    x1, y1 = (min(size, max(start + 1, round(middle + half))) for middle, start, size in ((across, x0, width), (down, y0, height)))
    part = Image.fromarray(pixels[y0:y1, x0:x1])
    scale = min(1.0, LARGEST_PX / max(part.size))
    shown = part.resize((max(1, round(part.width * scale)), max(1, round(part.height * scale))))
    picture = {"width": shown.width, "height": shown.height, "png": base64.b64encode(saved(shown, "PNG")).decode()}
    return {"picture": picture, "box": [(v - start) * scale for v, start in zip(box, (x0, y0, x0, y0), strict=True)], "side_px": round(side)}
