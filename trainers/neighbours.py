"""Samples as they come, nothing chosen, each over the real object that it resembles most."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from trainers.gating import COLUMNS, Judge, object_crops
from trainers.grids import tile
from trainers.networks import Generator
from trainers.quality.copying import nearest
from trainers.quality.features import features

SEED = 17


def beside_nearest(generator: Generator, judge: Judge) -> dict[str, NDArray[np.uint8]]:
    """{class: picture}: samples at the novelty of the class's gates, in held-out places if any; below each the nearest of its `MOST` training ones."""
    pictures = {}
    for label, name in judge.names.items():
        made = judge.served(generator, judge.val, label, count=COLUMNS, novelty=judge.novelty[label], seed=SEED)
        found, _ = nearest(features(object_crops(made.images, made.boxes)), judge.real[label][0])
        pictures[name] = tile([made.images, judge.train.floats(judge.train.by_class()[label][torch.from_numpy(found)])])
    return pictures
