"""Looks at MLflow every few seconds, in case the webhook of a moved champion was lost."""

from __future__ import annotations

import logging
import threading

from infra.asking import Asking
from infra.database import DATASETS
from infra.registry import Registry
from infra.settings import Settings

log = logging.getLogger("longtail.promotions")


def watch_promotions(settings: Settings, asking: Asking, stopping: threading.Event) -> None:
    """Returns when told to stop. A look that fails is tried again at the next one."""
    registry = Registry(settings.mlflow_url)
    hooked = False
    while not stopping.wait(settings.poll_seconds):
        try:
            if not hooked and settings.api_url and settings.webhook_secret:
                registry.ensure_webhook(f"{settings.api_url}/v1/webhooks/mlflow", settings.webhook_secret)
                hooked = True
            look(registry, asking)
            asking.requeue_orphans()
        except Exception as error:  # MLflow may be starting again
            log.warning("could not look at MLflow: %s", error)


def look(registry: Registry, asking: Asking) -> None:
    """Asks for a promotion for each dataset whose champion is not the version that serves."""
    for dataset in asking.database.select(DATASETS):
        if dataset["serving"] is None:
            continue
        champion = registry.champion(dataset["id"])
        if champion is not None and champion != dataset["serving"]:
            asking.promotion_seen(dataset["id"], champion, serving=dataset["serving"], source="polling")
