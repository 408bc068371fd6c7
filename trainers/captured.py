"""Steps of training that are recorded once and then launched whole, as CUDA graphs.

A step launches some three thousand kernels, each of which takes a host ten microseconds and more to launch: several times what a GPU needs
to run them (docs/decisions/025). A recording repeats the same kernels on the same memory, so whatever moves from step to step is a tensor
that lies still (`TrainState.dials`, the random stream), and whatever else a step takes from the host is `steps.standing`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

from trainers.state import Phase, TrainState
from trainers.steps import UPDATES, Figures, count, standing
from trainers.windows import Windows

PLAIN_FIRST = 3
"""Steps of a kind that are taken plainly: they make the optimisers' slots, and what the libraries want for themselves."""
Work = Callable[[], Figures]


class Recording(Protocol):
    """Work that can be repeated: the same kernels on the same memory."""

    def play(self) -> Figures:
        """Does the work. Its figures are overwritten when it is done again."""
        ...


class GraphRecording:
    """Work as a CUDA graph. Recording it does not do it."""

    def __init__(self, work: Work, random: torch.Generator) -> None:
        self.graph = torch.cuda.CUDAGraph()
        self.graph.register_generator_state(random)
        with torch.cuda.graph(self.graph):
            self.figures = work()

    def play(self) -> Figures:
        self.graph.replay()
        return self.figures


def aside(work: Work) -> Figures:
    """Does the work on a stream of its own, as what is to be recorded wants it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        figures = work()
    torch.cuda.current_stream().wait_stream(stream)
    return figures


class CapturedSteps:
    """Takes steps as `steps.step` does: the first of each kind plainly, the next is recorded, all others are repeated."""

    def __init__(self, record: Callable[[Work, torch.Generator], Recording] = GraphRecording, plainly: Callable[[Work], Figures] = aside) -> None:
        self.record, self.plainly = record, plainly
        self.taken: dict[tuple[object, ...], int] = {}
        self.recordings: dict[tuple[object, ...], Recording] = {}
        self.of: tuple[Windows, object] | None = None

    def __call__(self, state: TrainState, windows: Windows, phase: Phase) -> Figures:
        def work() -> Figures:
            return UPDATES[phase](state, windows)

        if self.of is None or self.of[0] is not windows or self.of[1] != state.recipe:
            self.of = windows, state.recipe
            self.taken.clear()
            self.recordings.clear()  # of other windows, or of a recipe before a remedy
        state.set_dials()
        kind = standing(state, phase)
        self.taken[kind] = self.taken.get(kind, 0) + 1
        if self.taken[kind] <= PLAIN_FIRST:
            figures = self.plainly(work)
        else:
            if kind not in self.recordings:
                self.recordings[kind] = self.record(work, state.random)
            figures = {name: value.clone() for name, value in self.recordings[kind].play().items()}
        count(state, phase)
        return figures
