"""What the benchmarks of generated objects tell before hours are spent."""

from __future__ import annotations

import pytest

from benchmarks import tuning
from trainers import weights


def test_a_pack_that_nobody_knows_and_a_foundation_that_is_not_there_are_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "WITHOUT_NUCLEI", tmp_path / "none.safetensors")
    with pytest.raises(SystemExit, match="unknown pack 'cells'; there are bccd, magnetic_tile, nuclei"):
        tuning.asked_for("bccd,cells")
    with pytest.raises(SystemExit, match="make foundation EXCLUDE=nuclei"):
        tuning.asked_for("bccd,nuclei")
    assert tuning.asked_for("bccd,magnetic_tile") == ["bccd", "magnetic_tile"]


def test_nuclei_learn_from_a_foundation_that_has_not_seen_them(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "WITHOUT_NUCLEI", tmp_path / "without.safetensors")
    tuning.WITHOUT_NUCLEI.write_bytes(b"another")
    assert tuning.foundation_for("nuclei") == tmp_path / "without.safetensors" != weights.FOUNDATION == tuning.foundation_for("bccd")
    assert tuning.todays("nuclei") != tuning.todays("bccd")
