"""The images that the demo ships with, and how they get into a bucket."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from infra.objects import Objects

PACKS = Path(__file__).parent / "packs"


def upload(objects: Objects, pack: str, uri: str, *, limit_per_folder: int | None = None) -> int:
    """Puts a pack's files below `uri` as a team would have them; returns how many."""
    root = PACKS / pack
    files = sorted(f for f in root.rglob("*") if f.is_file())
    if limit_per_folder is not None:
        seen: dict[Path, int] = {}
        kept = []
        for file in files:
            seen[file.parent] = seen.get(file.parent, 0) + 1
            if seen[file.parent] <= limit_per_folder:
                kept.append(file)
        files = kept
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda f: objects.write(f"{uri}/{f.relative_to(root).as_posix()}", f.read_bytes()), files))
    return len(files)
