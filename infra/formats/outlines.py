"""Masks of new objects, written in the way of the source that they join."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from infra.formats.segmentation import POLYGON, run_lengths


def written(mask: NDArray[np.bool_], like: Mapping[str, Any]) -> dict[str, Any]:
    """The mask in the way of another record of the same source: YOLO's polygon about its largest part, or COCO's run lengths."""
    if "yolo" not in like:
        return {"segmentation": run_lengths(mask), "area": int(mask.sum())}
    parts, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    height, width = mask.shape
    largest = max(parts, key=lambda part: (cv2.contourArea(part), len(part)))[:, 0]
    if 2 * len(largest) < POLYGON:  # a dot or a line has no polygon: its box
        x, y, w, h = cv2.boundingRect(largest)
        largest = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
    corners = (np.asarray(largest, dtype=np.float64) + 0.5) / (width, height)
    return {"yolo": " ".join(f"{v:.6f}" for v in corners.clip(0, 1).ravel())}
