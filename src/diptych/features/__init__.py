"""Image files to feature vectors, remembered by content: what selection measures distances in."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diptych.errors import DiptychError
from diptych.features.cache import default_folder, image_key, open_cache

BATCH = 16  # images; what was finished survives an interruption in steps of this


def extract(
    name: str,
    files: Sequence[Path],
    *,
    device: str = "cpu",
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Features of image files, a row each, float32 `(N, D)`, finite.

    `name` is "descriptor" (classical, needs no weights), "resnet50" (the paper's: 2048 pooled numbers of
    microsoft/resnet-50), or another transformers vision backbone by hub name or local folder. Only images whose content
    was not met before are computed; the rest comes from the folder `cache`. `progress(done, total)` is told after each
    batch how many of the different images have their features.

    Raises `DiptychError` for an image that cannot be read, weights that cannot be had or used, and a cache that cannot
    be written.
    """
    if not files:
        raise DiptychError("there are no images to extract features from; give at least one")
    describe: Callable[[Sequence[Path]], NDArray[np.float32]]
    if name == "descriptor":
        from diptych.features import descriptor

        identity, describe = descriptor.VERSION, descriptor.describe_files
    else:
        from diptych.features.backbone import load_backbone

        try:
            backbone = load_backbone(name, device)
        except DiptychError as problem:
            raise DiptychError(f"{problem}, or use --features descriptor, which needs no weights") from None
        identity, describe = backbone.identity, backbone.describe_files

    keys = [image_key(file) for file in files]
    file_of = dict(zip(keys, files, strict=True))  # the same picture under two names is computed once
    with open_cache(cache or default_folder(), identity) as store:
        known = store.find(list(file_of))
        missing = [key for key in file_of if key not in known]
        for start in range(0, len(missing), BATCH):
            batch = missing[start : start + BATCH]
            features = describe([file_of[key] for key in batch])  # (B, D)
            if not np.isfinite(features).all():
                raise DiptychError(f"{name}: gives features that are not finite; its weights are broken, use others")
            new = dict(zip(batch, features, strict=True))
            store.add(new)
            known |= new
            if progress:
                progress(len(known), len(file_of))
    return np.stack([known[key] for key in keys])
