"""Ports of this machine for the embedded stack's servers, chosen so that two stacks that start at once take none of the same."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable

TWIN = 10_000
"""SeaweedFS puts its gRPC so far above a port."""
_claimed: dict[int, socket.socket] = {}


def free_ports(names: Iterable[str], *, start: int = 21_000) -> dict[str, int]:
    """A port for each name that nobody listens on, nor on its twin, and that no other stack is about to: claimed until it is released."""
    found: dict[str, int] = {}
    port = start
    for name in names:
        while not (is_free(port) and is_free(port + TWIN) and claimed(port)):
            port += 1
        found[name] = port
    return found


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def claimed(port: int) -> bool:
    """Whether the port is this process's now: by a name without a file, which only Linux has, and which ends with the process, however that ends."""
    if port in _claimed:
        return False
    name = socket.socket(socket.AF_UNIX)
    try:
        if sys.platform == "linux":
            name.bind(f"\0longtail-port-{port}")
    except OSError:
        name.close()
        return False
    _claimed[port] = name
    return True


def release(ports: Iterable[int]) -> None:
    for port in ports:
        if port in _claimed:
            _claimed.pop(port).close()
