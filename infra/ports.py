"""Ports of this machine for the embedded stack's servers, chosen so that two stacks that start at once take none of the same."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable

TWIN = 10_000
"""SeaweedFS puts its gRPC so far above a port."""
_held: dict[int, socket.socket] = {}


def free_ports(names: Iterable[str], *, start: int = 21_000) -> dict[str, int]:
    """A port for each name that nobody listens on, nor on its twin, and that no other stack is about to: claimed until it is released."""
    found: dict[str, int] = {}
    port = start
    for name in names:
        while not (is_free(port) and is_free(port + TWIN) and claim(port, port + TWIN)):
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


def claim(*ports: int) -> bool:
    """Takes the ports for this process; False, with none of them, where one is taken already, by this process or another.

    By names without files, which Linux alone has, and which end with the process, however that ends.
    """
    if any(port in _held for port in ports):
        return False
    names = {port: socket.socket(socket.AF_UNIX) for port in ports}
    try:
        for port, name in names.items():
            if sys.platform == "linux":
                name.bind(f"\0longtail-port-{port}")
    except OSError:
        close(names.values())
        return False
    _held.update(names)
    return True


def release(ports: Iterable[int]) -> None:
    """Gives ports back, and their twins."""
    close([_held.pop(held) for port in ports for held in (port, port + TWIN) if held in _held])


def close(names: Iterable[socket.socket]) -> None:
    for name in names:
        name.close()
