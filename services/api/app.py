"""The API: routes, problems, health and metrics put together."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest

from infra.settings import Settings
from longtail.errors import LongtailError
from services.api import problems
from services.api.routes import datasets, evaluations, expansions, front, generators, jobs, samples
from services.api.service import Service, authorised


def create_app(settings: Settings) -> FastAPI:
    """The application. It opens its connections when it starts, not when it is made."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.service = Service.of(settings)
        threading.Thread(target=connect_early, args=(app.state.service,), daemon=True).start()
        yield
        app.state.service.asking.queue.close()

    app = FastAPI(title="Longtail", version="0.1.0", lifespan=lifespan)
    problems.install(app)
    for router in (front.router, datasets.router, samples.router, jobs.router, expansions.router, evaluations.router):
        app.include_router(router, dependencies=[Depends(authorised)])
    app.include_router(generators.router)
    add_health(app)
    add_metrics(app)
    return app


def connect_early(served: Service) -> None:
    """So that the first preview does not wait for the cluster; a cluster that is not up yet is tried again then."""
    try:
        served.cluster.connect()
    except Exception:  # Ray raises several kinds while it starts; ask_server reports the one that lasts
        return


def add_health(app: FastAPI) -> None:
    @app.get("/health/live", tags=["health"])
    def live() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/health/ready", tags=["health"])
    def ready(request: Request) -> JSONResponse:
        """200 once storage, the worker and the generator server answer, 503 with the part that does not."""
        served: Service = request.app.state.service
        parts: dict[str, Any] = {"worker": served.asking.queue.ready(), "generators": served.cluster.ready()}
        try:
            served.catalogue.objects.ensure_bucket()
            parts["storage"] = True
        except LongtailError as error:
            parts["storage"] = str(error)
        ok = all(value is True for value in parts.values())
        return JSONResponse({"status": "ok" if ok else "waiting", "parts": parts}, 200 if ok else 503)


def add_metrics(app: FastAPI) -> None:
    registry = CollectorRegistry()
    requests = Counter("longtail_requests_total", "Requests by method, route and status", ["method", "route", "status"], registry=registry)
    seconds = Histogram("longtail_request_seconds", "Time to the first byte", ["route"], registry=registry)

    @app.middleware("http")
    async def count(request: Request, call_next: Any) -> Any:
        with seconds.labels("all").time():
            response = await call_next(request)
        route = request.scope.get("route")
        requests.labels(request.method, getattr(route, "path", "unknown"), response.status_code).inc()
        return response

    @app.get("/metrics", tags=["health"])
    def metrics() -> PlainTextResponse:
        return PlainTextResponse(generate_latest(registry).decode(), media_type=CONTENT_TYPE_LATEST)
