"""`diptych translate`: an image or a folder through a trained run."""

from collections import Counter
from pathlib import Path

from diptych.config import TranslateSettings
from diptych.display import Display, Silent
from diptych.errors import DiptychError, some
from diptych.files import check_out
from diptych.images import UnreadableImageError, list_images, open_image


def translate(settings: TranslateSettings, display: Display | None = None) -> list[Path]:
    """Translate an image or a folder; return the files written, PNG, in folders like the inputs'."""
    from diptych.build import device_named
    from diptych.translator import Translator

    display = display or Silent()
    if settings.images.is_dir():
        root, names = settings.images, list_images(settings.images)
    elif settings.images.is_file():
        root, names = settings.images.parent, [settings.images.name]
    else:
        raise DiptychError(f"{settings.images}: no such file; give an image or a folder of images")
    targets = [settings.out / Path(name).with_suffix(".png") for name in names]
    inputs, answers = root.resolve(), settings.out.resolve()
    if answers == inputs or (settings.images.is_dir() and answers.is_relative_to(inputs)):
        raise DiptychError(f"--out {settings.out}: lies among the images to translate; choose a folder elsewhere")
    twice = [str(target) for target, times in Counter(targets).items() if times > 1]
    if twice:
        raise DiptychError(f"{some(twice)}: two inputs would be written there; rename one of them")
    there = [str(target) for target in targets if target.exists()]
    check_out(settings.out)
    if there and not settings.overwrite:
        raise DiptychError(f"{some(there)}: there already; choose another --out or give --overwrite")
    device = device_named(settings.device)
    translator = Translator.from_pretrained(settings.run, settings.checkpoint, str(device))
    direction = translator.checked_direction(settings.direction)

    written: list[Path] = []
    for done, (name, target) in enumerate(zip(names, targets, strict=True), start=1):
        try:
            image = open_image(root / name)
        except UnreadableImageError as problem:
            if not settings.skip_unreadable:
                raise UnreadableImageError(
                    f"{problem}, or --skip-unreadable ({len(written)} translated so far)"
                ) from None
            display.note(f"skipped {problem}")
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        translator(image, direction, at=settings.at, raw=settings.raw).save(target)
        written.append(target)
        display.count("translating", done, len(names))
    return written
