"""A dataset, looked over: surveys of its folders, its pairs, nearest neighbours across splits, and the findings."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diptych.checking import findings
from diptych.checking.findings import SEVERITIES, Finding
from diptych.checking.neighbours import Nearest, nearest, sides_of
from diptych.checking.outlines import Alignment
from diptych.checking.pairing import Pairing, align, pair_up
from diptych.checking.survey import Place, Survey, survey

Progress = Callable[[str, int, int], None]  # (what, done, total)
QUANTILES = {"least": 0.0, "median": 0.5, "most": 1.0}


@dataclass(frozen=True, eq=False)
class Checked:
    """All that was seen, by the names of places (`a`, `val_b`) or of splits; what cannot be asked is not there."""

    surveys: dict[str, Survey]
    pairings: dict[str, Pairing]
    alignments: dict[str, Alignment]
    nearest: dict[str, Nearest]  # of the pictures of a place in the training pictures of its side
    findings: list[Finding]  # the gravest first

    def count(self, severity: str) -> int:
        """How many findings are so grave."""
        return sum(finding.severity == severity for finding in self.findings)

    def record(self) -> dict[str, Any]:
        """As check.json holds it."""
        return {
            "folders": {name: _record_of(found) for name, found in self.surveys.items()},
            "pairs": {
                split: {
                    "pairs": len(pairing.rows),
                    "without_partner": {"a": len(pairing.alone_a), "b": len(pairing.alone_b)},
                    "fit_sigma": _quantiles(self.alignments[split].lying) if split in self.alignments else None,
                }
                for split, pairing in self.pairings.items()
            },
            "nearest_training_image": {name: _quantiles(found.distances) for name, found in self.nearest.items()},
            "findings": [finding.record() for finding in self.findings],
        }


def check(places: Sequence[Place], table: Path | None, progress: Progress, note: Callable[[str], None]) -> Checked:
    """Look over the folders of a dataset; `table` is a CSV of the training pairs.

    Raises `DiptychError` where a folder is missing or empty.
    """
    surveys = {}
    for place in places:

        def looked(done: int, total: int, name: str = place.name) -> None:
            progress(f"looking at {name}", done, total)

        surveys[place.name] = survey(place, looked, note)
    readable = {name: found for name, found in surveys.items() if found.names}
    pictures = {name: found for name, found in readable.items() if found.place.classes is None}
    sides = sides_of(pictures["a"], pictures["b"]) if {"a", "b"} <= pictures.keys() else None

    found = [finding for one in surveys.values() for finding in findings.of_files(one)]
    found += [finding for one in readable.values() for finding in findings.of_sizes(one)]
    pairings, alignments = {}, {}
    for split, (a, b) in {"train": ("a", "b"), "val": ("val_a", "val_b"), "test": ("test_a", "test_b")}.items():
        if a in readable and b in readable:
            pairings[split] = pair_up(readable[a], readable[b], table if split == "train" else None)
            alignment = align(pairings[split])
            if alignment is not None:
                alignments[split] = alignment
            found += findings.of_pairs(pairings[split], alignment, sides)
    found += findings.of_contents(list(readable.values()))
    neighbours = {}
    for name, scored in pictures.items():
        side = scored.place.side
        if scored.place.split == "train":
            found += findings.of_alike(scored, nearest(scored, scored))
        if scored.place.split in ("val", "test") and side in pictures:
            neighbours[name] = nearest(scored, pictures[side])
            found += findings.of_neighbours(pictures[side], scored, neighbours[name])
    for one in readable.values():
        found += findings.of_classes(one, readable.get(one.place.side) if one.place.split != "train" else None)
    found.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Checked(surveys, pairings, alignments, neighbours, found)


def _record_of(found: Survey) -> dict[str, Any]:
    sizes = Counter(header.size for header in found.headers).most_common()
    record: dict[str, Any] = {
        "folder": str(found.place.folder),
        "images": len(found.names),
        "problems": len(found.problems),
        "sizes": {f"{width}x{height}": count for (width, height), count in sizes},
        "kinds": dict(kinds_of(found)),
    }
    classes = found.place.classes
    if classes is not None:
        record["classes"] = {
            name: {"pixels": round(float(found.class_pixels[row])), "images": int(found.class_images[row])}
            for row, name in enumerate(classes.names)
        }
    return record


def kinds_of(found: Survey) -> list[tuple[str, int]]:
    """What the images are made of, in words, and how many are, most first."""
    words = {"1": "black and white", "L": "grey", "LA": "grey with alpha", "P": "palette", "PA": "palette with alpha"}
    kinds = Counter(
        f"{words.get(mode, mode) or f'{header.channels} bands'}{' of 16 bits' if header.bits == 16 else ''}"
        for header, mode in zip(found.headers, found.modes, strict=True)
    )
    return kinds.most_common()


def _quantiles(values: Any) -> dict[str, float]:
    return {name: round(float(np.quantile(values, share)), 3) for name, share in QUANTILES.items()}
