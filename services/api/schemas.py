"""What requests may say: frozen, bounded, nothing extra."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from longtail.errors import InvalidRequest
from longtail.jobs import MAX_BATCH, MAX_PREVIEW
from longtail.policies import resolve


class Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Name = Annotated[str, Field(min_length=1, max_length=63, description="a-z, 0-9, '-' and '_'")]
Mode = Literal["synthesis", "inpaint", "copy_paste"]


class Splits(Body):
    """Shares of the images for val and test; the rest trains. For a source that has no splits of its own."""

    val: float = Field(default=0.15, ge=0, lt=1)
    test: float = Field(default=0.15, ge=0, lt=1)
    seed: int = Field(default=0, ge=0, lt=2**63)
    grouped: bool = Field(default=True, description="near-duplicates on one side; every image is read whole for it")

    @model_validator(mode="after")
    def leaves_something(self) -> Splits:
        if not 0 < self.val + self.test < 1:
            raise ValueError("val and test must leave something to train on, and ask for something")
        return self


class RegisterDataset(Body):
    """Registers what lies below a prefix; no image is copied."""

    name: Name
    uri: str = Field(description="s3://bucket/prefix")
    format: Literal["auto", "coco", "yolo", "voc", "masks", "imagefolder"] = "auto"
    on_problem: Literal["fail", "skip"] = "fail"
    splits: Splits | None = None


class Rescan(Body):
    """Looks at the source again; what differs becomes a new version."""

    on_problem: Literal["fail", "skip"] = "fail"


class Withdraw(Body):
    """Takes source images out, with all that was made from them; by path at the source, or by sample id."""

    paths: list[str] = Field(default=[], max_length=10_000)
    samples: list[str] = Field(default=[], max_length=10_000)
    reason: Literal["consent", "label", "other"]
    dry_run: bool = Field(default=False, description="only list what would go")

    @model_validator(mode="after")
    def names_something(self) -> Withdraw:
        if not self.paths and not self.samples:
            raise ValueError("name at least one of `paths` and `samples`")
        return self


class Collect(Body):
    """Frees what nothing needs any more. The dry run, which is the default, only lists it."""

    dry_run: bool = True
    keep_last: int | None = Field(default=None, ge=1, description="also drop versions but the last so many, and those that something needs")
    grace_hours: float = Field(default=1.0, ge=0, description="what is younger is left alone")


class Finetune(Body):
    """Fine-tunes the tiny generator; on the rare classes if none is named."""

    dataset: Name
    classes: list[str] | None = Field(default=None, min_length=1, max_length=100)
    preset: Literal["tiny"] = "tiny"
    budget_s: float = Field(default=150, ge=2, le=86_400, description="seconds of training")
    seed: int = Field(default=0, ge=0, lt=2**63)


class Place(Body):
    """A box in a training image, in pixels; the image by sample id or path."""

    image: str
    box_xyxy: tuple[float, float, float, float]


class AugmentStep(Body):
    """A transform of Albumentations, how often it is applied, and its own options."""

    name: str
    p: float = Field(default=0.5, ge=0, le=1)
    options: dict[str, Any] = {}


def policy_of(value: Any) -> Any:
    """A preset's steps where it is named; steps as they are, once their names are known."""
    if value is None or not isinstance(value, str | list):
        return value
    steps = value if isinstance(value, str) else [AugmentStep.model_validate(step).model_dump() for step in value]
    try:
        return resolve(steps)
    except InvalidRequest as error:
        raise ValueError(str(error)) from error


Augment = Annotated[
    list[AugmentStep] | None, BeforeValidator(policy_of), Field(description="classical augmentation of finished images: a preset's name, or steps")
]


class Generate(Body):
    """What to make, and how freely: novelty 0 harmonises a real instance, 1 invents from the latent."""

    dataset: Name
    class_name: str = Field(min_length=1)
    mode: Mode = "inpaint"
    novelty: float | None = Field(default=None, ge=0, le=1)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    truncation: float | None = Field(default=None, gt=0, le=10, description="no latent entry is farther than this from 0: likelier, less varied")
    boxes: list[Place] | None = Field(default=None, min_length=1, max_length=MAX_BATCH)
    version: int | None = Field(default=None, ge=1, description="dataset version to draw from; the latest by default")
    augment: Augment = None

    @model_validator(mode="after")
    def boxes_need_a_background(self) -> Generate:
        if self.boxes and self.mode == "synthesis":
            raise ValueError("boxes: mode 'synthesis' has no background to put a box in; use 'inpaint' or 'copy_paste'")
        return self


class Preview(Generate):
    count: int = Field(default=8, ge=1, le=MAX_PREVIEW)
    interpolate: bool = Field(default=False, description="one place, one exemplar, and latents that go from one to another in `count` steps")
    boxes: list[Place] | None = Field(default=None, min_length=1, max_length=MAX_PREVIEW)


class Batch(Generate):
    count: int = Field(default=16, ge=1, le=MAX_BATCH)


class Publish(Body):
    also: list[str] = Field(default=[], max_length=100, description="other ready batches of the dataset that join the same version")
    onto: int | None = Field(default=None, ge=1, description="the version to add to; the latest by default, so that two unproven ones are siblings")
    accept_unproven: bool = Field(default=False, description="move `latest` although nothing has proven the addition; logged and shown")


class MoveLatest(Body):
    version: int = Field(ge=1)
    accept_unproven: bool = False


class Export(Body):
    format: Literal["coco", "yolo", "voc", "imagefolder", "webdataset"]
    destination: str | None = Field(default=None, description="s3://bucket/prefix; a prefix of ours by default")


class Expansion(Body):
    """Targets are training instances per class; with a cron line (UTC) the clock runs it."""

    dataset: Name
    targets: dict[str, Annotated[int, Field(ge=0, le=1_000_000)]] = Field(min_length=1)
    cron: str | None = None
    mode: Mode = "inpaint"
    novelty: float | None = Field(default=None, ge=0, le=1)
    max_images: int = Field(default=200, ge=1, le=MAX_BATCH, description="at most this many a run")
    augment: Augment = None
    accept_unproven: bool = False


class Evaluate(Body):
    """The quick reference detector with and without what `candidate` adds to `base`."""

    dataset: Name
    base: int = Field(ge=1)
    candidate: int = Field(ge=1)
    steps: int = Field(default=150, ge=5, le=5000)
    seeds: list[Annotated[int, Field(ge=0)]] = Field(default=[0, 1, 2], min_length=2, max_length=10)
    augment: Augment = None
    copies: int = Field(default=1, ge=1, le=10, description="with `augment`: an arm of the real images and this many varied copies of each")


class Promote(Body):
    version: int = Field(ge=1)
    why: str = ""


class Decide(Body):
    accept: bool
