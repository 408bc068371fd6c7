"""A browser with the key as its password."""

from __future__ import annotations

import base64
import html
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
    assert {"default-src 'none'", "form-action 'none'", "frame-ancestors 'none'"} <= set(found.headers["content-security-policy"].split("; "))
    assert found.headers["cache-control"] == "no-store"
    return found.text


def fronts(stack) -> list[str]:
    """The front page, and those that it leads to with older datasets."""
    pages, following = [], [""]
    while following:
        pages.append(opened(stack, html.unescape(following[0])))
        following = re.findall(r'href="(\?cursor=[^"]+)"', pages[-1])
    return pages


def linked(stack) -> set[str]:
    """Where the front pages lead."""
    return {link for page in fronts(stack) for link in re.findall(r'href="(v1/[^"]+)"', page)}
