"""The serving actor: previews at once, from generators kept warm in memory. Ray restarts it when it dies."""

from __future__ import annotations

import base64
from typing import Any

import torch

from infra.catalogue import Catalogue
from infra.settings import Settings
from trainers.dataset import DatasetView
from trainers.planning import Model, plan
from trainers.studio import make
from trainers.weights import served

KEPT_VIEWS = 4


class GeneratorServer:
    """Methods take and return plain JSON. One request at a time; a model is warm once `warm` has returned."""

    def __init__(self, settings: Settings) -> None:
        torch.set_num_threads(1)
        self.settings = settings
        self.catalogue = Catalogue.of(settings)
        self.views: dict[tuple[str, int], DatasetView] = {}

    def ready(self) -> bool:
        return True

    def warm(self, uri: str) -> bool:
        """Loads a generator, so that the first request to it does not wait."""
        served(self.settings, uri)
        return True

    def preview(self, dataset: str, version: int, request: dict[str, Any], key: str, model: dict[str, Any]) -> list[dict[str, Any]]:
        """Samples made on the spot and stored nowhere: records with their images in base64."""
        view = self._view(dataset, version)
        found = []
        for sample_id, record in plan(view, request, key=key, model=Model(**model)):
            made = make(view, sample_id, record)
            width, height = made.size_wh
            found.append(
                {
                    "id": sample_id,
                    "class_name": record.class_name,
                    "box_xyxy": list(made.objects[-1].box_xyxy),
                    "boxes_xyxy": [list(o.box_xyxy) for o in made.objects],
                    "width": width,
                    "height": height,
                    "content_type": made.content_type,
                    "image_base64": base64.b64encode(made.data).decode(),
                    "provenance": record.to_json(),
                }
            )
        return found

    def _view(self, dataset: str, version: int) -> DatasetView:
        key = (dataset, version)
        if key not in self.views:
            self.views[key] = DatasetView(self.catalogue, dataset, self.catalogue.database.version(dataset, version))
            while len(self.views) > KEPT_VIEWS:
                self.views.pop(next(iter(self.views)))
        return self.views[key]
