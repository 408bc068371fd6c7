"""Axis-aligned boxes in pixels: forms, overlap, and staying inside an image."""

from __future__ import annotations

import math

from longtail.errors import InvalidRequest

BoxXyxy = tuple[float, float, float, float]
BoxXywh = tuple[float, float, float, float]
Sides = tuple[bool, bool, bool, bool]
"""Of a box, left, top, right and bottom: those that lie on the border of its image."""
UNCUT: Sides = (False, False, False, False)
BORDER_PX = 1.5


def xywh_to_xyxy(box_xywh: BoxXywh) -> BoxXyxy:
    x, y, w, h = box_xywh
    return x, y, x + w, y + h


def xyxy_to_xywh(box_xyxy: BoxXyxy) -> BoxXywh:
    x0, y0, x1, y1 = box_xyxy
    return x0, y0, x1 - x0, y1 - y0


def area(box_xyxy: BoxXyxy) -> float:
    x0, y0, x1, y1 = box_xyxy
    return max(0.0, x1 - x0) * max(0.0, y1 - y0)


def intersection(a_xyxy: BoxXyxy, b_xyxy: BoxXyxy) -> float:
    """Area shared by both, in square pixels."""
    width = min(a_xyxy[2], b_xyxy[2]) - max(a_xyxy[0], b_xyxy[0])
    height = min(a_xyxy[3], b_xyxy[3]) - max(a_xyxy[1], b_xyxy[1])
    return max(0.0, width) * max(0.0, height)


def iou(a_xyxy: BoxXyxy, b_xyxy: BoxXyxy) -> float:
    """Intersection over union in [0, 1]; 0 for two empty boxes."""
    shared = intersection(a_xyxy, b_xyxy)
    union = area(a_xyxy) + area(b_xyxy) - shared
    return shared / union if union > 0 else 0.0


def dilate(box_xyxy: BoxXyxy, factor: float) -> BoxXyxy:
    """The box scaled by `factor` about its centre."""
    x0, y0, x1, y1 = box_xyxy
    cx, cy, hw, hh = (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2 * factor, (y1 - y0) / 2 * factor
    return cx - hw, cy - hh, cx + hw, cy + hh


def clip(box_xyxy: BoxXyxy, width: float, height: float) -> BoxXyxy:
    x0, y0, x1, y1 = box_xyxy
    return max(0.0, x0), max(0.0, y0), min(width, x1), min(height, y1)


def on_border(box_xyxy: BoxXyxy, width: float, height: float) -> Sides:
    """The sides on which the image's border cuts through an object, as far as its box tells."""
    x0, y0, x1, y1 = box_xyxy
    return x0 < BORDER_PX, y0 < BORDER_PX, width - x1 < BORDER_PX, height - y1 < BORDER_PX


def beyond_borders(box_xyxy: BoxXyxy, width: float, height: float) -> BoxXyxy:
    """The box, half as long again on each side on which it lies on the border of its image."""
    left, top, right, bottom = on_border(box_xyxy, width, height)
    x0, y0, x1, y1 = box_xyxy
    more_x, more_y = (x1 - x0) / 2, (y1 - y0) / 2
    return x0 - left * more_x, y0 - top * more_y, x1 + right * more_x, y1 + bottom * more_y


def mirrored(sides: Sides) -> Sides:
    """The same sides of the image seen in a mirror."""
    left, top, right, bottom = sides
    return right, top, left, bottom


def check_inside(box_xyxy: BoxXyxy, width: int, height: int, *, what: str, slack_px: float = 0.0) -> None:
    """Raises InvalidRequest, naming `what`, unless the box is finite, has an area and lies inside the image."""
    x0, y0, x1, y1 = box_xyxy
    if not all(math.isfinite(v) for v in box_xyxy):
        raise InvalidRequest(f"{what}: box {list(box_xyxy)} has a value that is not a finite number")
    if x1 <= x0 or y1 <= y0:
        raise InvalidRequest(f"{what}: box {list(box_xyxy)} has no area; expected x1 > x0 and y1 > y0 in pixels")
    if x0 < -slack_px or y0 < -slack_px or x1 > width + slack_px or y1 > height + slack_px:
        raise InvalidRequest(f"{what}: box {list(box_xyxy)} lies outside its image of {width}x{height} pixels")
