"""Pictures of the test images on which an addition gained or lost most."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw

from infra.catalogue import Catalogue
from infra.images import Pixels, decode, saved
from longtail.boxes import BoxXyxy, xywh_to_xyxy
from longtail.errors import BrokenImage, NotFound, SourceChanged

LARGEST_PX = 300
COLOUR = (229, 0, 125)


def changed_pictures(catalogue: Catalogue, evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What an evaluation's result has as `changed`, each with its "picture" (width, height, base64 PNG), boxes of what grew drawn in.

    Left out are those that cannot be shown any more: withdrawn, changed or vanished since, or of a version that is gone. Raises StorageUnavailable.
    """
    dataset, result = evaluation["dataset"], evaluation["result"]
    said = {one["id"]: one for one in result.get("changed", [])}
    wanted = sorted(said.keys() - catalogue.withdrawn(dataset))
    names, grown = catalogue.classes(dataset).names, result["rare"]
    pictures = {}
    try:
        base = catalogue.database.version(dataset, evaluation["request"]["base"], to_see=True)
    except NotFound:  # nothing needed it any more
        return []
    for sample in catalogue.samples(dataset, base, ids=wanted) if wanted else ():
        try:
            data = catalogue.objects.read(sample.uri, etag=sample.etag)
            pixels, _ = decode(data, what=sample.path, max_pixels=catalogue.settings.max_image_pixels)
        except (BrokenImage, NotFound, SourceChanged):
            continue
        found = [a.bbox_xywh for a in sample.annotations if not grown or names[a.category_id] in grown]
        pictures[sample.id] = {**said[sample.id], "path": sample.path, "picture": framed(pixels, [xywh_to_xyxy(b) for b in found if b is not None])}
    return [pictures[key] for key in said if key in pictures]


def framed(pixels: Pixels, boxes: Sequence[BoxXyxy]) -> dict[str, Any]:
    """{"width", "height", "png"}: the image, LARGEST_PX at the most, with frames about its boxes (xyxy in its pixels)."""
    image = Image.fromarray(pixels)
    scale = min(1.0, LARGEST_PX / max(image.size))
    shown = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    pen = ImageDraw.Draw(shown)
    for x0, y0, x1, y1 in boxes:
        pen.rectangle((x0 * scale, y0 * scale, x1 * scale, y1 * scale), outline=COLOUR, width=2)
    return {"width": shown.width, "height": shown.height, "png": base64.b64encode(saved(shown, "PNG")).decode()}
