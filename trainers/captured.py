"""Steps of training that are recorded once and then launched whole, as CUDA graphs.

A step launches some three thousand kernels, each of which takes a host ten microseconds and more to launch: twice to six times what a GPU
needs to run them (docs/decisions/025). A recording repeats the same kernels on the same memory, so whatever moves from step to step is a
tensor that lies still (`TrainState.dials`, the random stream), and whatever else a step takes from the host is `steps.standing`.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Protocol

import torch

from longtail.recipes import Recipe
from trainers.device import on_gpu
from trainers.state import Phase, TrainState
from trainers.steps import UPDATES, Figures, count, standing, step
from trainers.windows import Windows

PLAIN_FIRST = 3
"""Steps of a kind that are taken plainly: they make the optimisers' slots, and what the libraries want for themselves."""
Work = Callable[[], Figures]
Play = Callable[[], Figures]


def by_default(*, compiled: bool) -> bool:
    """Whether steps are captured where nobody says: on a GPU, unless they are compiled, since the two together were never run on a card."""
    return on_gpu() and not compiled


def stepper(recipe: Recipe) -> Callable[[TrainState, Windows, Phase], Figures]:
    """What takes the steps of a run: one by one, or captured where the recipe asks for that and there is a GPU."""
    return CapturedSteps() if recipe.captured and on_gpu() else step


class Runner(Protocol):
    """How work is done, and recorded."""

    def plainly(self, work: Work) -> Figures:
        """Does the work."""
        ...

    def record(self, work: Work, random: torch.Generator) -> Play:
        """Records the work without doing it: what does it, as often as it is called, into the same figures."""
        ...

    def keep_pace(self) -> None:
        """Waits until the step before the last one is done, so that a host knows how late it is."""
        ...


class GraphRunner:
    """One stream of a GPU, and one pool of its memory for all that is recorded."""

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()
        self.pool = torch.cuda.graph_pool_handle()
        self.before: torch.cuda.Event | None = None

    def plainly(self, work: Work) -> Figures:
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            figures = work()
        torch.cuda.current_stream().wait_stream(self.stream)
        return figures

    def record(self, work: Work, random: torch.Generator) -> Play:
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(random)
        gc.collect()  # what is left of autograd's graphs holds on to other streams
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
            figures = work()

        def play() -> Figures:
            graph.replay()
            return figures

        return play

    def keep_pace(self) -> None:
        done = torch.cuda.Event()
        done.record()
        if self.before is not None:
            self.before.synchronize()
        self.before = done


class CapturedSteps:
    """Takes steps as `steps.step` does: the first of each kind plainly, the next is recorded, all others are repeated."""

    def __init__(self, runner: Callable[[], Runner] = GraphRunner) -> None:
        self.new_runner = runner
        self.of: tuple[TrainState, Windows, object] | None = None

    def __call__(self, state: TrainState, windows: Windows, phase: Phase) -> Figures:
        def work() -> Figures:
            return UPDATES[phase](state, windows)

        if self.of is None or self.of[0] is not state or self.of[1] is not windows or self.of[2] != state.recipe:
            self.begin(state, windows)
        state.set_dials()
        kind = standing(state, phase)
        self.taken[kind] = self.taken.get(kind, 0) + 1
        if self.taken[kind] <= PLAIN_FIRST:
            figures = self.runner.plainly(work)
        else:
            if kind not in self.recordings:
                self.recordings[kind] = self.runner.record(work, state.random)
            figures = {name: value.clone() for name, value in self.recordings[kind]().items()}
        self.runner.keep_pace()
        count(state, phase)
        return figures

    def begin(self, state: TrainState, windows: Windows) -> None:
        """Nothing that was recorded holds of another state, of other windows, or of a recipe that a remedy has changed."""
        self.of = state, windows, state.recipe
        self.taken: dict[tuple[object, ...], int] = {}
        self.recordings: dict[tuple[object, ...], Play] = {}
        self.runner = self.new_runner()
