"""`diptych pack`: a dataset as shards."""

import shutil
from pathlib import Path
from typing import Any

from diptych.config import PackSettings
from diptych.dataset import Dataset, open_domain, with_pairs
from diptych.display import Display, Silent
from diptych.errors import DiptychError
from diptych.files import PART, alone_in, check_out, sync
from diptych.images import read_classes
from diptych.layouts import read_layout
from diptych.pairs import same_stem
from diptych.shards.packing import write_shards

FROM_LAYOUT = ("a", "b", "a_classes", "b_classes")
MB = 10**6


def pack(settings: PackSettings, display: Display | None = None) -> Path:
    """Write a dataset as shards, for `diptych train --data`; return their folder, which appears once it is whole.

    Every image is looked at first, so that its faults are found before anything is written.
    """
    display = display or Silent()
    out = settings.out.resolve()  # a link stays one
    settings = _with_data(settings, display)
    _check_free(out)
    check_out(out)
    dataset = _open(settings, display)
    part = out.with_name(f"{PART}{out.name}")
    part.mkdir(parents=True, exist_ok=True)
    with alone_in(part, "pack"):
        try:
            _clear(part)  # after one that was killed
            write_shards(
                dataset,
                part,
                round(settings.shard_mb * MB),
                settings.seed,
                lambda done, total: display.count("packing images", done, total),
            )
            sync(part)
            _check_free(out)
            (part / ".lock").unlink()
            part.replace(out)
            sync(out.parent)
        except BaseException as problem:
            shutil.rmtree(part, ignore_errors=True)
            if isinstance(problem, OSError) and problem.errno is not None:
                raise OSError(problem.errno, problem.strerror, str(out)) from None
            raise
    return out


def _check_free(out: Path) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise DiptychError(f"{out}: is there already; choose another --out")
    if out.is_mount() or out == Path.cwd():
        raise DiptychError(
            f"{out}: the shards appear in one move, which cannot take its place; give --out {out}/shards"
        )


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != ".lock":
            path.unlink()


def _with_data(settings: PackSettings, display: Display) -> PackSettings:
    """The settings with what --data stands for in its place."""
    if settings.data is not None:
        layout = read_layout(settings.data, settings.swap)
        display.note(f"{layout.recognised}; the training images are packed")
        found: dict[str, Any] = {name: getattr(layout, name) for name in FROM_LAYOUT if getattr(settings, name) is None}
        settings = settings.model_copy(update=found | {"pairs": layout.pairs_for(settings.pairs)})
    elif settings.swap:
        raise DiptychError("--swap is about --data; give it, or exchange --a and --b")
    missing = [side for side in ("a", "b") if getattr(settings, side) is None]
    if missing:
        raise DiptychError(f"pack needs --{missing[0]}, the folder of domain {missing[0]}, or --data")
    return settings


def _open(settings: PackSettings, display: Display) -> Dataset:
    """Look at every image, and settle the pairs."""
    domains = {}
    for place in ("a", "b", "unpaired_a", "unpaired_b"):
        folder, side = getattr(settings, place), place[-1]
        if folder is None:
            continue
        table = getattr(settings, f"{side}_classes")

        def count(done: int, total: int, what: str = f"reading images of {place.replace('_', ' ')}") -> None:
            display.count(what, done, total)

        domains[place], skipped = open_domain(
            folder,
            read_classes(table) if table else None,
            channels=getattr(settings, f"{side}_channels"),
            skip_unreadable=settings.skip_unreadable,
            progress=count,
            note=display.note,
            whole=True,
        )
        for problem in skipped:
            display.note(f"skipped {problem}")
    dataset = Dataset(
        domains["a"], domains["b"], elsewhere_a=domains.get("unpaired_a"), elsewhere_b=domains.get("unpaired_b")
    )
    pairs = settings.pairs
    if pairs is None:
        a, b = dataset.a, dataset.b
        pairs = "all" if same_stem(a.names, b.names, b.folder) else "none"
    dataset = with_pairs(dataset, pairs, settings.seed)
    alone = [len(domain.names) - len(dataset.pairs) for domain in (dataset.a, dataset.b)]
    display.note(f"{settings.out}: {len(dataset.pairs):,} pairs; {alone[0]:,} other images of a, {alone[1]:,} of b")
    return dataset
