"""`diptych select`: say which images are worth pairing."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diptych.config import SelectSettings
from diptych.dataset import open_domain
from diptych.display import Display, Silent
from diptych.errors import DiptychError, some
from diptych.features.stored import check_numbers, is_stored, names_of_rows, open_features
from diptych.files import check_out, write_png
from diptych.images import check_apart, list_images, read_view
from diptych.pairs import read_rows, same_stem, write_pairs
from diptych.processes import agree, by_first, is_first, joined
from diptych.selection import SELECTORS, kmedoids
from diptych.selection.faiss_means import check_installed
from diptych.selection.lloyd import at_least_float32
from diptych.selection.rows import Features, RowsOf

PICTURED = 1_000  # chosen images at most, on the contact sheet and the map
DRAWN = 10_000  # other images as dots on the map: more would be one blot


def select(settings: SelectSettings, display: Display | None = None) -> Path:
    """Choose which images to pair (Shukla et al., section 3.2); return the path of pairs.csv.

    Writes pairs.csv (columns a,b), chosen.png (contact sheet) and map.png (all images in two dimensions) into
    `settings.out`. With `settings.unpaired` the images to pair are chosen among so many for the unpaired passes, which
    are chosen first and written to unpaired.csv. Either choice starts from the seed anew, so that pairs.csv is the one
    of two calls, the second within the selection of the first.

    Of images whose features come in a file only those that are pictured are opened. Several processes share the
    features out; the first chooses.
    """
    with joined("selecting"):
        agree("their settings", settings.model_dump(mode="json"))
        by_first(lambda: _check_out(settings.out, settings.photos))
        return _select(settings, display or Silent())


def _check_out(out: Path, photos: Path) -> None:
    written = ("pairs.csv", "unpaired.csv", "chosen.png", "map.png")
    there = [str(out / name) for name in written if (out / name).exists()]
    if there:
        raise DiptychError(f"{there[0]} exists, and pairs.csv may hold your partners; choose another --out")
    check_out(out)
    check_apart(out, photos)


def _select(settings: SelectSettings, display: Display) -> Path:
    out, folder = settings.out, settings.photos
    if settings.kmeans == "faiss":
        check_installed()
    images = list_images(folder)
    file = Path(settings.features) if is_stored(settings.features) else None
    if file is not None:
        stored = open_features(file)
        rowless = len(images)
        images = names_of_rows(file, len(stored), images, folder)
        rowless -= len(images)
        if rowless:
            display.note(f"{rowless} images of {folder} have no row in {file} and are left out")
    there_are = images  # in the order of their rows
    if settings.skip_unreadable:
        domain, skipped = open_domain(folder, None, skip_unreadable=True, names=images)
        there_are = list(domain.names)
        for problem in skipped:
            display.note(f"skipped {problem}")
    names = there_are
    within_rows: list[tuple[str, str]] = []
    if settings.within is not None:
        within_rows = read_rows(settings.within)
        listed = [left for left, _ in within_rows if left]
        _check_present(listed, images, settings.within, folder)
        names = _in_order(listed, there_are)
    given_rows = read_rows(settings.given) if settings.given is not None else []
    given = [left for left, _ in given_rows if left]
    if settings.given is not None:
        _check_present(given, images, settings.given, folder)
        if damaged := sorted(set(given) - set(there_are)):
            raise DiptychError(f"{settings.given}: {some(damaged)} cannot be read; mend the file or take the line out")
        names = _in_order([*names, *given], there_are)
    if settings.budget < 1:
        raise DiptychError(f"--budget {settings.budget}: choose at least 1 image")
    if settings.unpaired is not None and settings.unpaired > len(names):
        raise DiptychError(
            f"--unpaired {settings.unpaired}: there are only {len(names)} images to choose from; give at most that many"
        )
    if settings.unpaired is not None and settings.budget > settings.unpaired:
        raise DiptychError(
            f"--budget {settings.budget}: is chosen among the {settings.unpaired} of --unpaired; give at most that many"
        )
    if settings.budget > len(names):
        raise DiptychError(
            f"--budget {settings.budget}: there are only {len(names)} images to choose from; give at most that many"
        )
    if settings.budget < len(set(given)):
        raise DiptychError(f"--budget {settings.budget}: {settings.given} holds {len(set(given))} already; they count")
    partners: dict[str, str] = {}
    if settings.partners is not None:
        partners = same_stem(names, list_images(settings.partners), settings.partners)

    agree("the images that they see", names)
    features: Features  # (N, D)
    if file is not None:
        check_numbers(file, stored, lambda done, total: display.count("features read", done, total))
        features = stored if len(names) == len(stored) else RowsOf(stored, _places(names, images))
    else:
        from diptych.build import device_named
        from diptych.features import extract

        features = extract(
            settings.features,
            [folder / name for name in names],
            device=str(device_named(settings.device)),
            progress=lambda done, total: display.count(f"{settings.features} features", done, total),
        )
    if not is_first():
        return out / "pairs.csv"
    selector = SELECTORS[settings.selector]
    if settings.selector == "kmedoids":
        selector = partial(kmedoids.select, kmeans=settings.kmeans)
    stay = set(given)

    def choose(count: int, among: NDArray[np.int64]) -> NDArray[np.int64]:
        """`count` of the rows `among`, both sorted; those of the given images stay."""
        fixed = [place for place, row in enumerate(among) if names[row] in stay]
        rng = np.random.default_rng(settings.seed)
        seen = features if len(among) == len(features) else RowsOf(features, among)
        return among[selector(seen, count, rng, fixed)]

    everything = np.arange(len(names), dtype=np.int64)
    unpaired = everything if settings.unpaired is None else choose(settings.unpaired, everything)
    rows = choose(settings.budget, unpaired)
    chosen = [names[row] for row in rows]

    partners |= {left: right for left, right in [*within_rows, *given_rows] if right}
    _draw(settings, features, names, rows, display)
    if settings.unpaired is not None:
        first = [names[row] for row in unpaired]
        # A training takes a column that names only some labels for the whole of what it may use.
        known = partners if all(name in partners for name in first) else {}
        write_pairs(out / "unpaired.csv", [(name, known.get(name, "")) for name in first])
    write_pairs(out / "pairs.csv", [(name, partners.get(name, "")) for name in chosen])
    return out / "pairs.csv"


def _draw(
    settings: SelectSettings, features: Features, names: Sequence[str], rows: NDArray[np.int64], display: Display
) -> None:
    """The contact sheet of the chosen rows, and the map of all images."""
    from diptych.pictures import contact_sheet, reduced, selection_map

    pictured = rows[_spread(len(rows), PICTURED)]
    captions = [names[row] for row in pictured]
    thumbnails = [reduced(read_view(settings.photos / name)) for name in captions]
    write_png(settings.out / "chosen.png", contact_sheet(thumbnails, captions))
    dots = np.union1d(_spread(len(names), DRAWN), pictured)
    marks = np.searchsorted(dots, pictured).tolist()
    seen, of = at_least_float32(features[dots]), (len(names), len(rows))
    write_png(settings.out / "map.png", selection_map(seen, marks, captions, thumbnails, of))
    if len(pictured) < len(rows):
        display.note(f"chosen.png and map.png show {len(pictured)} of the {len(rows)} chosen images")


def _in_order(chosen: Iterable[str], images: Sequence[str]) -> list[str]:
    wanted = set(chosen)
    return [name for name in images if name in wanted]


def _places(names: Iterable[str], images: Sequence[str]) -> NDArray[np.int64]:
    """Where the names stand among the images, sorted."""
    wanted = set(names)
    return np.array([place for place, name in enumerate(images) if name in wanted], np.int64)


def _spread(count: int, most: int) -> NDArray[np.int64]:
    """At most so many of `count` rows, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _check_present(listed: list[str], names: list[str], file: Path, folder: Path) -> None:
    present = set(names)
    absent = [name for name in listed if name not in present]
    if absent:
        raise DiptychError(f"{file}: {some(absent)} is not in {folder}; mend the names in column a")
