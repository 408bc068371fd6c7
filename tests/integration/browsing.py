"""A browser with the key as its password."""

from __future__ import annotations

import base64
import re

import httpx

ACCEPTED = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def basic(password: str) -> dict[str, str]:
    return {**ACCEPTED, "authorization": "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()}


def opened(stack, path: str) -> str:
    """The page there, which may fetch and run nothing."""
    found = httpx.get(f"{stack.settings.api_url}/{path}", headers=basic(stack.settings.api_key), timeout=60)
    assert found.status_code == 200, path
    assert found.text.startswith("<!doctype html>")
    assert "default-src 'none'" in found.headers["content-security-policy"]
    return found.text


def linked(stack) -> set[str]:
    """Where the front page leads."""
    return set(re.findall(r'href="(v1/[^"]+)"', opened(stack, "")))
