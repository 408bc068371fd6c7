"""The MLflow registry: generators with their recipe, figures and pictures. Weights are safetensors, never pickles."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Run
from mlflow.exceptions import MlflowException, RestException
from mlflow.tracking import MlflowClient

from longtail.errors import NotFound

CHAMPION = "champion"
CHALLENGER = "challenger"
WEBHOOK = "longtail-promotions"


class Registry:
    """One registered model per dataset; versions carry lineage as tags and their files as artifacts of their run."""

    def __init__(self, url: str) -> None:
        self.client = MlflowClient(tracking_uri=url, registry_uri=url)

    def start_run(self, *, experiment: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """Id of a new run, or of the one of that name that carries the same `longtail.job` tag."""
        found = self.client.get_experiment_by_name(experiment)
        experiment_id = found.experiment_id if found else self.client.create_experiment(experiment)
        job = tags["longtail.job"]
        runs = self.client.search_runs([experiment_id], filter_string=f"tags.`longtail.job` = '{job}'")
        for known in runs:
            if known.info.run_name == name:
                return str(known.info.run_id)
        run = self.client.create_run(experiment_id, run_name=name, tags=dict(tags))
        for key, value in params.items():
            self.client.log_param(run.info.run_id, key, str(value)[:500])
        return str(run.info.run_id)

    def log_figures(self, run: str, figures: Mapping[str, float], *, step: int) -> None:
        at = int(time.time() * 1000)
        self.client.log_batch(run, metrics=[Metric(k, float(v), at, step) for k, v in figures.items()])

    def log_file(self, run: str, name: str, data: bytes) -> None:
        """Stores the bytes as the run's artifact `name`."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / Path(name).name
            file.write_bytes(data)
            parent = str(Path(name).parent)
            self.client.log_artifact(run, str(file), artifact_path=None if parent == "." else parent)

    def runs(self, experiment: str) -> Iterator[Run]:
        """Every run of an experiment; none where there is no such experiment."""
        found, token = self.client.get_experiment_by_name(experiment), None
        while found is not None:
            page = self.client.search_runs([found.experiment_id], page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def files(self, run: str) -> set[str]:
        """What lies at the top of a run's artifacts."""
        return {f.path for f in self.client.list_artifacts(run)}

    def below(self, run: str, folder: str | None = None) -> Iterator[str]:
        """Every file of a run, or of a folder of it."""
        for found in self.client.list_artifacts(run, folder):
            if found.is_dir:
                yield from self.below(run, found.path)
            else:
                yield found.path

    def finish_run(self, run: str, *, status: str = "FINISHED") -> None:
        self.client.set_terminated(run, status=status)

    def register(self, model: str, *, run: str, description: str, tags: Mapping[str, str]) -> int:
        """The new version's number, or that of the version already registered from this run."""
        try:
            self.client.create_registered_model(model)
        except (RestException, MlflowException) as error:
            if "ALREADY_EXISTS" not in str(getattr(error, "error_code", error)):
                raise
        for known in self.client.search_model_versions(f"name = '{model}'"):
            if known.run_id == run:
                return int(known.version)
        source = f"runs:/{run}/generator"
        made = self.client.create_model_version(model, source=source, run_id=run, description=description, tags=dict(tags))
        return int(made.version)

    def alias(self, model: str, alias: str) -> int | None:
        """The version that an alias points at, if any."""
        try:
            return int(self.client.get_model_version_by_alias(model, alias).version)
        except (RestException, MlflowException):
            return None

    def champion(self, model: str) -> int | None:
        """Which version the champion alias points at, None where there is no alias or no model."""
        return self.alias(model, CHAMPION)

    def set_alias(self, model: str, alias: str, version: int) -> None:
        try:
            self.client.get_model_version(model, str(version))
            self.client.set_registered_model_alias(model, alias, str(version))
        except (RestException, MlflowException) as error:
            raise NotFound(f"model {model!r} has no version {version} in MLflow") from error

    def drop_alias(self, model: str, alias: str) -> None:
        """Takes the alias away; none there is no error."""
        with suppress(RestException, MlflowException):
            self.client.delete_registered_model_alias(model, alias)

    def tags(self, model: str, version: int) -> dict[str, str]:
        """The version's tags. Raises NotFound where it does not exist."""
        try:
            return dict(self.client.get_model_version(model, str(version)).tags)
        except (RestException, MlflowException) as error:
            raise NotFound(f"model {model!r} has no version {version} in MLflow") from error

    def tag(self, model: str, version: int, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self.client.set_model_version_tag(model, str(version), key, value)

    def ensure_webhook(self, url: str, secret: str) -> None:
        """Has MLflow tell us when an alias moves; a webhook of ours that points elsewhere is replaced."""
        for known in self.client.list_webhooks():
            if known.name == WEBHOOK:
                if known.url == url:
                    return
                self.client.delete_webhook(known.webhook_id)
        self.client.create_webhook(WEBHOOK, url, ["model_version_alias.created", "model_version_alias.deleted"], secret=secret)
