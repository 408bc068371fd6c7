"""A draw of a pack as the product sees a version: planning, making and filtering run on it as they do on a bucket."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from longtail.datasets import ClassMap
from longtail.samples import Sample, Task
from trainers.additions import labelled
from trainers.dataset import DatasetView
from trainers.render import Painter
from trainers.uplift.images import Labelled

MAX_PIXELS = 50_000_000


class FolderView(DatasetView):
    """Samples whose bytes `files` gives by sample id. The generator, where there is one, is `painted`."""

    def __init__(
        self, samples: Sequence[Sample], files: Mapping[str, Callable[[], bytes]], classes: Sequence[str], *, task: Task, painted: Painter | None = None
    ) -> None:
        self.dataset, self.task, self.max_pixels = "evidence", task, MAX_PIXELS
        self.classes = ClassMap({k + 1: name for k, name in enumerate(classes)})
        self.samples, self.files, self.painted = list(samples), files, painted
        self.by_id = {s.id: s for s in self.samples}
        self._cache, self._cached, self._estimates, self.looked = OrderedDict(), 0, {}, {}

    def read(self, sample: Sample) -> bytes:
        return self.files[sample.id]()

    def painter(self, uri: str) -> Painter:
        assert self.painted is not None
        return self.painted

    def with_painter(self, painter: Painter) -> FolderView:
        view = FolderView(self.samples, self.files, self.names, task=self.task, painted=painter)
        view.looked = self.looked  # the same images
        return view

    def of_class(self, name: str) -> FolderView:
        """The images that show the class alone: where an image's kind is the class, its objects belong nowhere else."""
        wanted = self.classes.id_of(name)
        kept = [s for s in self.samples if any(a.category_id == wanted for a in s.annotations)]
        return FolderView(kept, self.files, self.names, task=self.task, painted=self.painted)

    def fingerprint(self) -> str:
        """Which images are in which split with which labels, in twelve letters."""
        said = [[s.id, s.path, s.split, [[a.category_id, a.bbox_xywh] for a in s.annotations]] for s in self.samples]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]

    def labelled(self, split: str) -> list[Labelled]:
        return [labelled(self, s) for s in self.real(split)]
