"""An image with what it shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Labelled:
    """An image HxWx3 with its boxes xyxy in pixels and class indices; one label and no box where the image itself is the object."""

    pixels: Pixels
    boxes_xyxy: Sequence[Sequence[float]]
    labels: Sequence[int]
