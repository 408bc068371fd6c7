"""Classical augmentation through Albumentations, the one place that knows it: seeded per image, boxes and masks along.

The library (2.0.8, MIT, no longer developed) is pinned; a record of policy and seed replays with that version.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longtail.boxes import BoxXyxy
from longtail.errors import InvalidRequest
from longtail.policies import Step

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
BORDERS = (0, 1)
MIN_VISIBLE = 0.3
"""A box of which less than this share is left in the image is dropped, and its label with it."""


@dataclass(frozen=True)
class Varied:
    """An image after a policy. `boxes_xyxy` and `masks` stand where those given stood; None where the object has left the image."""

    pixels: Pixels
    boxes_xyxy: list[BoxXyxy | None]
    masks: list[Mask | None]


def check_policy(policy: Sequence[Step]) -> None:
    """Raises InvalidRequest, naming the step, for options that its transform does not take."""
    build(policy, seed=0)


def vary(
    pixels: Pixels, boxes_xyxy: Sequence[BoxXyxy], policy: Sequence[Step], *, seed: int, masks: Sequence[Mask | None] | None = None
) -> Varied:
    """The image [H, W, 3] with the policy applied: the same for the same seed. Boxes and masks [H, W] in pixels.

    An object with a mask gets the box of what is left of it; another the box around its moved corners. Raises InvalidRequest.
    """
    height, width = pixels.shape[:2]
    masks = masks if masks is not None else [None] * len(boxes_xyxy)
    shown = [i for i, mask in enumerate(masks) if mask is not None]
    boxes = np.array([clip(b, width, height) for b in boxes_xyxy], dtype=np.float64).reshape(-1, 4)
    planes = [np.asarray(masks[i], dtype=np.uint8) for i in shown] or [np.zeros((height, width), dtype=np.uint8)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = build(policy, seed=seed)(image=pixels, bboxes=boxes, index=np.arange(len(boxes)), masks=planes)
    moved: list[BoxXyxy | None] = [None] * len(boxes)
    for box, i in zip(found["bboxes"], found["index"], strict=True):
        moved[int(i)] = (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
    left: list[Mask | None] = [None] * len(boxes)
    for i, plane in zip(shown, found["masks"], strict=False):
        mask = np.asarray(plane) > 0
        moved[i] = bounds(mask) if moved[i] is not None else None
        left[i] = mask if moved[i] is not None else None
    return Varied(np.ascontiguousarray(found["image"]), moved, left)


def build(policy: Sequence[Step], *, seed: int) -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations as A  # here, since it takes two seconds, and most work needs none of it

    steps = []
    for step in policy:
        if (step.get("options") or {}).get("border_mode", 0) not in BORDERS:
            raise InvalidRequest(f"augment: {step['name']}: border_mode must be 0 or 1: a mirrored border shows objects again, unlabelled")
        options = {k: tuple(v) if isinstance(v, list) else v for k, v in (step.get("options") or {}).items()}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # it warns of an argument that it does not know, and goes on without
                steps.append(getattr(A, step["name"])(p=step["p"], **options))
        except (TypeError, ValueError, UserWarning) as error:
            raise InvalidRequest(f"augment: {step['name']}: {' '.join(str(error).split())[:200]}") from error
    box_params = A.BboxParams(format="pascal_voc", label_fields=["index"], min_visibility=MIN_VISIBLE, clip=True)
    return A.Compose(steps, bbox_params=box_params, seed=seed % 2**32)


def clip(box: BoxXyxy, width: int, height: int) -> BoxXyxy:
    """Annotations may reach a pixel out of their image; the library refuses that."""
    return max(0.0, box[0]), max(0.0, box[1]), min(float(width), box[2]), min(float(height), box[3])


def bounds(mask: Mask) -> BoxXyxy | None:
    """The box around a mask, None around nothing."""
    ys, xs = np.nonzero(mask)
    return (float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1)) if len(xs) else None
