"""`python -m services.worker`: registers every workflow, takes up what was left, and watches until told to stop."""

from __future__ import annotations

import logging
import signal
import threading
from typing import Any

from infra.asking import Asking
from infra.catalogue import Catalogue
from infra.cluster import Cluster
from infra.durable import Queue, launch, shut_down, workflow
from infra.registry import Registry
from infra.settings import Settings
from services.worker.promotions import Promotions
from workflows.batches import batch, publish
from workflows.collect import collect
from workflows.evaluate import evaluate
from workflows.expansions import TICK, expand, tick
from workflows.exports import export
from workflows.generators import finetune, promote
from workflows.inspect import inspect
from workflows.register import register
from workflows.rescan import rescan
from workflows.stack import Stack, register_job
from workflows.versions import renew
from workflows.withdraw import withdraw

log = logging.getLogger("longtail.worker")


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    settings = Settings()
    catalogue = Catalogue.of(settings)
    catalogue.database.create_tables()
    catalogue.objects.ensure_bucket()
    cluster = Cluster(settings)
    cluster.start_server("services.serving.generators:GeneratorServer")
    stopping = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stopping.set())
    launch(url=settings.durable_url, executor_id=settings.executor_id, register=lambda: register_all(settings, catalogue, cluster))
    asking = Asking(catalogue.database, Queue(settings.durable_url))
    log.info("worker %s is up; %d job(s) found unqueued", settings.executor_id, asking.requeue_orphans())
    promotions = Promotions(settings, asking)
    while not stopping.wait(settings.poll_seconds):
        for look in (promotions.look, asking.requeue_orphans, asking.bury_dead):
            try:
                look()
            except Exception as error:  # a part may be starting again; the next look is soon
                log.warning("%s: %s", type(error).__name__, error)
    shut_down()


def register_all(settings: Settings, catalogue: Catalogue, cluster: Cluster) -> None:
    """Every job by its name, and the clock's tick."""
    stack = Stack(catalogue, cluster, Registry(settings.mlflow_url), Asking(catalogue.database, Queue(settings.durable_url)))
    register_job(stack, "register", register)
    register_job(stack, "inspect", inspect)
    register_job(stack, "rescan", rescan)
    register_job(stack, "withdraw", withdraw)
    register_job(stack, "collect", collect)
    register_job(stack, "finetune", finetune)
    register_job(stack, "promote", promote)
    register_job(stack, "batch", batch)
    register_job(stack, "publish", publish)
    register_job(stack, "expand", expand)
    register_job(stack, "evaluate", evaluate)
    register_job(stack, "export", export)
    register_job(stack, "renew", renew)

    def clock(scheduled: object, context: dict[str, Any]) -> None:
        tick(stack, str(scheduled), context)

    workflow(TICK, clock)


if __name__ == "__main__":
    main()
