"""Ports of this machine for the embedded stack's servers, chosen so that two stacks that start at once take none of the same."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable

TWIN = 10_000
"""SeaweedFS puts its gRPC so far above a port."""
_held: dict[int, list[socket.socket]] = {}


def free_ports(names: Iterable[str], *, start: int = 21_000) -> dict[str, int]:
    """A port for each name that nobody listens on, nor on its twin, and that no other stack is about to: claimed until it is released."""
    found: dict[str, int] = {}
    port = start
    for name in names:
        while not (is_free(port) and is_free(port + TWIN) and claim(port)):
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


def claim(port: int) -> bool:
    """Takes port and twin for this process; False where either is taken already, by this process or another.

    By names without files, which Linux alone has, and which end with the process, however that ends.
    """
    names: list[socket.socket] = []
    try:
        for name in (port, port + TWIN):
            names.append(socket.socket(socket.AF_UNIX))
            if sys.platform == "linux":
                names[-1].bind(f"\0longtail-port-{name}")
    except OSError:
        close(names)
        return False
    _held[port] = names
    return True


def release(ports: Iterable[int]) -> None:
    for port in ports:
        close(_held.pop(port, []))


def close(names: Iterable[socket.socket]) -> None:
    for name in names:
        name.close()
