"""What a study's table says besides its means, which `test_study.py` works out from real runs."""

from collections.abc import Sequence

from diptych.studies.plan import Row
from diptych.studies.table import Line, notes_of


def line(**notes: Sequence[str]) -> Line:
    return Line(Row({}, {}, (), {}), {run: {} for run in notes}, notes, {})


def test_what_holds_for_all_runs_stands_there_once_and_the_rest_says_for_which() -> None:
    told = notes_of([line(x0=["75 images.", "best"], x1=["75 images."]), line(y0=["75 images.", "few", "best"])])
    assert told == ["75 images.", "2 of 3 runs: best", "y0: few"]


def test_no_runs_no_notes() -> None:
    assert notes_of([line(), line()]) == []
