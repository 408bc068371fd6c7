"""RFC 9457 problem documents: one handler maps every kind of error to its status."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from longtail.errors import BrokenDataset, LongtailError

log = logging.getLogger("longtail.api")
STATUS = {
    "invalid-request": 422,
    "not-found": 404,
    "conflict": 409,
    "too-few-instances": 422,
    "broken-dataset": 422,
    "broken-image": 422,
    "source-changed": 409,
    "storage-unavailable": 503,
    "not-ready": 503,
    "cancelled": 409,
    "unauthorized": 401,
}


def problem(status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> JSONResponse:
    """The document, as application/problem+json."""
    body = {"type": f"/problems/{code}", "title": code.replace("-", " "), "status": status, "detail": detail, "code": code, **more}
    usual = {"Retry-After": "3"} if status == 503 else {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return JSONResponse(body, status, media_type="application/problem+json", headers=usual | dict(headers or {}))


def install(app: FastAPI) -> None:
    """Every error that leaves the app is a problem document."""

    @app.exception_handler(LongtailError)
    async def known(_: Request, error: LongtailError) -> JSONResponse:
        more: dict[str, Any] = {"problems": error.problems} if isinstance(error, BrokenDataset) else {}
        return problem(STATUS.get(error.code, 500), error.code, str(error), **more)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        found = [{"where": ".".join(str(p) for p in e["loc"][1:]) or "body", "problem": e["msg"]} for e in error.errors()]
        return problem(422, "invalid-request", "; ".join(f"{f['where']}: {f['problem']}" for f in found), errors=found)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not-found", 405: "method-not-allowed", 401: "unauthorized"}.get(error.status_code, "http-error")
        return problem(error.status_code, code, str(error.detail), headers=error.headers)

    @app.exception_handler(Exception)
    async def unknown(request: Request, error: Exception) -> JSONResponse:
        log.exception("%s %s failed", request.method, request.url.path, exc_info=error)
        return problem(500, "internal", f"{type(error).__name__}; the API's log has the rest")
