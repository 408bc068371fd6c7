"""What several unit tests of training share."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def breaking():
    """From what takes steps: what takes the same ones and leaves the generator broken after those of these numbers."""

    def broken_after(take, *numbers):
        def taken(state, *rest):
            figures = take(state, *rest)
            if state.step in numbers:
                with torch.no_grad():
                    state.generator.tails[0].last.weight.fill_(torch.nan)
            return figures

        return taken

    return broken_after
