"""Arrays as text, so that a run is kept as JSON."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def packed(arrays: Mapping[str, NDArray[Any]]) -> str:
    """A compressed archive in base64; no pickles."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **dict(arrays))  # type: ignore[arg-type]
    return base64.b64encode(stream.getvalue()).decode()


def unpacked(text: str) -> dict[str, NDArray[Any]]:
    with np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
