"""What several unit tests share."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from infra.database import Database


@pytest.fixture
def records(tmp_path):
    """What workflows know of the outside: a database in a file, and nothing else."""
    database = Database(f"sqlite:///{tmp_path / 'records.db'}")
    database.create_tables()
    return SimpleNamespace(catalogue=SimpleNamespace(database=database))


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
