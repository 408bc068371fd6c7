"""Average precision of detections, by faster-coco-eval."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Detections = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]


def average_precision(
    truth: Sequence[tuple[NDArray[np.float64], NDArray[np.int64]]], found: Sequence[Detections], names: Sequence[str]
) -> dict[str, float]:
    """AP and AP50 over all classes, and AP50 of each, in [0, 1]; nan for a class with no instance.

    `truth` is (boxes [K,4] xyxy, labels [K]) for each image, `found` (boxes, scores, labels).
    """
    from faster_coco_eval import COCO, COCOeval_faster  # the harness of the evidence runs without it

    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image, (boxes, labels) in enumerate(truth):
        for (x0, y0, x1, y1), label in zip(boxes.tolist(), labels.tolist(), strict=True):
            size = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}
            annotations.append({"id": len(annotations) + 1, "image_id": image, "category_id": label, "iscrowd": 0, **size})
    for image, (boxes, scores, labels) in enumerate(found):
        for (x0, y0, x1, y1), score, label in zip(boxes.tolist(), scores.tolist(), labels.tolist(), strict=True):
            results.append({"image_id": image, "category_id": label, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score})
    if not results:
        return {"AP": 0.0, "AP50": 0.0, **{f"AP50/{name}": 0.0 for name in names}}
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(
            {
                "info": {},
                "images": [{"id": i, "width": 0, "height": 0} for i in range(len(truth))],
                "annotations": annotations,
                "categories": [{"id": i, "name": n} for i, n in enumerate(names)],
            }
        )
        evaluation = COCOeval_faster(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"]  # [threshold, recall, class, area, detections]
    overall, at_50 = precision[:, :, :, 0, -1], precision[0, :, :, 0, -1]
    figures = {"AP": _mean(overall), "AP50": _mean(at_50)}
    return figures | {f"AP50/{name}": _mean(at_50[:, i]) for i, name in enumerate(names)}


def _mean(values: NDArray[np.float64]) -> float:
    valid = values[values > -1]
    return float(valid.mean()) if valid.size else float("nan")
