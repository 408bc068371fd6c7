"""What requests may say: frozen, bounded, nothing extra."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from longtail.errors import InvalidRequest
from longtail.expansion import OBJECTS
from longtail.jobs import MAX_BATCH, MAX_PREVIEW
from longtail.policies import resolve
from longtail.recipes import FOUNDATION_PRESET, Aim, Loss, Penalty, Preset, Start, Symmetries, finetune_recipe
from longtail.samples import INVENTS_FROM
from longtail.uplift import Arm


class Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Name = Annotated[str, Field(min_length=1, max_length=63, description="a-z, 0-9, '-' and '_'")]
Placing = Literal["synthesis", "inpaint", "copy_paste"]
Mode = Placing | Literal["enlarge"]
PAINTED: tuple[Placing, ...] = ("inpaint", "copy_paste")
MAX_OBJECTS = 8
USUAL_NOVELTY = "0.5 where none is named, or 1 of a generator that was made to invent"


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


Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=1000)]
Rate = Annotated[float, Field(gt=0, le=0.1)]


class RecipeOptions(Body):
    """What a training run does otherwise than the preset's recipe; see docs/guide.md for what each is good for."""

    aim: Aim | None = Field(default=None, description="`invent`: what stands without an exemplar, from a budget of 900 s, better 2400; `restore` by default")
    batch: int | None = Field(default=None, ge=4, le=512, multiple_of=2)
    loss: Loss | None = None
    penalty: Penalty | None = Field(default=None, description="`r1` penalises the critic on real images alone, `r1_r2` on fakes as well")
    penalty_weight: Weight | None = None
    penalty_every: int | None = Field(default=None, ge=1, le=64)
    discriminator_steps: int | None = Field(default=None, ge=1, le=16)
    reconstruction_weight: Weight | None = None
    invented_weight: Weight | None = None
    kl_weight: Weight | None = None
    diversity_weight: Weight | None = Field(default=None, description="what it weighs that latents differ in one and the same place")
    adversarial_weight: Weight | None = None
    ring_weight: Weight | None = None
    rate_warm: Rate | None = None
    rate_generator: Rate | None = None
    rate_discriminator: Rate | None = None
    whole_image_share: Share | None = None
    ground_share: Share | None = Field(default=None, description="of the transplants, how many go to bare ground")
    erased_share: Share | None = Field(default=None, description="of what is restored, how much is bare ground")
    novelty_range: tuple[Share, Share] | None = None
    full_novelty_share: Share | None = None
    symmetries: Symmetries | None = Field(default=None, description="of the data: what its images may be turned by and stay real")
    size_shares: tuple[Share, ...] | None = Field(
        default=None, min_length=1, max_length=4,
        description="with start 'random': shares of the time at ever larger sizes, the full one last; (0.4, 0.6) begins at half of it",
    )
    ema_half_life_images: float | None = Field(default=None, gt=0)
    fresh_critic: bool | None = Field(default=None, description="with start 'foundation': a critic of random weights; so unless told")
    freeze_high_resolution: bool | None = Field(default=None, description="with fresh_critic false: the foundation's critic keeps its first block")
    upscaler_s: float | None = Field(default=None, ge=0, le=86_400, description="seconds for the upsampler, in place of 7 % of the budget")
    compiled: bool | None = Field(default=None, description="compile the networks' passes, which takes minutes, instead of capturing steps: for a GPU")
    captured: bool | None = Field(default=None, description="on a GPU: each kind of step recorded once and launched whole, as by default; false: plainly")
    half: bool | None = Field(default=None, description="bfloat16 where the device is fast at it, as by default; false: float32 everywhere")
    spectral_norm: bool | None = None
    minibatch_std: bool | None = None

    @model_validator(mode="after")
    def has_something_to_learn(self) -> RecipeOptions:
        if self.novelty_range is not None and self.novelty_range[1] <= INVENTS_FROM and self.full_novelty_share == 0:
            raise ValueError(f"novelty_range: up to {INVENTS_FROM} nothing is left for a generator to complete; reach higher")
        return self


