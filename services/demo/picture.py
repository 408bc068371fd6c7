"""The dial of novelty as one picture: strips of objects in twice their box, each with its caption."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

CROP_PX, GAP_PX, CAPTION_PX, COLUMNS = 112, 4, 26, 3


def dial_picture(previews: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """PNG of the answers to previews by title, as `/v1/previews` gives their items."""
    return montage({title: [crop(item) for item in items] for title, items in previews.items()})


def crop(item: Mapping[str, Any]) -> Image.Image:
    """The object in twice its box, or the whole image where that is the object; as near as the image's borders allow."""
    x0, y0, x1, y1 = item["box_xyxy"]
    image = Image.open(io.BytesIO(base64.b64decode(item["image_base64"]))).convert("RGB")
    side = min(max(x1 - x0, y1 - y0) * (1.0 if (x0, y0) == (0, 0) else 2.0), *image.size)
    left, top = (min(max(0.0, (low + high - side) / 2), most - side) for low, high, most in ((x0, x1, image.width), (y0, y1, image.height)))
    return image.resize((CROP_PX, CROP_PX), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))


def montage(strips: Mapping[str, Sequence[Image.Image]]) -> bytes:
    """Strips in `COLUMNS` columns; what comes before a title's comma begins a line of its own."""
    classes = [list(titles) for _, titles in itertools.groupby(strips, lambda title: title.split(",")[0])]
    lines = [titles[i : i + COLUMNS] for titles in classes for i in range(0, len(titles), COLUMNS)]
    most = max(len(s) for s in strips.values())
    width, height = most * (CROP_PX + GAP_PX) + 3 * GAP_PX, CROP_PX + CAPTION_PX + 2 * GAP_PX
    sheet = Image.new("RGB", (COLUMNS * width, len(lines) * height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    for k, line in enumerate(lines):
        for j, title in enumerate(line):
            left, top = j * width + 2 * GAP_PX, k * height + GAP_PX
            for i, image in enumerate(strips[title]):
                sheet.paste(image, (left + i * (CROP_PX + GAP_PX), top))
            middle = left + len(strips[title]) * (CROP_PX + GAP_PX) / 2
            draw.text((middle, top + CROP_PX + CAPTION_PX / 2), title, fill=(91, 99, 114), font=font, anchor="mm")
    out = io.BytesIO()
    sheet.save(out, "PNG", optimize=True)
    return out.getvalue()
