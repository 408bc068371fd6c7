"""What a detector gains from objects painted at each novelty: AP on real test images, on three packs of few images.

    python -m benchmarks.downstream --data DATA [--packs bccd,magnetic_tile,nuclei] [--images 50] [--budget 300] [--seeds 3]

Generator and detector learn from the same `images` of a pack, its classes in turn. Every arm but the first adds `images` more: a copy
of one of them with one object more, class after class, each in an emptier place; arms differ in how the object is made and in nothing
else. The detector is the harness's, trained for the same steps with each seed. Of each arm's difference
from real data alone the table has the mean over seeds and its 95 % interval; the objects are the same for every seed, so that the
interval is narrower than that of another draw of objects would be. out/downstream has pictures of what was added, and each run's figures, which
are not measured again for generators by the same code. Asked as the command has it, it writes the table of docs/benchmarks.md; what was found of packs
that are not asked for stays there. With `--aim invent --budget 2400` generators learn to paint without an exemplar (docs/decisions/035), and
novelty 1 alone is asked.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image

from benchmarks.packs import PACKS, Pack, Shown, read_pack, shown
from benchmarks.report import RESULTS, Figure, once, save, write_between
from benchmarks.tuning import asked_for, foundation_for, parser_of, todays, tuned
from longtail.boxes import BoxXyxy
from longtail.contrast import LEAST_KEPT, kept_contrast
from longtail.placement import place
from longtail.recipes import Aim
from longtail.samples import Mode
from trainers import device
from trainers.networks import Generator
from trainers.render import Order, Painter, render
from trainers.uplift.arms import figures_of as detection_figures
from trainers.uplift.arms import measure as measured_by
from trainers.uplift.arms import outcome_of
from trainers.uplift.bench import Bench, Setting
from trainers.uplift.detector import Canvas
from trainers.uplift.images import Labelled
from trainers.uplift.statistics import paired_interval
from trainers.windows import Instance

OUT = Path("out") / "downstream"
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
NOVELTIES: dict[Aim, tuple[float, ...]] = {"restore": (0.0, 0.25, 0.35, 0.5, 0.75, 1.0), "invent": (1.0,)}
STEPS = 900
TRIES = 60
COLUMNS = 12
REAL, PASTED = "real", "copy_paste"
Added = tuple[Shown, Instance, BoxXyxy, int]


def measured(name: str, data: Path, *, images: int, budget_s: float, seeds: int, aim: Aim) -> list[Figure]:
    """The figures of a pack, read back where they were measured before."""
    rests, code = f"{name}-{images}images-{budget_s:.0f}s{suffix(aim)}", todays(foundation_for(name))
    runs = OUT / "runs" / f"{rests}-{code}"
    of = functools.partial(measure, name, data, images=images, budget_s=budget_s, seeds=seeds, aim=aim, runs=runs)
    found = once(OUT / f"{rests}-{seeds}seeds-{code}.json", lambda: [asdict(f) for f in of()])
    return [Figure(**body) for body in found]


def suffix(aim: Aim) -> str:
    return "" if aim == "restore" else f"-{aim}"


def measure(name: str, data: Path, *, images: int, budget_s: float, seeds: int, aim: Aim, runs: Path) -> list[Figure]:
    """A pack's figures; what each run of the detector reached is kept in `runs`, and not asked of it again."""
    parts = PACKS[name](data)
    whole = read_pack(name, data).classes.values()
    real = in_turn([s for s in shown(parts["train"]) if set(s.names) <= set(whole)])[:images]
    pack = read_pack(name, data, images={s.image for s in real})
    generator = tuned(pack, budget_s=budget_s, name=f"{name}-{len(real)}images-{budget_s:.0f}s{suffix(aim)}", options={"aim": aim})
    orders = list(itertools.islice(objects_to_add(pack, real), len(real)))
    test = [s for s in shown(parts["judge"]) if set(s.names) <= set(pack.classes.values())]
    base = labelled(real, pack)
    arms = {REAL: base, PASTED: base + labelled(grown(pack, real, orders, None, 0.0, called=f"{name}-{PASTED}"), pack)}
    for novelty in NOVELTIES[aim]:
        painted = grown(pack, real, orders, generator, novelty, called=f"{name}-{novelty:g}{suffix(aim)}")
        arms[f"{novelty:g}"] = base + labelled(painted, pack)
    return figures_of(name, arms, labelled(test, pack), pack, seeds=seeds, runs=runs)