class Finetune(Body):
    """Fine-tunes a generator; on the rare classes if none is named. Presets but `tiny` start from random weights; `base` and `large` want a GPU."""

    dataset: Name
    classes: list[str] | None = Field(default=None, min_length=1, max_length=100)
    preset: Preset = "tiny"
    start: Start | None = Field(default=None, description="`foundation` where the preset has one, else `random`")
    budget_s: float = Field(default=150, ge=2, le=86_400, description="seconds of training")
    seed: int = Field(default=0, ge=0, lt=2**63)
    recipe: RecipeOptions = RecipeOptions()

    @model_validator(mode="after")
    def is_a_recipe(self) -> Finetune:
        try:
            finetune_recipe(preset=self.preset, start=self.from_where, budget_s=self.budget_s, seed=self.seed, options=self.options)
        except InvalidRequest as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def from_where(self) -> Start:
        return self.start or ("foundation" if self.preset == FOUNDATION_PRESET else "random")

    @property
    def options(self) -> dict[str, Any]:
        return self.recipe.model_dump(exclude_none=True)


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
    """What to make, and how freely: novelty 0 fits a real instance into a new place, 1 invents from the latent."""

    dataset: Name
    class_name: str = Field(min_length=1)
    mode: Mode = "inpaint"
    novelty: float | None = Field(default=None, ge=0, le=1, description=USUAL_NOVELTY)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    truncation: float | None = Field(default=None, gt=0, le=10, description="no latent entry is farther than this from 0: likelier, less varied")
    factor: Literal[2, 4] | None = Field(default=None, description="for mode 'enlarge', 2 by default: so many times the real image's size")
    boxes: list[Place] | None = Field(default=None, min_length=1, max_length=MAX_BATCH)
    version: int | None = Field(default=None, ge=1, description="dataset version to draw from; the latest by default")
    objects: int = Field(default=1, ge=1, le=MAX_OBJECTS, description="new objects of the class in each image, fewer where it has no room for so many")
    augment: Augment = None

    @model_validator(mode="after")
    def boxes_need_a_background(self) -> Generate:
        if self.objects > 1 and (self.boxes or self.mode not in PAINTED):
            raise ValueError("objects: only modes 'inpaint' and 'copy_paste' add several to an image, at places of their own choice")
        if self.boxes and self.mode not in ("inpaint", "copy_paste"):
            raise ValueError(f"boxes: mode {self.mode!r} has no background to put a box in; use 'inpaint' or 'copy_paste'")
        if self.factor and self.mode != "enlarge":
            raise ValueError(f"factor: mode {self.mode!r} does not enlarge; use mode 'enlarge'")
        return self


class Preview(Generate):
    count: int = Field(default=8, ge=1, le=MAX_PREVIEW)
    interpolate: bool = Field(default=False, description="one place, one exemplar, and latents that go from one to another in `count` steps")
    boxes: list[Place] | None = Field(default=None, min_length=1, max_length=MAX_PREVIEW)

    @model_validator(mode="after")
    def one_way(self) -> Preview:
        if self.interpolate and self.objects > 1:
            raise ValueError("interpolate: shows one object on its way; leave `objects` at 1")
        if self.interpolate and self.novelty is not None and self.novelty <= INVENTS_FROM:
            raise ValueError(f"interpolate: a latent changes nothing up to novelty {INVENTS_FROM}; ask for more")
        return self


class Batch(Generate):
    count: int = Field(default=16, ge=1, le=MAX_BATCH)


class Publish(Body):
    also: list[str] = Field(default=[], max_length=100, description="other ready batches of the dataset that join the same version")
    onto: int | None = Field(default=None, ge=1, description="the version to add to; the latest by default, so that two unproven ones are siblings")
    accept_unproven: bool = Field(default=False, description="move `latest` although nothing has proven the addition; logged and shown")


class MoveLatest(Body):
    version: int = Field(ge=1)
    accept_unproven: bool = False
    why: str = Field(default="", max_length=1000, description="kept in the log of moves, GET /v1/datasets/NAME/latest")


class Export(Body):
    format: Literal["coco", "yolo", "voc", "imagefolder", "webdataset"]
    destination: str | None = Field(default=None, description="s3://bucket/prefix; a prefix of ours by default")


def check_seeds(seeds: list[int]) -> None:
    if len(set(seeds)) != len(seeds):
        raise ValueError("seeds: each may be given once, since a run repeated is no other run")


class Evidence(Body):
    """How much to measure as a step of something else; the other settings are those of POST /v1/evaluations."""

    steps: int | None = Field(default=None, ge=5, le=50_000)
    seeds: list[Annotated[int, Field(ge=0)]] = Field(default=[0, 1, 2, 3, 4, 5], min_length=2, max_length=20)
    arms: list[Arm] = Field(default=["real", "longtail"], min_length=1)
    shares: list[Annotated[float, Field(gt=0, lt=1)]] = Field(default=[], max_length=4)
    count: int = Field(default=100, ge=1, le=MAX_BATCH, description="of a generator: how many images it makes")
    classes: list[str] | None = Field(default=None, min_length=1, description="of a generator: the classes to make")
    novelty: float | None = Field(default=None, ge=0, le=1, description="of a generator; where none is named the usual one, or 1 of what was made to invent")
    objects: int = Field(default=OBJECTS, ge=1, le=MAX_OBJECTS, description="of a generator, for a detection dataset: new objects in each image")
    trainer: str | None = None

    @model_validator(mode="after")
    def runs_differ(self) -> Evidence:
        check_seeds(self.seeds)
        return self


