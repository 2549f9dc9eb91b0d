"""`diptych translate`: an image or a folder through a trained run."""

import shutil
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.config import TranslateSettings
from diptych.display import Display, Silent
from diptych.errors import DiptychError, some
from diptych.files import check_out, write_png
from diptych.images import (
    UnreadableImageError,
    file_suffix,
    list_images,
    opening_up_to,
    read_header,
    real_path,
    write_pixels,
)
from diptych.processes import agree, by_first, joined, shared_out

if TYPE_CHECKING:
    from diptych.translator import Tiles, Translator


def translate(settings: TranslateSettings, display: Display | None = None) -> list[Path]:
    """Translate an image or a folder; return the files written, in folders like the inputs'.

    PNG, or TIFF for more than four channels, in the channels and bits of the target; class maps as palette images.
    """
    with joined("translating"):
        return _translate(settings, display or Silent())


def _translate(settings: TranslateSettings, display: Display) -> list[Path]:
    from diptych.build import device_named
    from diptych.translator import Translator

    agree("their settings", settings.model_dump(mode="json"))
    on_disk, _ = real_path(settings.images)
    if on_disk.is_dir():
        root, names = settings.images, list_images(settings.images)
    elif on_disk.is_file():
        root, names = settings.images.parent, [settings.images.name]
    else:
        raise DiptychError(f"{settings.images}: no such file; give an image or a folder of images")
    inputs, answers = real_path(root)[0].resolve(), settings.out.resolve()
    if answers == inputs or (on_disk.is_dir() and answers.is_relative_to(inputs)):
        raise DiptychError(f"--out {settings.out}: lies among the images to translate; choose a folder elsewhere")
    if settings.tile is not None and settings.at != "native":
        raise DiptychError("--tile is for images seen at their own size; give --at native, too, or leave it out")
    check_out(settings.out)
    device = device_named(settings.device)
    translator = Translator.from_pretrained(settings.run, settings.checkpoint, str(device), settings.precision)
    direction = translator.checked_direction(settings.direction)
    suffix = file_suffix(translator.spec.forms[direction[-1]].channels)
    targets = [settings.out / Path(name).with_suffix(suffix) for name in names]
    twice = [str(target) for target, times in Counter(targets).items() if times > 1]
    if twice:
        raise DiptychError(f"{some(twice)}: two inputs would be written there; rename one of them")
    agree("the images that they see", names)
    there = by_first(lambda: [str(target) for target in targets if target.exists()])
    if there and not settings.overwrite:
        raise DiptychError(f"{some(there)}: there already; choose another --out or give --overwrite")

    megapixels, translated = settings.max_megapixels, 0

    def write(name: str, target: Path) -> Path | UnreadableImageError:
        nonlocal translated
        try:
            with opening_up_to(round(megapixels * 1e6)) if megapixels else nullcontext():
                tiles = _tiles(translator, direction, root / name, settings, display)
                if translator.target_classes(direction) is not None and not settings.raw:
                    write_png(target, translator(root / name, direction, at=settings.at, tiles=tiles))
                else:
                    write_pixels(target, translator.pixels(root / name, direction, at=settings.at, tiles=tiles))
        except UnreadableImageError as problem:
            if not settings.skip_unreadable:
                raise UnreadableImageError(
                    f"{problem}, or --skip-unreadable ({translated} translated so far)"
                ) from None
            return problem
        except DiptychError as problem:
            raise DiptychError(f"{problem} ({translated} translated so far)") from None
        translated += 1
        return target

    def progress(done: int, total: int) -> None:
        display.count("translating", done, total)

    written: list[Path] = []
    for answer in shared_out(list(zip(names, targets, strict=True)), lambda both: write(*both), progress):
        if isinstance(answer, UnreadableImageError):
            display.note(f"skipped {answer}")
        else:
            written.append(answer)
    return written


def _tiles(
    translator: "Translator", direction: str, file: Path, settings: TranslateSettings, display: Display
) -> "Tiles | None":
    """How to cut the image at `file`: as asked for, or where memory would not do; None to see it at once."""
    from diptych.tiling.memory import free_memory
    from diptych.translator import Tiles

    if settings.at != "native":
        return None
    width, height = read_header(file).size
    if settings.tile is not None and max(width, height) <= settings.tile:
        return None
    needs = translator.needs((width, height), direction)
    why = ""
    if settings.tile is None:
        free = free_memory(translator.device(direction))
        if needs.memory < free:
            return None
        why = f"{width}x{height} at once would take about {_gb(needs.memory)} of memory and {_gb(free)} are free, so "
    settings.out.mkdir(parents=True, exist_ok=True)
    room = shutil.disk_usage(settings.out).free
    if needs.scratch > room:
        raise DiptychError(
            f"{file}: {width}x{height} in tiles takes {_gb(needs.scratch)} of scratch files, and {settings.out} has "
            f"{_gb(room)} free; choose an --out on another disk"
        )
    tiles = Tiles(
        settings.tile or Tiles.side,
        settings.out,
        lambda share: display.count(f"percent of {file.name}", round(100 * share), 100),
    )
    display.note(
        f"{file.name}: {why}in tiles of {tiles.side}, with {_gb(needs.scratch)} of scratch files in {settings.out}"
    )
    return tiles


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
