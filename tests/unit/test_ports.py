"""Ports for a stack's servers: free ones, and none that another stack has chosen and does not listen on yet."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from infra import ports
from infra.ports import claim, free_ports, is_free, release

START = 24_000
CHOOSE = f"import sys; from infra.ports import free_ports; print(*free_ports('ab', start={START}).values(), flush=True); sys.stdin.read()"


@pytest.fixture(autouse=True)
def released():
    yield
    release(list(ports._held))


def test_ports_found_are_free_with_their_twins():
    found = free_ports(("a", "b"), start=START)
    assert len(set(found.values())) == 2
    assert all(is_free(p) and is_free(p + 10_000) for p in found.values())


@pytest.mark.parametrize("above", [0, 10_000])
def test_what_somebody_listens_on_is_not_taken(above):
    (port,) = free_ports(("a",), start=START).values()
    release([port])
    with socket.socket() as server:
        server.bind(("127.0.0.1", port + above))
        assert free_ports(("a",), start=port)["a"] > port
    release(list(ports._held))
    assert free_ports(("a",), start=port)["a"] == port


def test_ports_that_another_process_has_chosen_are_left_to_it_until_it_ends():
    other = subprocess.Popen([sys.executable, "-c", CHOOSE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        theirs = [int(port) for port in other.stdout.readline().split()]
        assert all(is_free(port) for port in theirs)  # nobody listens there yet
        mine = free_ports(("a", "b"), start=START)
        assert len(theirs) == 2 and not set(mine.values()) & set(theirs)
    finally:
        other.kill()
        other.communicate()
    release(mine.values())
    assert set(free_ports(("a", "b"), start=theirs[0]).values()) >= {theirs[0]}


@pytest.mark.parametrize("platform", ["linux", "another"])
@pytest.mark.parametrize("apart", [0, 10_000])
def test_a_port_and_its_twin_are_claimed_once(monkeypatch, apart, platform):
    monkeypatch.setattr(sys, "platform", platform)
    port = free_ports(("a",), start=START)["a"]
    assert not claim(port + apart) and not claim(1, port + apart)
    release([port])
    assert claim(port + apart) and claim(1)


def test_a_port_that_has_no_twin_leaves_the_one_above_it_free():
    assert claim(START) and claim(START + 10_000)


def test_a_released_port_is_chosen_again_and_one_that_is_held_is_not():
    first = free_ports(("a",), start=START)["a"]
    assert free_ports(("a",), start=START)["a"] != first
    release([first])
    assert free_ports(("a",), start=START)["a"] == first
