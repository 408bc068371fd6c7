"""Where the parts of the stack are. Read from the environment once, at an entry point, and passed inward."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from longtail.jobs import TENANT


class Settings(BaseSettings):
    """Addresses, credentials and limits; every field may be set as LONGTAIL_<NAME>."""

    model_config = SettingsConfigDict(env_prefix="LONGTAIL_", frozen=True, extra="ignore")

    state_dir: Path = Path(".longtail")
    bucket: str = "longtail"
    s3_endpoint: str = "127.0.0.1:8333"
    s3_access_key: str = ""
    s3_secret_key: str = ""
    s3_secure: bool = False
    s3_region: str = "us-east-1"
    database_url: str = ""
    durable_url: str = ""
    mlflow_url: str = "http://127.0.0.1:5000"
    mlflow_public_url: str = Field(default="", description="where a browser finds MLflow: the front page links to it; no link where it is empty")
    ray_address: str = "auto"
    ray_token: str = Field(default="", description="what Ray's head asks of whoever speaks to it; empty leaves Ray to its own rules")
    ray_join: bool = Field(default=False, description="whether this process first joins the cluster as a node of no cores: a container needs it")
    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8080, ge=1, le=65535)
    api_url: str = ""
    api_key: str = ""
    webhook_secret: str = ""
    executor_id: str = "worker-0"
    max_image_pixels: int = Field(default=50_000_000, description="larger images are refused before decoding")
    trainers: str = Field(default="", description='a team\'s own trainers for evaluations, JSON: {"NAME": ["COMMAND", "ARGUMENT", ...]}')
    poll_seconds: float = Field(default=5.0, gt=0, description="how often promotion is looked for in MLflow")

    @field_validator("trainers")
    @classmethod
    def names_commands(cls, value: str) -> str:
        found = json.loads(value or "{}")
        if not isinstance(found, dict) or not all(isinstance(c, list) and c and all(isinstance(w, str) for w in c) for c in found.values()):
            raise ValueError('expected {"NAME": ["COMMAND", "ARGUMENT", ...]}')
        return value

    @property
    def trainer_commands(self) -> dict[str, list[str]]:
        """The team's own trainers by name."""
        found: dict[str, list[str]] = json.loads(self.trainers or "{}")
        return found

    def place(self, dataset: str, *parts: str) -> str:
        """Where something of a dataset lies in our own bucket: s3://BUCKET/tenants/TENANT/DATASET/PARTS."""
        return "/".join((f"s3://{self.bucket}/tenants/{TENANT}", dataset, *parts))

    def report_of(self, dataset: str, job: str, *, kind: Literal["html", "json"] = "html") -> str:
        """Where the page of a training job lies, or its twin for programs, beside their copies in MLflow."""
        return self.place(dataset, "reports", f"{job}.{kind}")

    def runs_of(self, dataset: str, job: str) -> str:
        """Where an evaluation's runs lie until it is over."""
        return self.place(dataset, "evaluations", job)

    @property
    def tables_root(self) -> str:
        return f"s3://{self.bucket}/tables"

    @property
    def lance_options(self) -> dict[str, str]:
        return {
            "aws_endpoint": f"{'https' if self.s3_secure else 'http'}://{self.s3_endpoint}",
            "aws_access_key_id": self.s3_access_key,
            "aws_secret_access_key": self.s3_secret_key,
            "aws_region": self.s3_region,
            "allow_http": "true",
        }

    def environment(self) -> dict[str, str]:
        """These settings as variables for a child process."""
        return {f"LONGTAIL_{k.upper()}": str(v) for k, v in self.model_dump(mode="json").items()}

    @classmethod
    def of_running_stack(cls, state_dir: Path) -> Self:
        """What `longtail up` wrote for the stack whose state lies in `state_dir`; the environment where there is none."""
        file = state_dir / "stack.json"
        return cls.model_validate_json(file.read_text()) if file.exists() else cls(state_dir=state_dir)
