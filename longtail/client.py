"""A small client of the REST API.

    from longtail.client import Client

    client = Client("http://127.0.0.1:8080", key)
    job = client.post("/v1/batches", {"dataset": "bccd", "class_name": "Platelets", "count": 40})
    print(client.wait(job["job"])["result"])
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx

from longtail.errors import LongtailError
from longtail.jobs import FINAL_STATES

Json = dict[str, Any]


class ApiProblem(LongtailError):
    """The API's problem document, as an error: `status`, `code` and the document itself."""

    def __init__(self, status: int, document: Json) -> None:
        super().__init__(str(document.get("detail", document)))
        self.status, self.document, self.code = status, document, str(document.get("code", "http-error"))


class JobFailed(LongtailError):
    """A job that ended otherwise than well; `job` is its row."""

    def __init__(self, job: Json) -> None:
        super().__init__(f"job {job['id']} {job['state']}: {job['message']}")
        self.job = job
        self.code = str((job.get("problem") or {}).get("code", job["state"]))


class Client:
    """Calls the API at `url` with its bearer key. Raises ApiProblem for every problem document."""

    def __init__(self, url: str, key: str, *, timeout_s: float = 120) -> None:
        self.http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=timeout_s)

    def get(self, path: str, **params: Any) -> Json:
        return self._json(self.http.get(path, params=params))

    def post(self, path: str, body: Json | None = None, *, idempotency_key: str | None = None) -> Json:
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return self._json(self.http.post(path, json=body or {}, headers=headers))

    def delete(self, path: str) -> Json:
        return self._json(self.http.delete(path))

    def download(self, path: str, **params: Any) -> Iterator[bytes]:
        """The body in chunks, never whole in memory."""
        with self.http.stream("GET", path, params=params) as response:
            if response.is_error:
                response.read()
                self._json(response)
            yield from response.iter_bytes()

    def events(self, job: str) -> Iterator[Json]:
        """The job's events as they happen, through broken connections and restarts of the API, until it ends."""
        last = 0
        while True:
            try:
                with self.http.stream("GET", f"/v1/jobs/{job}/events", headers={"Last-Event-ID": str(last)}, timeout=30) as response:
                    if response.is_error:
                        response.read()
                        self._json(response)
                    for kind, number, data in parse(response.iter_lines()):
                        last = number or last
                        yield {"kind": kind, **data}
                        if kind == "end":
                            return
            except httpx.TransportError:
                time.sleep(0.5)

    def wait(self, job: str, *, timeout_s: float | None = None) -> Json:
        """The job's row once it has succeeded. Raises JobFailed if it ends otherwise, TimeoutError if it does not end."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            try:
                row = self.get(f"/v1/jobs/{job}")
            except httpx.TransportError:
                row = {"state": "unreachable"}
            if row["state"] == "succeeded":
                return row
            if row["state"] in FINAL_STATES:
                raise JobFailed(row)
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"job {job} is still {row['state']} after {timeout_s} s")
            time.sleep(0.25)

    def _json(self, response: httpx.Response) -> Json:
        try:
            found = response.json()
        except ValueError:
            found = {"detail": response.text[:500]}
        if response.is_error:
            raise ApiProblem(response.status_code, found)
        result: Json = found
        return result


def parse(lines: Iterator[str]) -> Iterator[tuple[str, int | None, Json]]:
    """(kind, id, data) of each server-sent event."""
    kind, number, data = "message", None, ""
    for line in lines:
        if line.startswith("event: "):
            kind = line[7:]
        elif line.startswith("id: "):
            number = int(line[4:])
        elif line.startswith("data: "):
            data += line[6:]
        elif not line and data:
            yield kind, number, json.loads(data)
            kind, number, data = "message", None, ""
