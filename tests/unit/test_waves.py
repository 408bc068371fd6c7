"""A step of a batch: which samples its tasks make, and how far each says that the batch is."""

from itertools import pairwise
from types import SimpleNamespace

import pytest

from workflows.batches import PART, ROUNDS, generate_wave


class Cluster:
    """Two cores that give back what they were asked for."""

    def __init__(self):
        self.asked = []

    def cpus(self):
        return 2

    def run_all(self, name, payloads):
        self.asked.append(payloads)
        return [list(range(p["start"], p["start"] + p["count"])) for p in payloads]


@pytest.fixture
def stack():
    return SimpleNamespace(cluster=Cluster(), catalogue=SimpleNamespace(settings=SimpleNamespace(place=lambda *parts: "/".join(parts))))


@pytest.mark.parametrize("count", [1, 2, 7, 64, 65, 256, 257, 1000])
def test_every_sample_is_made_once_and_in_order(stack, count):
    made = []
    while len(made) < count:
        made += generate_wave(stack, {"dataset": "d"}, len(made), count, [0.0, 0.8])
    assert made == list(range(count))
    tasks = [p for step in stack.cluster.asked for p in step]
    assert tasks[0]["low"] == 0.0 and tasks[-1]["high"] == pytest.approx(0.8)
    assert all(before["high"] == after["low"] for before, after in pairwise(tasks))


def test_a_step_has_a_few_rounds_of_tasks_and_few_samples_are_shared_out(stack):
    generate_wave(stack, {"dataset": "d"}, 0, 1000, [0.0, 1.0])
    assert [p["count"] for p in stack.cluster.asked[0]] == [PART] * 2 * ROUNDS
    generate_wave(stack, {"dataset": "d"}, 0, 10, [0.0, 1.0])
    assert [p["count"] for p in stack.cluster.asked[1]] == [5, 5]
