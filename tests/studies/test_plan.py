"""What a study's YAML says, expanded into runs, and everything that can be wrong with it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import diptych, said_one_line
from diptych.build import resolve
from diptych.config import StudySettings
from diptych.errors import DiptychError
from diptych.recipes import settings_from
from diptych.studies import read_study, shipped_studies
from diptych.studies.plan import Plan, make_plan
from diptych.studies.study import plan_of

STUDY = """
title: Which images to pair
metrics: [pixel_accuracy, mean_iou]
data: {a: photos, b: labels, b_classes: classes.csv, val_a: val/photos, val_b: val/labels}
select: {features: descriptor}
train: {size: 64x48, steps: 30, optim: {lr: 0.001}}
evaluate: {checkpoint: last}
axes:
  method:
    pairs only: {train: {method: pix2pix, depth: 4, judge: {patch: 34}}}
    hybrid: {train: {recipe: shukla, weights: {cycle_b: 3}, optim: {beta1: 0.4}, judge: {patch: 34}}}
  selection:
    random: {select: {selector: random}}
    k-medoids: {select: {selector: kmedoids, unpaired: 10}}
  budget:
    1: {select: {budget: 1}}
    4: {select: {budget: 4}}
seeds: [0, 5]
skip: [{method: hybrid, selection: random}]
rows:
  - {labels: {method: CycleGAN}, train: {recipe: cyclegan, judge: {patch: 34}}, select: null}
published:
  - {labels: {method: hybrid, budget: 4}, mean_iou: .237}
  - {labels: {method: CycleGAN}, mean_iou: .156, pixel_accuracy: .569}
