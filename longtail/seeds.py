"""Ids and seeds that derive from what was asked, so that doing a thing twice is doing it once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping


def derive_id(prefix: str, *parts: object) -> str:
    """`prefix-` and 16 hex digits that depend on every part, the same on every machine."""
    return f"{prefix}-{_digest(parts).hex()[:16]}"


def derive_seed(*parts: object) -> int:
    """A seed in [0, 2**63) that depends on every part, the same on every machine."""
    return int.from_bytes(_digest(parts)[:8], "big") >> 1


def fingerprint(body: Mapping[str, object]) -> str:
    """The same 64 hex digits for the same JSON object, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _digest(parts: tuple[object, ...]) -> bytes:
    return hashlib.sha256(json.dumps([str(p) for p in parts]).encode()).digest()
