"""Which images are partners, and how well those of each pair fit."""

from pathlib import Path

import numpy as np
import pytest

from diptych.bands import Header
from diptych.checking.outlines import SIDE
from diptych.checking.pairing import align, pair_up
from diptych.checking.survey import Place, Rows, Survey
from diptych.errors import DiptychError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))


def surveyed(side: str, names: list[str], outlines: np.ndarray | None = None) -> Survey:
    """A survey of images of these names, and of these outlines `(N, 2, SIDE, SIDE)`."""
    header = Header((8, 8), 3, 8, False)
    found = Survey(Place("train", side, Path(side)), Rows(1), Rows(2 * SIDE**2, np.int8), names=names)
    found.headers = [header] * len(names)
    if outlines is not None:
        found.outlined.add(list(outlines.reshape(len(names), -1)))
    return found


def test_stems_pair_and_the_others_stand_alone() -> None:
    a, b = surveyed("a", ["1.jpg", "2.jpg", "4.jpg"]), surveyed("b", ["2.png", "3.png", "4.png"])
    a.problems.append(("3.jpg", DiptychError("3.jpg: broken")))
    pairing = pair_up(a, b, None)
    assert pairing.rows.tolist() == [[1, 0], [2, 2]]  # that of 3.jpg cannot be looked at, but is no stray
    assert (pairing.alone_a, pairing.alone_b) == (["1.jpg"], [])
    assert pairing.files(1) == (Path("a/4.jpg"), Path("b/4.png"))


def test_a_table_says_otherwise(tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text("a,b\n1.jpg,3.png\n")
    a, b = surveyed("a", ["1.jpg", "2.jpg"]), surveyed("b", ["1.png", "3.png"])
    pairing = pair_up(a, b, table)
    assert pairing.rows.tolist() == [[0, 1]]
    assert (pairing.alone_a, pairing.alone_b) == (["2.jpg"], ["1.png"])
    table.write_text("a,b\n1.jpg,9.png\n")
    assert "9.png is not in b" in str(pair_up(a, b, table).problem)


def test_every_pair_has_the_verdict_that_belongs_to_it() -> None:
    drawn = np.random.default_rng(0).integers(-100, 100, (30, 2, SIDE, SIDE)).astype(np.int8)
    others = drawn.copy()
    others[17] = drawn[3]
    names = [f"{row:02d}.png" for row in range(30)]
    found = align(pair_up(surveyed("a", names, drawn), surveyed("b", names, others), None))
    assert found is not None
    assert [row for row, kind in enumerate(found.kinds) if kind] == [17]
    assert found.lying.argmin() == 17
    assert (np.delete(found.lying, 17) > 10).all()


def test_a_single_pair_cannot_be_judged() -> None:
    drawn = np.ones((1, 2, SIDE, SIDE), np.int8)
    assert align(pair_up(surveyed("a", ["x.png"], drawn), surveyed("b", ["x.png"], drawn), None)) is None
