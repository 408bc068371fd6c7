"""Files of MLflow's runs, for tests."""

from __future__ import annotations

from pathlib import Path

import mlflow.artifacts


def artifact(stack, run, name):
    """The bytes of a file that a run has."""
    return Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path=name, tracking_uri=stack.settings.mlflow_url)).read_bytes()
