"""pairs.csv: the file a person completes. Column `a` holds chosen images, column `b` their partners, by name."""

import csv
import io
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from diptych.errors import DiptychError, nearest, some
from diptych.files import write_text
from diptych.reading import leads_out, read_table


def same_stem(names: Sequence[str], others: Sequence[str], folder: Path) -> dict[str, str]:
    """Name -> the one of `others` (files of `folder`) with the same stem, where there is one.

    Raises `DiptychError` where a stem that both sides have stands for two files of either.
    """
    name_of, other_of = _by_stem(names), _by_stem(others)
    both = name_of.keys() & other_of.keys()
    for side, where in ((other_of, f"{folder}: "), (name_of, "")):
        twice = next((files for stem, files in side.items() if stem in both and len(files) > 1), None)
        if twice:
            raise DiptychError(f"{where}{some(twice)} have the same stem; keep one of them")
    return {name_of[stem][0]: other_of[stem][0] for stem in name_of if stem in both}


def _by_stem(names: Sequence[str]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for name in names:
        grouped.setdefault(_stem(name), []).append(name)
    return grouped


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]  # noqa: PTH122  # it is quick


def write_pairs(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    """Write the columns a,b; an empty b waits for its partner."""
    text = io.StringIO()
    plain = csv.writer(text, lineterminator="\n")
    quoting = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    plain.writerow(("a", "b"))
    for row in rows:
        # Alone, a carriage return is quoted by newer versions of Python only.
        writer = quoting if any("\r" in name for name in row) else plain
        # Readers take off a blank at the front; behind "./" it is a part of the name.
        writer.writerow([name if name == name.strip() else f"./{name}" for name in row])
    write_text(path, text.getvalue())


def read_two_columns(path: Path, left: str, right: str) -> tuple[list[str], list[tuple[str, str]]]:
    """The names of all columns of a CSV, and its rows (`left`, `right`), empty where a cell or a column is missing.

    Raises `DiptychError` for a file that cannot be read.
    """
    columns, rows = read_table(path, f"the columns {left},{right}")
    return columns, [((row.get(left) or "").strip(), (row.get(right) or "").strip()) for row in rows]


def read_rows(path: Path) -> list[tuple[str, str]]:
    """The rows (a, b) of a pairs file, repeated rows once; a partner may be empty or the column b absent.

    Raises `DiptychError` for a missing file, a missing column a, or a name that leads out of its folder.
    """
    columns, rows = read_two_columns(path, "a", "b")
    if "a" not in columns:
        raise DiptychError(f"{path}: has no column a; its first line must be a,b")
    for name in (name for row in rows for name in row if name):
        if leads_out(name):
            raise DiptychError(f"{path}: {name!r} leads out of its folder; give names relative to it")
    rows = [(_tidy(left), _tidy(right)) for left, right in rows]
    return [row for row in dict.fromkeys(rows) if any(row)]


def _tidy(name: str) -> str:
    """`name` without needless steps such as "./"; an empty one stays empty."""
    return name and PurePosixPath(name).as_posix()


def read_pairs(path: Path, a: tuple[Path, Sequence[str]], b: tuple[Path, Sequence[str]]) -> list[tuple[str, str]]:
    """The completed pairs of `path`, checked against the images (folder, names) of both domains.

    Images are named from their folders, or, all of a side, from the folder of `path`. Raises `DiptychError` for an
    absent file, an empty partner, or an image listed with two different partners.
    """
    rows = read_rows(path)
    if not rows:
        raise DiptychError(f"{path}: lists no pair; complete it, or train with --pairs none")
    empty = [left or right for left, right in rows if not (left and right)]
    if empty:
        raise DiptychError(f"{path}: no partner for {some(empty)}; fill column b or take the line out")
    lefts, rights = (
        _from_folder([row[side] for row in rows], path.parent, *place) for side, place in enumerate((a, b))
    )
    rows = list(dict.fromkeys(zip(lefts, rights, strict=True)))
    for side, (folder, names) in enumerate((a, b)):
        present = set(names)
        absent = [row[side] for row in rows if row[side] not in present]
        if absent:
            hint = nearest(absent[0], names)
            raise DiptychError(f"{path}: {some(absent)} is not in {folder}{hint or '; mend the name or add the file'}")
        times = Counter(row[side] for row in rows)
        name, most = times.most_common(1)[0]
        if most > 1:
            partners = [row[1 - side] for row in rows if row[side] == name]
            raise DiptychError(f"{path}: {name} is listed with different partners ({some(partners)}); keep one")
    return rows


def _from_folder(listed: list[str], start: Path, folder: Path, names: Sequence[str]) -> list[str]:
    """Names as seen from the folder `start` -> as seen from `folder`; as they are where some are `names` of it."""
    start, folder = (Path(os.path.abspath(place)) for place in (start, folder))  # noqa: PTH100 - takes out ".."
    if not folder.is_relative_to(start) or not set(names).isdisjoint(listed):
        return listed
    below = folder.relative_to(start).as_posix()
    return [name.removeprefix(f"{below}/") for name in listed]
