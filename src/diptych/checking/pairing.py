"""Which images of a split are partners, and whether they look it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diptych.checking.outlines import Alignment, Outlines, judge, unpacked
from diptych.checking.survey import Survey
from diptych.errors import DiptychError
from diptych.pairs import read_pairs, same_stem

AT_ONCE = 512  # pairs whose outlines are in memory together: some 50 MB of work


@dataclass(frozen=True, eq=False)
class Pairing:
    """The pairs of a split, by their rows in the surveys of both sides."""

    a: Survey
    b: Survey
    rows: NDArray[np.int64]  # (N, 2), of the pairs whose images can both be read
    alone_a: list[str]  # images without a partner
    alone_b: list[str]
    problem: DiptychError | None = None  # why there are no pairs, where that is nobody's intention

    def files(self, pair: int) -> tuple[Path, Path]:
        """Both files of the pair in a row of `rows`."""
        i, j = self.rows[pair]
        return self.a.file(i), self.b.file(j)


def pair_up(a: Survey, b: Survey, table: Path | None) -> Pairing:
    """The images of the same stem, or those that a CSV says."""
    rows_a, rows_b = ({name: row for row, name in enumerate(side.names)} for side in (a, b))
    names_a, names_b = (sorted([*side.names, *(name for name, _ in side.problems)]) for side in (a, b))
    try:
        if table is not None:
            partners = dict(read_pairs(table, (a.place.folder, names_a), (b.place.folder, names_b)))
        else:
            partners = same_stem(names_a, names_b, b.place.folder)
    except DiptychError as problem:
        return Pairing(a, b, np.zeros((0, 2), np.int64), [], [], problem)
    rows = [(rows_a[left], rows_b[right]) for left, right in partners.items() if left in rows_a and right in rows_b]
    used = set(partners.values())
    return Pairing(
        a,
        b,
        np.array(rows, np.int64).reshape(-1, 2),
        [name for name in names_a if name not in partners],
        [name for name in names_b if name not in used],
    )


def align(pairing: Pairing, seed: int = 0) -> Alignment | None:
    """Whether the partners show the same scenes; None where fewer than two pairs leave nothing to compare with.

    The pairs are taken in random order: those that stand together in a folder are often alike.
    """
    if len(pairing.rows) < 2:
        return None
    order = np.random.default_rng(seed).permutation(len(pairing.rows))
    found = judge(_outlines(pairing, order))
    back = np.argsort(order)
    return replace(
        found, lying=found.lying[back], kinds=[found.kinds[place] for place in back], shift=found.shift[back]
    )


def _outlines(pairing: Pairing, order: NDArray[np.int64]) -> Iterator[tuple[Outlines, Outlines]]:
    a, b = pairing.a.outlined.all, pairing.b.outlined.all
    for start in range(0, len(order), AT_ONCE):
        rows = pairing.rows[order[start : start + AT_ONCE]]  # (n, 2)
        yield unpacked(a[rows[:, 0]]), unpacked(b[rows[:, 1]])