def in_turn(found: list[Shown]) -> list[Shown]:
    """The images, those of the rarest class first and its classes by turns: a class is starved, none is missing."""
    counts: dict[str, int] = {}
    for name in itertools.chain.from_iterable(s.names for s in found):
        counts[name] = counts.get(name, 0) + 1
    queues: dict[str, list[Shown]] = {}
    for s in found:
        queues.setdefault(min(s.names, key=lambda n: counts[n]), []).append(s)
    rng = np.random.default_rng(0)
    mixed = [[q[i] for i in rng.permutation(len(q))] for _, q in sorted(queues.items(), key=lambda item: counts[item[0]])]
    return [s for row in itertools.zip_longest(*mixed) for s in row if s is not None]


def objects_to_add(pack: Pack, real: Sequence[Shown]) -> Iterator[Added]:
    """(image, exemplar, free place of its size where it is seen, seed): every class as often as the others. Ends the program where one finds none."""
    rng = np.random.default_rng(1)
    for seed in itertools.count():
        label = seed % len(pack.classes)
        mine = [i for i in pack.train if i.label == label]
        for _ in range(TRIES):
            chosen, ground = mine[int(rng.integers(len(mine)))], real[int(rng.integers(len(real)))]
            x0, y0, x1, y1 = chosen.box_xyxy
            box = place((x1 - x0, y1 - y0), ground.boxes, ground.pixels, rng)
            if box and kept_contrast(chosen.image, chosen.box_xyxy, ground.pixels, box) >= LEAST_KEPT:
                yield ground, chosen, box, seed
                break
        else:
            raise SystemExit(f"{pack.name}: no place where an object of {pack.classes[label]!r} would be seen in {TRIES} tries")


def grown(
    pack: Pack, real: Sequence[Shown], orders: Sequence[Added],
    generator: Generator | None, novelty: float, *, called: str,
) -> list[Shown]:  # fmt: skip
    """The ordered images, each with its new object; the first of those go to out/downstream/`called`.png."""
    painter, found = None if generator is None else Painter(generator), []
    for ground, exemplar, box, seed in orders:
        mode: Mode = "copy_paste" if painter is None else "inpaint"
        order = Order(mode, exemplar.label, seed, novelty, box, ground.pixels, exemplar)
        pixels = render(painter, order).pixels
        found.append(Shown(ground.image, pixels, [*ground.boxes, box], [*ground.names, pack.classes[exemplar.label]]))
    OUT.mkdir(parents=True, exist_ok=True)
    row = [np.asarray(Image.fromarray(s.pixels).crop(around(s.boxes[-1])).resize((128, 128))) for s in found[:COLUMNS]]
    Image.fromarray(np.concatenate(row, 1)).save(OUT / f"{called}.png")
    return found


def around(box: Sequence[float]) -> tuple[int, int, int, int]:
    """A square of twice the box."""
    x, y, half = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, max(box[2] - box[0], box[3] - box[1])
    return round(x - half), round(y - half), round(x + half), round(y + half)


def labelled(found: list[Shown], pack: Pack) -> list[Labelled]:
    number = {name: label for label, name in pack.classes.items()}
    return [Labelled(s.pixels, s.boxes, [number[n] for n in s.names]) for s in found]


