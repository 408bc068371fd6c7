"""Taking the pictures out of what a training left, where they may show images that were withdrawn. Curves, gates and figures stay."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from infra.images import to_png
from infra.pages import without_pictures
from longtail.errors import NotFound
from workflows.stack import Stack

BLANK = np.full((1, 1, 3), 255, dtype=np.uint8)


def take_pictures_out(stack: Stack, dataset: str, job: str, run: str) -> None:
    """Out of the job's page, and of its run in MLflow."""
    page = bare_page(stack, dataset, job)
    if page is not None:
        stack.registry.log_file(run, "report.html", page)
    for name in stack.registry.below(run):
        if name.endswith(".png"):
            stack.registry.log_file(run, name, to_png(BLANK))


def bare_page(stack: Stack, dataset: str, job: str) -> bytes | None:
    """The page without its pictures, as it is kept from here on; None where the training never got as far as that."""
    place = stack.catalogue.settings.report_of(dataset, job)
    with suppress(NotFound):
        page = without_pictures(stack.catalogue.objects.read(place).decode()).encode()
        stack.catalogue.objects.write(place, page)
        return page
    return None
