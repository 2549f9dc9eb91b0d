"""Image files to feature vectors, remembered by content: what selection and set metrics measure distances in."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.cache import default_folder, image_key, in_parts
from diptych.errors import DiptychError
from diptych.features.cache import open_cache
from diptych.features.table import Table
from diptych.processes import gathered, this_process

BATCH = 16  # images; what was finished survives an interruption in steps of this
READERS = 2  # threads that read images while a network is at work
INCEPTION_FILES = (".pth", ".pt", ".safetensors")


@dataclass(frozen=True)
class Extractor:
    """What turns image files into features; `identity` changes with everything that changes a number."""

    name: str
    identity: str
    filter: str  # how images are resized to its input, in words
    read: Callable[[Sequence[Path]], Any]  # files -> what `describe` takes; in other threads, ahead of it
    describe: Callable[[Any], NDArray[np.float32]]  # -> (N, D)


def load_extractor(name: str, device: str = "cpu") -> Extractor:
    """The extractor of this name on `device`.

    `name` is "descriptor" (classical, needs no weights), "resnet50" (the paper's: 2048 pooled numbers of
    microsoft/resnet-50), "inception" (FID's own network, downloaded once) or the path of a .pth, .pt or .safetensors
    file of its weights, or another transformers vision backbone by hub name or local folder. Raises `DiptychError` for
    weights that cannot be had or used.
    """
    if name == "descriptor":
        from diptych.features import descriptor

        side = descriptor.SIDE
        resize = f"bicubic (antialiased) to {side}x{side}"
        return Extractor(name, descriptor.VERSION, resize, descriptor.describe_files, lambda features: features)
    try:
        if name == "inception" or Path(name).suffix in INCEPTION_FILES:
            from diptych.features import inception

            network = inception.load_inception(name, device)
            return Extractor(name, network.identity, inception.FILTER, network.read, network.describe)
        from diptych.features.backbone import load_backbone

        backbone = load_backbone(name, device)
    except DiptychError as problem:
        raise DiptychError(
            f"{problem}, or take one that needs no weights: --features descriptor (evaluate: --extractor descriptor)"
        ) from None
    return Extractor(name, backbone.identity, _resize_of(backbone.processor), backbone.read, backbone.describe)


def extract(
    extractor: str | Extractor,
    files: Sequence[Path],
    *,
    device: str = "cpu",
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Features of image files, a row each, float32 `(N, D)`, finite; too many for the memory are a map of a file.

    `extractor` is a loaded one, or the name of one as for `load_extractor`. Only images whose content was not met
    before are computed, shared out over the processes; the rest comes from the folder `cache`. `progress(done, total)`
    is told after each batch how many of the different images have their features.

    Raises `DiptychError` for an image that cannot be read, weights that cannot be had or used, and a cache that cannot
    be written.
    """
    if not files:
        raise DiptychError("there are no images to extract features from; give at least one")
    if isinstance(extractor, str):
        extractor = load_extractor(extractor, device)

    rows_of: dict[bytes, list[int]] = {}  # the same picture under two names is computed once
    for row, file in enumerate(files):
        rows_of.setdefault(image_key(file), []).append(row)
    folder = cache or default_folder()
    table = Table(folder, len(files))
    with open_cache(folder, extractor.identity) as store:
        missing: list[bytes] = []
        for part in in_parts(rows_of):
            known = store.find(part)
            for key, numbers in known.items():
                table.put(rows_of[key], numbers)
            missing += [key for key in part if key not in known]
        # In the same batches for all, however many processes there are: so the numbers are the same to the last digit.
        lacking = set[bytes]().union(*gathered(missing))
        missing = [key for key in rows_of if key in lacking]
        batches = [missing[start : start + BATCH] for start in range(0, len(missing), BATCH)]
        done = len(rows_of) - len(missing)
        here = this_process()
        mine = batches[here.rank :: here.size]
        inputs = _read_ahead(extractor.read, ([files[rows_of[key][0]] for key in batch] for batch in mine))
        for number in range(0, len(batches), here.size):
            own = batches[number + here.rank : number + here.rank + 1]
            new: dict[bytes, NDArray[np.float32]] = {}
            for computed in gathered(_described(extractor, own[0], next(inputs)) if own else {}):
                new |= computed
            if here.local == 0:
                store.add(new)
            for key, numbers in new.items():
                table.put(rows_of[key], numbers)
            done += len(new)
            if progress:
                progress(done, len(rows_of))
    return table.array()


def _described(extractor: Extractor, images: Sequence[bytes], read: Any) -> dict[bytes, NDArray[np.float32]]:
    """The features `(D,)` of a batch that was read, by the keys of its images."""
    features = extractor.describe(read)  # (B, D)
    if not np.isfinite(features).all():
        raise DiptychError(f"{extractor.name}: gives features that are not finite; its weights are broken, use others")
    return dict(zip(images, features, strict=True))


def _read_ahead(read: Callable[[Sequence[Path]], Any], batches: Iterable[Sequence[Path]]) -> Iterator[Any]:
    """`read(files)` for each of `batches`, in order; while one is used, the next ones are read."""
    with ThreadPoolExecutor(READERS) as readers:
        waiting: deque[Future[Any]] = deque()
        try:
            for files in batches:
                waiting.append(readers.submit(read, files))
                if len(waiting) > READERS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            readers.shutdown(wait=False, cancel_futures=True)


def _resize_of(processor: Any) -> str:
    """What a transformers image processor does to an image's size, in words."""
    from PIL import Image

    def words(size: Any) -> str:
        given = {key: value for key, value in dict(size).items() if value is not None}
        if given.keys() == {"height", "width"}:
            return f"{given['width']}x{given['height']}"
        return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in given.items())

    steps = []
    if getattr(processor, "do_resize", False):
        steps.append(f"{Image.Resampling(processor.resample).name.lower()} (antialiased) to {words(processor.size)}")
        if getattr(processor, "crop_pct", None) is not None:
            steps.append(f"crop_pct {processor.crop_pct}")
    if getattr(processor, "do_center_crop", False) and processor.crop_size is not None:
        steps.append(f"centre crop {words(processor.crop_size)}")
    return f"{', '.join(steps) or 'none'}, by its {type(processor).__name__}"
