"""`diptych import-weights`: generators of another project become a translator."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych.config import ImportWeightsSettings, parse_size
from diptych.display import Display, Silent
from diptych.errors import DiptychError
from diptych.files import check_out
from diptych.images import Classes, PixelFormat, read_classes


def import_weights(settings: ImportWeightsSettings, display: Display | None = None) -> Path:
    """Turn generators of pytorch-CycleGAN-and-pix2pix into a translator; return its folder.

    The way taken unless another is asked for is a to b, where there is one.
    """
    from diptych.foreign import describe, read_generator
    from diptych.translator import Translator, TranslatorSpec

    display = display or Silent()
    files = {"a_to_b": settings.a_to_b, "b_to_a": settings.b_to_a}
    given = {direction: file for direction, file in files.items() if file is not None}
    if not given:
        raise DiptychError("nothing to import; give --a-to-b or --b-to-a, a *_net_G*.pth")
    check_out(settings.out)
    if settings.out.exists() and any(settings.out.iterdir()):
        raise DiptychError(f"{settings.out}: is not empty; choose another --out")
    tables = {"a": settings.a_classes, "b": settings.b_classes}
    classes = {domain: read_classes(table) if table else None for domain, table in tables.items()}
    architectures, generators = {}, {}
    for direction, file in given.items():
        architectures[direction], generators[direction] = read_generator(file)
    forms = _forms(architectures, classes)
    batch_norm = any(architecture["norm"] == "batch" for architecture in architectures.values())
    train_mode = settings.translate_in_train_mode
    spec = TranslatorSpec(
        architectures=architectures,
        size=parse_size(settings.size),
        direction=next(iter(given)),
        classes=classes,
        train_mode=batch_norm if train_mode is None else train_mode,
        forms=forms,
    )
    for direction, file in given.items():
        display.note(f"{direction}: {file} holds {describe(architectures[direction])}")
    Translator(generators, spec).save_pretrained(settings.out)
    return settings.out


def _forms(
    architectures: Mapping[str, Mapping[str, Any]], classes: Mapping[str, Classes | None]
) -> dict[str, PixelFormat]:
    """What either domain is made of, from the generators' first and last layers; 8 bits, as that code reads images."""
    channels: dict[str, int] = {}
    for direction, architecture in architectures.items():
        for domain, key in ((direction[0], "in_channels"), (direction[-1], "out_channels")):
            if channels.setdefault(domain, architecture[key]) != architecture[key]:
                raise DiptychError(
                    f"the generators disagree about the channels of {domain}, {channels[domain]} and "
                    f"{architecture[key]}; give two of one training"
                )
            if classes[domain] is not None and architecture[key] != 3:
                raise DiptychError(
                    f"--{domain}-classes: class maps are shown in three channels, this generator has "
                    f"{architecture[key]} there; take it out"
                )
    return {domain: PixelFormat(channels.get(domain, 3)) for domain in ("a", "b")}
