"""pairs.csv: the file a person completes. Column `a` holds chosen images, column `b` their partners, by name."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from diptych.errors import DiptychError, nearest, some
from diptych.files import write_text


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
    return PurePosixPath(name).with_suffix("").as_posix()


def write_pairs(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    """Write the columns a,b; an empty b waits for its partner."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("a", "b"))
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_two_columns(path: Path, left: str, right: str) -> tuple[list[str], list[tuple[str, str]]]:
    """The names of all columns of a CSV, and its rows (`left`, `right`), empty where a cell or a column is missing.

    Raises `DiptychError` for a file that cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            head = file.readline()
            file.seek(0)
            # Spreadsheets write semicolons where the comma is the decimal point.
            reader = csv.DictReader(file, restval="", delimiter=";" if ";" in head and "," not in head else ",")
            columns = list(reader.fieldnames or [])
            return columns, [((row.get(left) or "").strip(), (row.get(right) or "").strip()) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise DiptychError(f"{path}: cannot be read ({problem}); give a CSV with the columns {left},{right}") from None


def read_rows(path: Path) -> list[tuple[str, str]]:
    """The rows (a, b) of a pairs file, repeated rows once; a partner may be empty or the column b absent.

    Raises `DiptychError` for a missing file, a missing column a, or a name that leads out of its folder.
    """
    columns, rows = read_two_columns(path, "a", "b")
    if "a" not in columns:
        raise DiptychError(f"{path}: has no column a; its first line must be a,b")
    rows = [row for row in dict.fromkeys(rows) if any(row)]
    for name in (name for row in rows for name in row if name):
        parts = PurePosixPath(name).parts
        if PurePosixPath(name).is_absolute() or ".." in parts or "\0" in name:
            raise DiptychError(f"{path}: {name!r} leads out of its folder; give names relative to it")
    return rows


def read_pairs(path: Path, a: tuple[Path, Sequence[str]], b: tuple[Path, Sequence[str]]) -> list[tuple[str, str]]:
    """The completed pairs of `path`, checked against the images (folder, names) of both domains.

    Raises `DiptychError` for an absent file, an empty partner, or an image listed with two different partners.
    """
    rows = read_rows(path)
    if not rows:
        raise DiptychError(f"{path}: lists no pair; complete it, or train with --pairs none")
    empty = [left or right for left, right in rows if not (left and right)]
    if empty:
        raise DiptychError(f"{path}: no partner for {some(empty)}; fill column b or take the line out")
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