curve: {x: budget, y: mean_iou}
"""


def study(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(STUDY)
    return values | changes


def dumped(values: dict[str, Any]) -> str:
    return str(yaml.safe_dump(values, sort_keys=False))


def planned(out: Path = Path("out"), **changes: Any) -> Plan:
    return make_plan(study(**changes), "study.yaml", out)


def test_the_grid_is_the_product_without_what_is_skipped_then_the_rows() -> None:
    assert [run.name for run in planned().runs] == [
        *("pairs-only--random--1--seed0", "pairs-only--random--1--seed5"),
        *("pairs-only--random--4--seed0", "pairs-only--random--4--seed5"),
        *("pairs-only--k-medoids--1--seed0", "pairs-only--k-medoids--1--seed5"),
        *("pairs-only--k-medoids--4--seed0", "pairs-only--k-medoids--4--seed5"),
        *("hybrid--k-medoids--1--seed0", "hybrid--k-medoids--1--seed5"),
        *("hybrid--k-medoids--4--seed0", "hybrid--k-medoids--4--seed5"),
        *("CycleGAN--seed0", "CycleGAN--seed5"),
    ]


def test_the_recipe_lies_beneath_the_study_and_groups_merge_by_name() -> None:
    runs = {run.name: run for run in planned().runs}
    hybrid = runs["hybrid--k-medoids--4--seed5"]
    assert (hybrid.settings.method, hybrid.settings.steps, hybrid.settings.seed) == ("shukla", 30, 5)
    assert (hybrid.settings.size, hybrid.settings.blocks) == ("64x48", 9)  # the study's, the recipe's
    assert hybrid.settings.weights["cycle_b"] == 3  # the label's
    assert hybrid.settings.weights["reconstruction_a"] == 150  # the recipe's
    assert (hybrid.settings.optim.lr, hybrid.settings.optim.beta1, hybrid.settings.optim.beta2) == (0.001, 0.4, 0.999)
    assert (hybrid.settings.judge.patch, hybrid.settings.judge.ndf) == (34, 64)
    assert hybrid.evaluate == {
        "checkpoint": "last",
        "a": str(Path("val/photos").absolute()),
        "b": str(Path("val/labels").absolute()),
    }


def test_runs_with_the_same_choice_share_a_selection() -> None:
    runs = {run.name: run for run in planned().runs}
    chosen = {name: run.selection for name, run in runs.items()}
    shared = chosen["hybrid--k-medoids--4--seed0"]
    assert shared == chosen["pairs-only--k-medoids--4--seed0"]
    assert shared is not None
    assert re.fullmatch("kmedoids-4-of-10-seed0-[0-9a-f]{6}", shared.name)
    expected = {"features": "descriptor", "selector": "kmedoids", "budget": 4, "unpaired": 10, "seed": 0}
    expected |= {side: str(Path(folder).absolute()) for side, folder in (("photos", "photos"), ("partners", "labels"))}
    assert shared.settings == expected
    assert len({selection.name for selection in chosen.values() if selection}) == 8  # 2 x 2 x 2 seeds
    assert chosen["CycleGAN--seed0"] is None

    folder = Path("out/selections").absolute() / shared.name
    hybrid = runs["hybrid--k-medoids--4--seed0"].settings
    assert (hybrid.pairs, hybrid.unpaired) == (str(folder / "pairs.csv"), str(folder / "unpaired.csv"))
    assert runs["pairs-only--k-medoids--4--seed0"].settings.pairs == str(folder / "pairs.csv")
    assert runs["pairs-only--k-medoids--4--seed0"].settings.unpaired is None  # pix2pix has no use for them


def test_a_budget_of_0_or_a_null_selects_nothing() -> None:
    axes = {
        "method": {"all pairs": {"train": {"method": "pix2pix", "depth": 4, "pairs": "all"}, "select": None}},
        "budget": {0: {"select": {"budget": 0}}, 3: {"select": {"budget": 3}}},
    }
    train = {"size": "64x48", "steps": 30, "judge": {"patch": 34}}
    changes: dict[str, Any] = {"train": train, "axes": axes, "skip": [], "rows": [], "published": []}
    assert [run.selection for run in planned(**changes).runs] == [None] * 4
    assert {run.settings.pairs for run in planned(**changes).runs} == {"all"}
    axes["method"]["all pairs"].pop("select")
    assert [run.selection is not None for run in planned(**changes).runs] == [False, False, True, True]


def test_a_budget_of_0_chooses_the_unpaired_images_for_methods_that_take_some() -> None:
    axes = {
        "method": {
            "CycleGAN": {"train": {"method": "cyclegan"}},
            "hybrid": {"train": {"method": "shukla", "pairs": "none"}},
        },
        "budget": {0: {"select": {"budget": 0}}},
    }
    train = {"size": "64x48", "steps": 30, "judge": {"patch": 34}}
    changes: dict[str, Any] = {"train": train, "axes": axes, "skip": [], "rows": [], "published": [], "seeds": [0]}
    one_pair = next(run for run in planned().runs if run.name == "hybrid--k-medoids--1--seed0")
    select: dict[str, Any] = {**study()["select"], "selector": "kmedoids", "unpaired": 10}
    for run in planned(**changes, select=select).runs:
        assert run.selection == one_pair.selection  # so that both see the same images
        assert run.settings.unpaired == one_pair.settings.unpaired
        assert run.settings.pairs in (None, "none")
    select["unpaired"] = None
    assert [run.selection for run in planned(**changes, select=select).runs] == [None, None]


def test_published_numbers_stand_beside_the_rows_that_have_their_labels() -> None:
    rows = planned().rows
    assert [row.published for row in rows] == [
        *[{}] * 5,
        {"mean_iou": 0.237},
        {"mean_iou": 0.156, "pixel_accuracy": 0.569},
    ]


def test_data_of_a_label_and_of_the_test_set() -> None:
    data = {"a": "x", "b": "y", "val_a": "va", "val_b": "vb", "test_a": "ta", "test_b": "tb", "unpaired_b": "u"}
    axes = {"method": {"one": {"train": {"method": "pix2pix", "depth": 4}}, "both": {"train": {"method": "shukla"}}}}
    axes["method"]["both"]["data"] = {"a": "other"}
    train = {"size": "64x48", "judge": {"patch": 34}}
    changes = {"data": data, "axes": axes, "train": train, "skip": [], "rows": [], "published": [], "curve": []}
    one, both = (run for run in planned(seeds=[0], **changes).runs)
    assert (one.settings.a, both.settings.a) == (Path("x").resolve(), Path("other").resolve())
    assert (one.settings.val_a, one.evaluate["a"]) == (Path("va").resolve(), str(Path("ta").absolute()))
    # pix2pix takes no unpaired images, so the folder that the study names for them is none of its business.
    assert (one.settings.unpaired_b, both.settings.unpaired_b) == (None, Path("u").resolve())


def test_a_study_written_out_plans_the_same() -> None:
    plan = planned()
    again = make_plan(yaml.safe_load(dumped(plan.to_study())), "study.yaml", Path("out"))
    assert again == plan


def test_extends_merges_by_name_and_null_takes_a_label_out(tmp_path: Path) -> None:
    (tmp_path / "full.yaml").write_text(dumped(study()))
    small = {"extends": "full", "title": "small", "seeds": [1], "skip": [], "rows": [], "published": []}
    small |= {"axes": {"budget": {1: None, 2: {"select": {"budget": 2}}}, "selection": None}, "train": {"steps": 3}}
    (tmp_path / "small.yaml").write_text(dumped(small))
    file = tmp_path / "small.yaml"
    plan = make_plan(read_study(file), str(file), tmp_path)
    assert [run.name for run in plan.runs] == [
        f"{method}--{budget}--seed1" for method in ("pairs-only", "hybrid") for budget in (4, 2)
    ]
    assert {(run.settings.steps, run.settings.size) for run in plan.runs} == {(3, "64x48")}

    (tmp_path / "full.yaml").write_text("extends: small")
    with pytest.raises(DiptychError, match="extends itself"):
        read_study(file)


WRONG = {
    "an unknown key": ({"metricks": ["x"]}, "does not know 'metricks'; did you mean 'metrics'?"),
    "no metrics": ({"metrics": []}, "names no metrics"),
    "a word for metrics": ({"metrics": "mean_iou"}, "metrics: must be a list"),
    "a key in an axis": (
        {"axes": {"method": {"x": {"trian": {"method": "shukla"}}}}},
        "axes: method: x: does not know 'trian'; did you mean 'train'?",
    ),
    "an axis that is a list": ({"axes": {"budget": [1, 5]}}, "axes: budget: must be a mapping"),
    "a label that is a number": ({"axes": {"budget": {1: 1}}}, "axes: budget: 1: must be a mapping"),
    "seeds twice": ({"seeds": [0, 0]}, "seeds: [0, 0]: give different whole numbers"),
    "a seed in words": ({"seeds": ["one"]}, "give different whole numbers"),
    "a seed in train": ({"train": {"seed": 3}}, "train: seed comes from seeds"),
    "a folder in train": ({"train": {"b_classes": "x"}}, "train: b_classes comes from data"),
    "an unknown folder": ({"data": {"c": "x"}}, "data: does not know 'c'"),
    "a skip of no label": ({"skip": [{"method": "hybird"}]}, "skip: method: does not know 'hybird'; did you mean"),
    "a metric": ({"metrics": ["mean_iuo"]}, "metrics: does not know 'mean_iuo'; did you mean 'mean_iou'"),
    "no seeds": ({"seeds": []}, "seeds: []: give different whole numbers"),
    "a typo where nothing is selected": ({"select": {"budgte": 2}}, "unknown setting 'budgte'"),
    "a row of no axis": ({"rows": [{"labels": {"metod": "x"}}]}, "rows: number 1: labels: does not know 'metod'; did"),
    "a row twice": (
        {
            "rows": [
                {"labels": {"method": "pairs only", "selection": "random", "budget": 4}, "train": {"method": "shukla"}}
            ]
        },
        "two runs would be called pairs-only--random--4--seed0",
    ),
    "a number for no metric": (
        {"published": [{"labels": {"method": "hybrid"}, "mean_iuo": 0.1}]},
        "published: does not know 'mean_iuo'; did you mean 'mean_iou'?",
    ),
    "a number for no row": (
        {"published": [{"labels": {"budget": 40}, "mean_iou": 0.1}]},
        "published: no row has the labels {'budget': '40'}",
    ),
    "a word for a number": (
        {"published": [{"labels": {"budget": 4}, "mean_iou": "0.1x"}]},
        "published: mean_iou: '0.1x' is no number",
    ),
    "a curve over no axis": ({"curve": {"x": "budgets", "y": "mean_iou"}}, "curve: x: does not know 'budgets'; did"),
    "nothing to score": ({"data": {"a": "x", "b": "y"}}, "data names nothing to score; give --val-a"),
    "no folder": ({"data": {"a": "x"}}, "data names no folder of b; give --b"),
    "no run": ({"axes": {}, "rows": [], "skip": [], "published": []}, "plans no run"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said_in_one_line(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes, message = WRONG[what]
    values = study(**changes)
    if "axes" in changes:
        values |= {"skip": [], "rows": []}
    if "axes" in changes or "rows" in changes:
        values["published"] = []
    file = tmp_path / "wrong.yaml"
    file.write_text(dumped(values))
    assert diptych("study", file, "--out", tmp_path / "out", "--dry-run") == 2
    said = said_one_line(capsys)
    assert f"{file}: " in said
    assert message in said


def test_a_wrong_setting_of_one_run_is_found_before_any_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "wrong.yaml"
    for layer, setting, message in (
        ("train", {"stepps": 3}, "hybrid--k-medoids--1--seed0: unknown setting 'stepps'; did you mean 'steps'?"),
        ("train", {"size": "65x48"}, "hybrid--k-medoids--1--seed0: --size 65x48: width and height must be multiples"),
        ("select", {"budgett": 3}, "hybrid--k-medoids--1--seed0: select: unknown setting 'budgett'; did you mean"),
        ("evaluate", {"checkpoint": "first"}, "hybrid--k-medoids--1--seed0: evaluate: checkpoint: input should be"),
        ("train", {"recipe": "shukle"}, "hybrid--k-medoids--1: --recipe shukle: no such file; did you mean 'shukla'?"),
    ):
        values = study()
        values["axes"]["method"]["hybrid"].setdefault(layer, {}).update(setting)
        file.write_text(dumped(values))
        assert diptych("study", file, "--out", tmp_path / "out") == 2
        assert message in said_one_line(capsys)
        assert not (tmp_path / "out").exists()


def test_an_unknown_study_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert diptych("study", "shukla-table1", "--out", "x") == 2
    assert "did you mean 'shukla-table-1'?" in said_one_line(capsys)


def test_folders_that_are_not_there_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert diptych("study", "shukla-table-1-small", "--a", tmp_path / "none", "--out", tmp_path / "out") == 2
    said = said_one_line(capsys)
    assert f"data: a: there is no {tmp_path / 'none'}; give --a" in said
    assert not (tmp_path / "out").exists()


def test_flags_lie_over_the_data_of_the_study() -> None:
    settings = StudySettings(study="shukla-table-1-small", out=Path("out"), a=Path("/mine"), val_b=Path("/their"))
    for run in plan_of(settings).runs:
        assert run.settings.a == Path("/mine")
        assert (run.settings.val_b, run.evaluate["b"]) == (Path("/their"), "/their")
        assert run.settings.b == Path("train/labels").resolve()


@pytest.mark.parametrize("name", shipped_studies())
def test_every_shipped_study_plans_runs_whose_recipes_can_be_trained(name: str) -> None:
    plan = plan_of(StudySettings(study=name, out=Path("out")))
    assert plan.runs
    for run in plan.runs:
        assert resolve(settings_from(dict(run.train), run.name)) == run.settings
