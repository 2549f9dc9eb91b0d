"""What a study remembers of its runs: begun ones stay as they were, whatever came and went in between."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from diptych.config import StudySettings
from diptych.errors import DiptychError
from diptych.studies.folder import open_study
from diptych.studies.study import plan_of

Study = dict[str, Any]


def study() -> Study:
    return {
        "metrics": ["psnr"],
        "data": dict.fromkeys(("a", "b", "val_a", "val_b"), "images"),
        "select": {"features": "descriptor"},
        "train": {"method": "supervised", "steps": 4, "size": "32x32"},
        "evaluate": {"checkpoint": "last"},
        "axes": {"pairs": {"three": {"select": {"budget": 3}}, "five": {"select": {"budget": 5}}}},
        "seeds": [0, 1],
    }


def begin(values: Study, out: Path) -> None:
    file = out.parent / "study.yaml"
    file.write_text(yaml.safe_dump(values))
    out.mkdir(exist_ok=True)
    open_study(plan_of(StudySettings(study=str(file), out=out)), out)


def train(out: Path, run: str, step: int = 4) -> None:
    folder = out / "runs" / run
    folder.mkdir(parents=True)
    checkpoint = {"name": f"{step:08}", "step": step, "metric": None, "value": None}
    (folder / "checkpoints.json").write_text(json.dumps({"last": checkpoint, "best": checkpoint}))


def score(out: Path, run: str) -> Path:
    file = out / "scores" / run / "metrics.json"
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    return file


@pytest.mark.parametrize(
    ("traces", "named"),
    [
        ([train], ["runs"]),
        ([score], ["scores"]),
        ([train, score], ["runs", "scores"]),
    ],
)
def test_what_was_left_by_other_settings_is_refused_and_all_of_it_named(
    tmp_path: Path, traces: list[Callable[[Path, str], object]], named: list[str]
) -> None:
    out = tmp_path / "out"
    begin(study(), out)
    for leave in traces:
        leave(out, "five--seed1")
    changed = study()
    changed["train"]["steps"] = 6
    paths = " and ".join(str(out / room / "five--seed1") for room in named)
    with pytest.raises(DiptychError) as problem:
        begin(changed, out)
    assert str(problem.value) == (
        f"five--seed1 has begun with train.steps 4, not 6; change it back, delete {paths}, or choose another --out"
    )
    begin(study(), out)  # nothing was remembered of the change


def test_a_row_that_was_away_comes_back_as_it_began_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "out"
    begin(study(), out)
    train(out, "five--seed0")
    without = study()
    without["axes"]["pairs"].pop("five")
    begin(without, out)
    changed = study()
    changed["axes"]["pairs"]["five"]["train"] = {"steps": 6}
    with pytest.raises(DiptychError, match=r"five--seed0 has begun with train\.steps 4, not 6"):
        begin(changed, out)
    begin(study(), out)


def test_a_seed_that_was_away_comes_back_as_it_began_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "out"
    begin(study(), out)
    score(out, "three--seed0")
    begin(study() | {"seeds": [1]}, out)
    changed = study() | {"seeds": [0]}
    changed["select"]["selector"] = "random"
    with pytest.raises(DiptychError, match=r"three--seed0 has begun with select\.selector unset, not random"):
        begin(changed, out)


def test_pairs_where_there_were_none_are_a_change(tmp_path: Path) -> None:
    out = tmp_path / "out"
    before = study()
    before["select"] |= {"unpaired": 9, "budget": 0}
    before["train"] |= {"method": "shukla", "pairs": "none", "generator": "resnet"}
    before["axes"] = {"kind": {"only": {}}}
    begin(before, out)
    train(out, "only--seed0")
    before["select"]["budget"] = 1
    with pytest.raises(DiptychError, match=r"only--seed0 has begun with train\.pairs none, not "):
        begin(before, out)


def test_a_row_that_left_nothing_may_come_back_otherwise(tmp_path: Path) -> None:
    out = tmp_path / "out"
    begin(study(), out)
    without = study()
    without["axes"]["pairs"].pop("five")
    begin(without, out)
    changed = study()
    changed["axes"]["pairs"]["five"]["train"] = {"steps": 6}
    begin(changed, out)
    train(out, "five--seed0")
    begin(changed, out)


def test_scores_of_other_settings_go_where_their_runs_can_be_scored_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    begin(study(), out)
    train(out, "three--seed0")
    first = score(out, "three--seed0")
    changed = study()
    changed["evaluate"]["resamples"] = 7
    begin(changed, out)
    assert not first.exists()


@pytest.mark.parametrize("step", [0, 3])
def test_no_score_is_taken_away_that_could_not_be_made_again(tmp_path: Path, step: int) -> None:
    out = tmp_path / "out"
    begin(study(), out)
    train(out, "three--seed0")
    first, last = score(out, "three--seed0"), score(out, "five--seed1")
    if step:
        train(out, "five--seed1", step)  # begun anew after it was cleared away
    changed = study()
    changed["evaluate"]["resamples"] = 7
    with pytest.raises(DiptychError) as problem:
        begin(changed, out)
    assert str(problem.value) == (
        "five--seed1 was scored with evaluate.resamples unset, not 7, and is no longer there to be scored again; "
        f"change it back, delete {last.parent} to train it anew, or choose another --out"
    )
    assert first.exists()
    assert last.exists()
