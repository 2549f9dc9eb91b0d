"""What was seen -> what is worth a word, each in one line: what, where, and how to mend it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from diptych.checking.neighbours import NEAR, Nearest, Sides, grey
from diptych.checking.outlines import SIDE, Alignment
from diptych.checking.pairing import Pairing
from diptych.checking.survey import Survey
from diptych.errors import some
from diptych.images import UnreadableImageError

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

TINY = 64  # pixels: no published configuration trains at less
SMALL = 0.5  # of the median side of the folder
SAME_SHAPE = 0.02  # of width over height: a pixel or two of rounding
RARE = 0.001  # of a folder's pixels
MUCH_VOID = 0.3  # of a folder's pixels
MOSTLY = 0.5  # from this share on a property is the rule, and what lacks it the exception


@dataclass(frozen=True)
class Finding:
    """`error`: a training stops there. `warning`: it learns something wrong, or a score means something else. `note`:
    good to know."""

    severity: Severity
    kind: str
    text: str
    files: tuple[str, ...] = ()
    """The files in question."""
    pairwise: bool = False
    """Whether every two of them belong together, one after the other."""

    def record(self) -> dict[str, Any]:
        """As check.json holds it."""
        return {"severity": self.severity, "kind": self.kind, "text": self.text, "files": list(self.files)}


def of_files(found: Survey) -> list[Finding]:
    """What is wrong with single files of a folder, and with their names."""
    folder = found.place.folder
    unreadable = [(name, problem) for name, problem in found.problems if isinstance(problem, UnreadableImageError)]
    unfit = [(name, problem) for name, problem in found.problems if not isinstance(problem, UnreadableImageError)]
    findings = [
        Finding("error", kind, f"{_many(len(these), what)}: {these[0][1]}", _files(folder, [name for name, _ in these]))
        for kind, what, these in (("unreadable", "unreadable file", unreadable), ("unfit", "unfit image", unfit))
        if these
    ]
    for names in _same_but_case(found.names):
        text = f"{folder}: {some(names)} differ in case alone; some systems take them for one file, rename all but one"
        findings.append(Finding("warning", "case", text, _files(folder, names)))
    return findings


def of_sizes(found: Survey) -> list[Finding]:
    """Images that are small, or stand out by their size, mode or depth."""
    folder, findings = found.place.folder, []
    sides = [min(header.size) for header in found.headers]
    middle = float(np.median(sides))
    tiny = [row for row, side in enumerate(sides) if side < max(TINY, SMALL * middle)]
    if tiny and len(tiny) < MOSTLY * len(sides):
        sample = some(f"{found.names[row]} ({_size(found, row)})" for row in tiny)
        text = (
            f"{folder}: {_many(len(tiny), 'image')} much smaller than the others: {sample}; enlarged, they teach blur"
        )
        findings.append(Finding("warning", "small", text, _files(folder, [found.names[row] for row in tiny])))
    elif tiny:
        text = f"{folder}: most images are less than {TINY} pixels a side; give a --size to match"
        findings.append(Finding("note", "small", text))
    shapes = [header.size[0] / header.size[1] for header in found.headers]
    shape, most = Counter(shapes).most_common(1)[0]
    others = sum(abs(other / shape - 1) > SAME_SHAPE for other in shapes)
    if others:
        text = (
            f"{folder}: {others:,} of {len(shapes):,} images have another shape than {shape:.3g}:1, as {most:,} have; "
            "--fit crop or letterbox keeps shapes, stretch does not"
        )
        findings.append(Finding("note", "shape", text))
    depths = Counter(header.bits for header in found.headers)
    if len(depths) > 1:
        text = f"{folder}: {depths[16]:,} images have 16 bits, {depths[8]:,} have 8; all are read as 16"
        findings.append(Finding("warning", "bits", text))
    if found.place.classes is None:
        palettes = [row for row, mode in enumerate(found.modes) if mode == "P"]
        if palettes:
            text = (
                f"{folder}: {_many(len(palettes), 'palette image')}, such as {found.names[palettes[0]]}; if they are "
                f"class maps, give --{found.place.side}-classes"
            )
            findings.append(Finding("warning", "palette", text, _files(folder, [found.names[row] for row in palettes])))
        findings += _of_colour(found)
    return findings


def _of_colour(found: Survey) -> list[Finding]:
    folder = found.place.folder
    without = np.flatnonzero(grey(found))
    if not 0 < len(without) < MOSTLY * len(found.names):
        return []
    names = [found.names[row] for row in without]
    text = (
        f"{folder}: {_many(len(names), 'grey picture')} among colour: {some(names)}; take them out unless they belong"
    )
    return [Finding("warning", "grey", text, _files(folder, names))]


def of_contents(surveys: Sequence[Survey]) -> list[Finding]:
    """Files with the same bytes: within a folder, across splits of a side, and on both sides."""
    findings = []
    for found in surveys:
        rows = _same(found.contents)
        if rows:
            names = [found.names[row] for group in rows for row in group]
            more = len(names) - len(rows)
            first = some(found.names[row] for row in rows[0])
            text = (
                f"{found.place.folder}: {_many(more, 'exact duplicate')}: {first} hold the same bytes; keep one of each"
            )
            # Two scenes may well have the same class map: an empty one.
            severity: Severity = "warning" if found.place.classes is None else "note"
            findings.append(Finding(severity, "duplicate", text, _files(found.place.folder, names)))
    for place, found in enumerate(surveys):
        rows_of = {content: row for row, content in enumerate(found.contents)}
        for other in surveys[place + 1 :]:
            shared = [(rows_of[content], row) for row, content in enumerate(other.contents) if content in rows_of]
            splits = found.place.split, other.place.split
            scored = found.place.side == other.place.side and "unpaired" not in splits
            if not shared or (found.place.folder.resolve() == other.place.folder.resolve() and not scored):
                continue
            files = [str(file) for i, j in shared for file in (found.file(i), other.file(j))]
            such = f"such as {files[0]} and {files[1]}"
            if found.place.side != other.place.side:
                text = f"{_many(len(shared), 'image')} on both sides, {such}; take one of each out"
                findings.append(Finding("warning", "both sides", text, tuple(files), True))
            elif scored:
                text = (
                    f"{_many(len(shared), 'image')} of {splits[0]} also in {splits[1]}, {such}: scores "
                    "on them say nothing about new images; take them out of one"
                )
                severity = "warning" if found.place.classes is None else "note"
                findings.append(Finding(severity, "leak", text, tuple(files), True))
    return findings


def of_neighbours(train: Survey, scored: Survey, nearest: Nearest) -> list[Finding]:
    """Pictures that are scored on, and nearly the same as one that is trained on."""
    known = set(train.contents)  # the same bytes have been told already
    rows = [row for row in np.flatnonzero(nearest.distances < NEAR).tolist() if scored.contents[row] not in known]
    near = sorted(rows, key=lambda row: float(nearest.distances[row]))
    if not near:
        return []
    files = [str(file) for row in near for file in (scored.file(row), train.file(int(nearest.rows[row])))]
    text = (
        f"{_many(len(near), 'image')} of {scored.place.split} nearly the same as one of {train.place.split}, such as "
        f"{files[0]} and {files[1]}: scores on them say little about new images; take them out of one"
    )
    return [Finding("warning", "near-duplicate", text, tuple(files), True)]


def of_alike(found: Survey, nearest: Nearest) -> list[Finding]:
    """Pictures of a folder that are nearly the same as another of it; as a note, since frames of a video are."""
    near = {
        (min(row, other), max(row, other)): float(nearest.distances[row])
        for row, other in enumerate(nearest.rows.tolist())
        if nearest.distances[row] < NEAR and found.contents[row] != found.contents[other]
    }
    if not near:
        return []
    pairs = sorted(near, key=lambda pair: near[pair])
    files = [str(found.file(row)) for pair in pairs for row in pair]
    alike = len({row for pair in pairs for row in pair})
    text = (
        f"{found.place.folder}: {alike:,} images nearly the same as another, such as {files[0]} and {files[1]}; frames "
        "of a video are, of copies keep one"
    )
    return [Finding("note", "alike", text, tuple(files), True)]


def of_classes(found: Survey, trained: Survey | None) -> list[Finding]:
    """Classes that are rare or missing; `trained` is the survey of the training maps, where `found` are others."""
    classes = found.place.classes
    if classes is None:
        return []
    total = found.class_pixels.sum()
    folder, findings = found.place.folder, []
    shares = found.class_pixels / total
    if classes.void is not None and shares[classes.void] > MUCH_VOID:
        text = (
            f"{folder}: {shares[classes.void]:.0%} of the pixels are {classes.names[classes.void]}, which no score sees"
        )
        findings.append(Finding("warning", "void", text))
    absent = [classes.names[row] for row in classes.kept if not found.class_images[row]]
    if absent and trained is None:
        text = f"{folder}: {_many(len(absent), 'class')} never there: {some(absent, 5)}; no method can learn them"
        findings.append(Finding("note", "absent class", text))
    elif trained is not None:
        lost = [name for name in absent if trained.class_images[classes.names.index(name)]]
        if lost:
            text = f"{folder}: {_many(len(lost), 'class')} of the training maps never there: {some(lost, 5)}; unscored"
            findings.append(Finding("note", "absent class", text))
        new = [classes.names[row] for row in classes.kept if found.class_images[row] and not trained.class_images[row]]
        if new:
            text = f"{folder}: shows {some(new, 5)}, which {trained.place.folder} never does; no method can learn that"
            findings.append(Finding("warning", "new class", text))
    if trained is None:
        rare = [f"{classes.names[row]} ({shares[row]:.2%})" for row in classes.kept if 0 < shares[row] < RARE]
        if rare:
            text = f"{folder}: {_many(len(rare), 'class')} with less than {RARE:.1%} of the pixels: {some(rare, 5)}"
            findings.append(Finding("note", "rare class", text))
    return findings


def of_pairs(pairing: Pairing, alignment: Alignment | None, sides: Sides | None) -> list[Finding]:
    """Partners that are missing, or that do not look like partners."""
    where = f"{pairing.a.place.folder} and {pairing.b.place.folder}"
    if pairing.problem is not None:
        return [Finding("error", "pairs", f"{pairing.problem}")]
    if not len(pairing.rows):
        return [Finding("note", "pairs", f"{where}: no image of one has the stem of one in the other: unpaired data")]
    findings = []
    for survey, alone in ((pairing.a, pairing.alone_a), (pairing.b, pairing.alone_b)):
        if alone:
            share = len(alone) / (len(alone) + len(pairing.rows))
            text = f"{survey.place.folder}: {_many(len(alone), 'image')} without a partner: {some(alone)}"
            severity: Severity = "warning" if share < MOSTLY else "note"
            findings.append(Finding(severity, "alone", text, _files(survey.place.folder, alone)))
    unequal = [
        pair for pair, (i, j) in enumerate(pairing.rows) if pairing.a.headers[i].size != pairing.b.headers[j].size
    ]
    if unequal:
        i, j = pairing.rows[unequal[0]]
        left, right = pairing.files(unequal[0])
        text = (
            f"{_many(len(unequal), 'pair')} of different sizes, such as {left} ({_size(pairing.a, i)}) and {right} "
            f"({_size(pairing.b, j)}); a pair shows the same scene pixel by pixel"
        )
        findings.append(Finding("error", "size", text, _pair_files(pairing, unequal), True))
    if alignment is not None:
        findings += _of_alignment(pairing, alignment, where)
    if sides is not None:
        like_b = sides.like_b(pairing.a), sides.like_b(pairing.b)
        wrong = np.flatnonzero(like_b[0][pairing.rows[:, 0]] & ~like_b[1][pairing.rows[:, 1]]).tolist()
        if wrong:
            left, right = pairing.files(wrong[0])
            text = (
                f"a looks like b, and b like a, in {_many(len(wrong), 'pair')}, such as {left} and {right}; swap them"
            )
            findings.append(Finding("warning", "swapped", text, _pair_files(pairing, wrong), True))
    return findings


def _of_alignment(pairing: Pairing, alignment: Alignment, where: str) -> list[Finding]:
    if not alignment.telling:
        text = (
            f"{where}: images of the same stem fit no better than any two (the median pair by "
            f"{np.median(alignment.lying):.1f} sigma); if they are no pairs, train with --pairs none"
        )
        return [Finding("warning", "no pairs", text)]
    if alignment.whole == "mirrored":
        text = f"{where}: all pairs together fit better with b mirrored; mirror one side back"
        return [Finding("warning", "mirrored", text)]
    if alignment.whole == "shifted":
        text = f"{where}: all pairs together fit better with b moved {_moved(alignment.whole_shift)}; align them"
        return [Finding("warning", "shifted", text)]
    findings = []
    for kind, what in (
        ("mirrored", "b mirrored would fit better"),
        ("shifted", "b moved would fit better"),
        ("strange", "the outlines fit no better than strangers' do"),
    ):
        pairs = [pair for pair, found in enumerate(alignment.kinds) if found == kind]
        pairs.sort(key=lambda pair: float(alignment.lying[pair]))
        if pairs:
            left, right = pairing.files(pairs[0])
            how = f" ({_moved(alignment.shift[pairs[0]])})" if kind == "shifted" else ""
            text = f"{what} in {_many(len(pairs), 'pair')}, such as {left} and {right}{how}; mend them or take them out"
            findings.append(Finding("warning", kind, text, _pair_files(pairing, pairs), True))
    return findings


def _moved(shift: Sequence[int]) -> str:
    """How b has to move to fit, in words; `shift` is how far it lies off, in cells, down and across."""
    down, across = (round(100 * int(cells) / SIDE) for cells in shift)
    words = [f"{abs(across)} % to the {'left' if across > 0 else 'right'}"] if across else []
    words += [f"{abs(down)} % {'up' if down > 0 else 'down'}"] if down else []
    return " and ".join(words)


def _same_but_case(names: Sequence[str]) -> list[list[str]]:
    lowered = Counter(name.lower() for name in names)
    groups = defaultdict(list)
    for name in names:
        if lowered[name.lower()] > 1:
            groups[name.lower()].append(name)
    return list(groups.values())


def _same(contents: Sequence[bytes]) -> list[list[int]]:
    """The rows of each content that stands there more than once."""
    counts = Counter(contents)
    groups = defaultdict(list)
    for row, content in enumerate(contents):
        if counts[content] > 1:
            groups[content].append(row)
    return list(groups.values())


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "es" if what.endswith("s") else "s")


def _size(survey: Survey, row: int) -> str:
    width, height = survey.headers[row].size
    return f"{width}x{height}"


def _files(folder: Path, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(str(folder / name) for name in names)


def _pair_files(pairing: Pairing, pairs: Iterable[int]) -> tuple[str, ...]:
    return tuple(str(file) for pair in pairs for file in pairing.files(pair))
