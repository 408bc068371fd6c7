"""Pictures of boxes that are unlike their class's: what a person needs to see whether a label is wrong."""

from __future__ import annotations

import base64
from typing import Any

from PIL import Image

from infra.catalogue import Catalogue
from infra.database import Row
from infra.images import decode, saved
from longtail.boxes import clip, dilate, xywh_to_xyxy
from longtail.errors import LongtailError

SHOWN = 12
AROUND = 2.0
"""Of a box's sides: how much of its surroundings is shown."""
LARGEST_PX = 300


def odd_pictures(catalogue: Catalogue, dataset: str, version: Row, odd: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The first SHOWN odd boxes of an inspection, each with "picture" (width, height, base64 PNG), "box" (xyxy in it) and "side_px".

    Images that cannot be read any more are left out.
    """
    chosen = odd["first"][:SHOWN] if odd else []
    samples = {s.id: s for s in catalogue.samples(dataset, version, ids=sorted({o["id"] for o in chosen}))} if chosen else {}
    pictures = []
    for one in (o for o in chosen if o["id"] in samples):
        sample = samples[one["id"]]
        try:
            data = catalogue.objects.read(sample.uri, etag=sample.etag)
            pixels, _ = decode(data, what=sample.path, max_pixels=catalogue.settings.max_image_pixels)
        except LongtailError:
            continue
        box = xywh_to_xyxy(one["bbox_xywh"])
        x0, y0, x1, y1 = (round(v) for v in clip(dilate(box, AROUND), sample.width, sample.height))
        part = Image.fromarray(pixels[y0 : max(y0 + 1, y1), x0 : max(x0 + 1, x1)])
        scale = min(1.0, LARGEST_PX / max(part.size))
        shown = part.resize((max(1, round(part.width * scale)), max(1, round(part.height * scale))))
        png = base64.b64encode(saved(shown, "PNG")).decode()
        inner = [(v - start) * scale for v, start in zip(box, (x0, y0, x0, y0), strict=True)]
        picture = {"width": shown.width, "height": shown.height, "png": png}
        pictures.append({**one, "picture": picture, "box": inner, "side_px": round(max(one["bbox_xywh"][2:]))})
    return pictures
