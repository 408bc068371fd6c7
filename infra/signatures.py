"""Signatures on webhooks, as MLflow makes them."""

from __future__ import annotations

import base64
import hashlib
import hmac


def signature(secret: str, *, delivery: str, timestamp: str, body: bytes) -> str:
    """What MLflow writes into x-mlflow-signature for this body."""
    message = f"{delivery}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(secret.encode(), message, hashlib.sha256).digest()).decode()