def figures_of(name: str, arms: dict[str, list[Labelled]], test: list[Labelled], pack: Pack, *, seeds: int, runs: Path) -> list[Figure]:
    """AP50 of each arm, and its difference from real data alone with that difference's 95 % interval over seeds."""
    names = list(pack.classes.values())
    bench = Bench(Setting("detector", STEPS), names, Canvas.of([(i.pixels.shape[1], i.pixels.shape[0]) for i in arms[REAL]]))
    prepared, held = {arm: bench.prepare(images) for arm, images in arms.items()}, bench.prepare(test)
    asked, reached = detection_figures("detector", names, []), dict[str, list[float]]()

    def reach(arm: str, seed: int) -> float | None:
        outcome = outcome_of("detector", bench.run(prepared[arm], {"test": (test, held)}, seed=seed)["test"])
        return measured_by(outcome, asked)["AP50"]

    for seed, arm in itertools.product(range(seeds), prepared):
        value = once(runs / f"{arm}-{seed}.json", functools.partial(reach, arm, seed))
        reached.setdefault(arm, []).append(float("nan") if value is None else value)
        print(f"{name} seed {seed} {arm}: AP50 {reached[arm][-1]:.3f}", flush=True)
    figures = []
    for arm, values in reached.items():
        difference = np.array(values) - np.array(reached[REAL])
        low, high = paired_interval(difference)
        figures += [Figure(f"{name}/{arm}/ap50", float(np.mean(values)), "AP50")]
        if arm != REAL:
            figures += [Figure(f"{name}/{arm}/gain", float(difference.mean()), "AP50", spread=(low, high))]
        print(f"{name} {arm}: AP50 {np.mean(values):.3f}, {difference.mean():+.3f} ± {(high - low) / 2:.3f}", flush=True)
    return figures


def table(figures: Sequence[Figure]) -> list[str]:
    """A line for each arm of each pack."""
    lines = ["| pack | added to fifty images | AP50 | gain | 95 % over seeds |", "| --- | --- | --- | --- | --- |"]
    known = {f.name: f for f in figures}
    for f in figures:
        pack, arm, kind = f.name.split("/")
        if kind == "gain":
            continue
        gain = known.get(f"{pack}/{arm}/gain")
        interval = "–" if gain is None or gain.spread is None else f"{gain.spread[0]:+.3f} to {gain.spread[1]:+.3f}"
        said = {REAL: "nothing", PASTED: "pasted"}.get(arm, f"novelty {arm}")
        lines.append(f"| {pack} | {said} | {f.value:.3f} | {'–' if gain is None else f'{gain.value:+.3f}'} | {interval} |")
    return lines


def main() -> None:
    parser = parser_of(__doc__, packs=",".join(PACKS), budget_s=300.0, quick="ten images, ten seconds, two seeds")
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--aim", choices=get_args(Aim), default="restore")
    a = parser.parse_args()
    images, budget_s, seeds = (10, 10.0, 2) if a.quick else (a.images, a.budget, a.seeds)
    packs = asked_for(a.packs)
    with device.best_device():
        figures = [f for name in packs for f in measured(name, a.data, images=images, budget_s=budget_s, seeds=seeds, aim=a.aim)]
    usual = all(getattr(a, k) == parser.get_default(k) for k in ("images", "seeds", "budget", "aim")) and not a.quick
    for name in packs:
        mine = [f for f in figures if f.name.startswith(f"{name}/")]
        settings = "" if usual or a.quick else f"-{images}images-{budget_s:.0f}s-{seeds}seeds"
        save(f"downstream-{name}{settings}{suffix(a.aim)}", mine, quick=a.quick, gpu=device.name())
    if usual:
        write_between(PAGE, "downstream", "\n".join(table(kept())))


def kept() -> list[Figure]:
    """What was found of each pack, today or before: they are measured one by one."""
    files = [RESULTS / f"downstream-{name}.json" for name in PACKS]
    return [Figure(**body) for file in files if file.exists() for body in json.loads(file.read_text())["figures"]]


if __name__ == "__main__":
    main()
