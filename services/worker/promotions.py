"""Looks at MLflow every few seconds, in case the webhook of a moved champion was lost."""

from __future__ import annotations

from infra.asking import Asking
from infra.database import DATASETS
from infra.registry import Registry
from infra.settings import Settings


class Promotions:
    """Sees to it that MLflow tells us of promotions, and looks for those that it did not tell of."""

    def __init__(self, settings: Settings, asking: Asking) -> None:
        self.settings, self.asking = settings, asking
        self.registry = Registry(settings.mlflow_url)
        self.hooked = False

    def look(self) -> None:
        """Asks for a promotion for each dataset whose champion is not the version that serves."""
        if not self.hooked and self.settings.api_url and self.settings.webhook_secret:
            self.registry.ensure_webhook(f"{self.settings.api_url}/v1/webhooks/mlflow", self.settings.webhook_secret)
            self.hooked = True
        for dataset in self.asking.database.every(DATASETS):
            champion = self.registry.champion(dataset["id"]) if dataset["serving"] is not None else None
            if champion is not None:
                self.asking.promotion_seen(dataset["id"], champion, serving=dataset["serving"], source="polling")