class Proving(Evidence):
    """How a version that was made is measured: `latest` moves to what does best on val, all of it or a part, once its proof is positive."""

    shares: list[Annotated[float, Field(gt=0, lt=1)]] = Field(default=[0.5], max_length=4, description="parts that may be kept instead of all")
    publish_choice: bool = Field(default=True, description="where a part does best on val, publish that part as a version of its own")


class Expansion(Body):
    """Targets are training instances per class; with a cron line (UTC) the clock runs it."""

    dataset: Name
    targets: dict[str, Annotated[int, Field(ge=0, le=1_000_000)]] = Field(min_length=1)
    cron: str | None = None
    mode: Placing = "inpaint"
    novelty: float | None = Field(default=None, ge=0, le=1, description=USUAL_NOVELTY)
    max_images: int = Field(default=200, ge=1, le=MAX_BATCH, description="at most this many a run")
    objects: int | None = Field(
        default=None, ge=1, le=MAX_OBJECTS, description=f"new objects in each image, if it has room; {OBJECTS} by default, 1 of a mode that paints none in"
    )
    augment: Augment = None
    accept_unproven: bool = False
    evaluate: Proving | None = Field(default=None, description="measure each version that it makes; `latest` moves on positive proof")

    @model_validator(mode="after")
    def several_objects_are_painted_in(self) -> Expansion:
        if (self.objects or 1) > 1 and self.mode not in PAINTED:
            raise ValueError("objects: only modes 'inpaint' and 'copy_paste' add several to an image")
        return self

    def asked(self) -> dict[str, Any]:
        """The request with its defaults written out."""
        return {**self.model_dump(), "objects": self.objects or (OBJECTS if self.mode in PAINTED else 1)}


class Evaluate(Body):
    """What an addition does to a model trained with it, on the real test split: of a version to another, or of what a generator makes now.

    Every arm has the same number of steps; all but real images alone have as many images added. A team's own `trainer` is one of the
    commands that the server was set up with (LONGTAIL_TRAINERS).
    """

    dataset: Name
    base: int | None = Field(
        default=None, ge=1, description="the version to start from: what the candidate adds to, by default; the candidate itself, for its real images alone"
    )
    candidate: int | None = Field(default=None, ge=1, description="a version that adds to `base`")
    generator: int | None = Field(default=None, ge=1, description="or a generator, whose images are made, filtered and measured, not published")
    classes: list[str] | None = Field(default=None, min_length=1, description="with `generator`: the classes to make; those it was trained on, by default")
    count: int = Field(default=100, ge=1, le=MAX_BATCH, description="with `generator`: how many images")
    novelty: float | None = Field(default=None, ge=0, le=1, description="with `generator`; where none is named the usual one, or 1 of what was made to invent")
    objects: int = Field(default=OBJECTS, ge=1, le=MAX_OBJECTS, description="with `generator`: new objects in each image of a detection dataset")
    arms: list[Arm] | None = Field(default=None, min_length=1, description="all that fit the dataset, by default")
    shares: list[Annotated[float, Field(gt=0, lt=1)]] = Field(default=[0.5], max_length=4, description="parts of the addition that may be kept instead")
    model: Literal["detector", "classifier", "probe"] | None = Field(default=None, description="the reference model; by the dataset's task")
    weights: Literal["pretrained", "random"] = "pretrained"
    steps: int | None = Field(default=None, ge=5, le=50_000, description="of every run; 900 of a detector, 300 of a classifier by default")
    side_px: int = Field(default=256, ge=32, le=1024, description="the longer side that the model sees, in pixels")
    seeds: list[Annotated[int, Field(ge=0)]] = Field(default=[0, 1, 2, 3, 4, 5], min_length=2, max_length=20, description="one paired run of every arm each")
    augment: Annotated[
        list[AugmentStep] | None, BeforeValidator(policy_of), Field(description="the classical arm's policy; 'upright' for detection, else 'standard'")
    ] = None
    trainer: str | None = Field(default=None, description="the team's own, by its name on the server")
    figure: str | None = Field(default=None, description="the figure that decides: AP or macro-F1 of the grown classes by default, a trainer's first")
    publish_choice: bool = Field(default=False, description="where a part of the addition does best on val, publish that part as a version of its own")

    @model_validator(mode="after")
    def measures_one_thing(self) -> Evaluate:
        if (self.candidate is None) == (self.generator is None):
            raise ValueError("name either `candidate`, a version, or `generator`")
        check_seeds(self.seeds)
        return self


class Promote(Body):
    version: int = Field(ge=1)
    why: str = ""
    evaluate: Evidence | None = Field(default=None, description="measure what its images are worth first; one that does harm is not promoted")


class Decide(Body):
    accept: bool
