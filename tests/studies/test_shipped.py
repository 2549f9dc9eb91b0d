"""Every study that comes with diptych: expanded, counted, held against the papers; one small one run to its page."""

import json
import re
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any

import pytest

from conftest import Folders, diptych
from diptych.config import parse_size
from diptych.studies import estimate, read_study, shipped_studies
from diptych.studies.plan import Plan, Row, make_plan

STUDIES = shipped_studies()
FULL = [name for name in STUDIES if not name.endswith("-small")]
SMALL = [name for name in STUDIES if name.endswith("-small")]

RUNS = {  # (labels x labels + rows outside the grid) x seeds
    "shukla-table-1": (5 * 2 + 1) * 10,
    "shukla-table-1-small": (3 * 2 + 1) * 3,
    "shukla-table-2": (2 * 5 + 10) * 10,
    "shukla-table-2-small": (2 * 3 + 8) * 3,
    "shukla-table-3": 1 * 4 * 3,
    "shukla-table-3-small": 1 * 3 * 3,
    "shukla-table-4": (1 * 4 + 4) * 3,
    "shukla-table-4-small": (1 * 3 + 4) * 3,
    "shukla-table-5": 3 * 3,
    "shukla-table-5-small": 3 * 3,
    "shukla-table-6": 3 * 3,
    "shukla-table-6-small": 3 * 3,
    "shukla-table-7": 5 * 4 * 3,
    "shukla-table-7-small": 3 * 3 * 3,
    "shukla-table-8": (5 * 2 + 1) * 10,
    "shukla-table-8-small": (3 * 2 + 1) * 3,
    "shukla-table-9": (2 * 5 + 9) * 3,
    "shukla-table-9-small": (2 * 3 + 7) * 3,
    "tripathy-photo-to-label": (3 * 3 + 2) * 3,
    "tripathy-photo-to-label-small": (3 * 1 + 2) * 3,
    "tripathy-label-to-photo": (3 * 3 + 2) * 3,
    "tripathy-label-to-photo-small": (3 * 1 + 2) * 3,
    "tripathy-maps": 2 * 5 * 3,
    "tripathy-maps-small": 2 * 5 * 3,
    "tripathy-across-datasets": 3 * 3,
    "tripathy-across-datasets-small": 3 * 3,
    "ucsd-table-1": 3 * 6 * 3,
    "ucsd-table-1-small": 1 * 6 * 3,
    "ucsd-table-2": 3 * 3 * 3,
    "ucsd-table-2-small": 1 * 3 * 3,
}
PUBLISHED = {  # rows that a number was printed for
    "shukla-table-1": 11,
    "shukla-table-2": 14 + 5,  # and the pairs only of table 1
    "shukla-table-3": 4,
    "shukla-table-4": 8,
    "shukla-table-5": 3,
    "shukla-table-6": 2,
    "shukla-table-7": 20,
    "shukla-table-8": 11,
    "shukla-table-9": 14 + 5,  # and the pairs only of table 8
    "tripathy-photo-to-label": 6,
    "tripathy-label-to-photo": 4,
    "tripathy-maps": 0,
    "tripathy-across-datasets": 0,
    "ucsd-table-1": 18,
    "ucsd-table-2": 9,
}


@cache
def planned(name: str) -> Plan:
    return make_plan(read_study(STUDIES[name]), name, Path("out"))


def row_of(name: str, **labels: object) -> Row:
    """The only row with these labels; an underscore stands for a blank."""
    wanted = {axis.replace("_", " "): str(label) for axis, label in labels.items()}
    rows = [row for row in planned(name).rows if wanted.items() <= dict(row.labels).items()]
    assert len(rows) == 1, (name, wanted)
    return rows[0]


def test_every_table_has_its_study_in_both_forms() -> None:
    assert set(STUDIES) == set(RUNS)
    assert {f"{name}-small" for name in FULL} == set(SMALL)
    assert set(FULL) == set(PUBLISHED)


@pytest.mark.parametrize("name", list(STUDIES))
def test_expands_to_the_runs_worked_out_by_hand(name: str) -> None:
    plan = planned(name)
    assert len(plan.runs) == RUNS[name]
    assert len({run.name for run in plan.runs}) == RUNS[name]


def dry_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What `diptych study NAME --dry-run` prints in an empty folder, which it leaves empty."""
    monkeypatch.chdir(tmp_path)
    assert diptych("study", name, "--out", tmp_path / "out", "--dry-run") == 0
    assert list(tmp_path.iterdir()) == []
    return capsys.readouterr().out


@pytest.mark.parametrize("name", list(STUDIES))
def test_dry_run_needs_no_data_and_writes_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Counting a full-size step takes seconds; the slow test below does it for every method.
    monkeypatch.setattr(estimate, "operations_of_a_step", lambda settings: 1e9)
    monkeypatch.setattr(estimate, "operations_per_second", lambda settings: 1e9)
    said = dry_run(name, tmp_path, monkeypatch, capsys)
    steps = sum(run.settings.steps for run in planned(name).runs)
    assert re.search(rf"^{RUNS[name]} runs, {steps:,} steps, ", said, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shukla-table-6", "tripathy-photo-to-label", "ucsd-table-2"])
def test_the_time_of_a_full_study_is_estimated_from_its_networks(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = dry_run(name, tmp_path, monkeypatch, capsys)
    assert re.search(r"about \d+ (h|d)( \d+ (min|h))? of training on this machine", said)


@pytest.mark.parametrize("name", list(STUDIES))
def test_no_published_number_is_orphaned_or_shown_twice(name: str) -> None:
    plan = planned(name)
    for entry in plan.published:
        shown = [row for row in plan.rows if entry["labels"].items() <= dict(row.labels).items()]
        assert len(shown) == 1, entry
        assert entry.keys() == {"labels", *shown[0].published}
    assert sum(bool(row.published) for row in plan.rows) == len(plan.published)


@pytest.mark.parametrize("name", FULL)
def test_the_published_numbers_are_all_there_and_plausible(name: str) -> None:
    plan = planned(name)
    assert len(plan.published) == PUBLISHED[name]
    for row in plan.rows:
        assert not row.published or row.published.keys() <= set(plan.metrics)
        for metric, value in row.published.items():
            low, high = (100, 350) if metric == "fid" else (0.01, 0.9)
            assert low <= value <= high, (row.labels, metric)
        if "mean_iou" in row.published:  # so it is in every table: few classes are found, the common ones first
            assert row.published["mean_iou"] < row.published["class_accuracy"] < row.published["pixel_accuracy"]


@pytest.mark.parametrize("name", SMALL)
def test_the_small_form_publishes_nothing_that_the_full_one_does_not(name: str) -> None:
    def numbers(study: str) -> set[tuple[tuple[str, float], ...]]:
        return {tuple(sorted(row.published.items())) for row in planned(study).rows if row.published}

    assert numbers(name) <= numbers(name.removesuffix("-small"))
    assert planned(name).metrics == planned(name.removesuffix("-small")).metrics


def labelled(pixel: float, classes: float, iou: float, of: str = "") -> dict[str, float]:
    return {f"{of}pixel_accuracy": pixel, f"{of}class_accuracy": classes, f"{of}mean_iou": iou}


@pytest.mark.parametrize(
    ("name", "labels", "printed"),
    [
        ("shukla-table-1", {"budget": 1, "selection": "random"}, labelled(0.401, 0.130, 0.076)),
        ("shukla-table-1", {"budget": 1, "selection": "k-medoids"}, labelled(0.567, 0.160, 0.114)),
        ("shukla-table-1", {"budget": 20, "selection": "k-medoids"}, labelled(0.746, 0.242, 0.196)),
        ("shukla-table-1", {"budget": 40, "selection": "random"}, labelled(0.766, 0.272, 0.223)),
        ("shukla-table-1", {"budget": 2975}, labelled(0.878, 0.497, 0.402)),
        ("shukla-table-2", {"method": "pairs only", "budget": 200}, labelled(0.830, 0.366, 0.299)),
        ("shukla-table-2", {"method": "CycleGAN on 200"}, labelled(0.570, 0.210, 0.152)),
        ("shukla-table-2", {"method": "hybrid", "budget": 0}, labelled(0.588, 0.205, 0.154)),
        ("shukla-table-2", {"method": "hybrid", "budget": 1}, labelled(0.697, 0.222, 0.170)),
        ("shukla-table-2", {"method": "hybrid", "budget": 20}, labelled(0.768, 0.291, 0.237)),
        ("shukla-table-2", {"method": "unbalanced", "budget": 20}, labelled(0.759, 0.276, 0.222)),
        ("shukla-table-2", {"method": "random pair", "budget": 1}, {}),
        ("shukla-table-2", {"method": "Tripathy", "budget": 70}, labelled(0.725, 0.244, 0.191)),
        ("shukla-table-2", {"method": "CycleGAN on 2975"}, labelled(0.569, 0.205, 0.156)),
        ("shukla-table-3", {"unpaired labels": "GTA5"}, labelled(0.703, 0.259, 0.185)),
        ("shukla-table-3", {"unpaired labels": "Synscapes"}, labelled(0.761, 0.282, 0.224)),
        ("shukla-table-4", {"method": "pairs only", "budget": 100}, {"tolerance_accuracy": 0.377}),
        ("shukla-table-4", {"method": "CycleGAN on 100"}, {"tolerance_accuracy": 0.356}),
        ("shukla-table-4", {"method": "hybrid", "budget": 20}, {"tolerance_accuracy": 0.431}),
        ("shukla-table-4", {"method": "CycleGAN on 1096"}, {"tolerance_accuracy": 0.388}),
        ("shukla-table-4", {"method": "pairs only", "budget": 1096}, {"tolerance_accuracy": 0.439}),
        ("shukla-table-5", {"terms": "without cycle"}, labelled(0.767, 0.279, 0.227)),
        ("shukla-table-5", {"terms": "without identity"}, labelled(0.759, 0.277, 0.224)),
        ("shukla-table-6", {"method": "FCN-8s"}, labelled(0.544, 0.158, 0.083)),
        ("shukla-table-6", {"method": "supervised"}, {}),
        ("shukla-table-7", {"budget": 1, "unpaired labels": "GTA5"}, labelled(0.614, 0.215, 0.137)),
        ("shukla-table-7", {"budget": 10, "unpaired labels": "Synscapes"}, labelled(0.737, 0.270, 0.209)),
        ("shukla-table-7", {"budget": 40, "unpaired labels": "none"}, labelled(0.781, 0.278, 0.236)),
        ("shukla-table-7", {"budget": 40, "unpaired labels": "own"}, labelled(0.791, 0.307, 0.251)),
        ("shukla-table-8", {"budget": 5, "selection": "random"}, labelled(0.612, 0.203, 0.144, "fcn_")),
        ("shukla-table-8", {"budget": 40, "selection": "k-medoids"}, labelled(0.737, 0.232, 0.183, "fcn_")),
        ("shukla-table-9", {"method": "hybrid", "budget": 0}, labelled(0.619, 0.215, 0.158, "fcn_")),
        ("shukla-table-9", {"method": "unbalanced", "budget": 20}, labelled(0.752, 0.257, 0.198, "fcn_")),
        ("shukla-table-9", {"method": "Tripathy", "budget": 50}, labelled(0.65, 0.19, 0.13, "fcn_")),
        ("tripathy-photo-to-label", {"method": "hybrid", "pairs": 70}, labelled(0.68, 0.21, 0.16)),
        ("tripathy-photo-to-label", {"method": "pix2pix", "pairs": 30}, labelled(0.65, 0.20, 0.15)),
        ("tripathy-photo-to-label", {"method": "unpaired only"}, {}),
        ("tripathy-label-to-photo", {"method": "hybrid", "pairs": 30}, labelled(0.66, 0.19, 0.14, "fcn_")),
        (
            "ucsd-table-1",
            {"dataset": "cityscapes", "experiment": "L1"},
            {"precision": 0.52, "recall": 0.32, "fid": 100.52},
        ),
        (
            "ucsd-table-1",
            {"dataset": "maps", "experiment": "patch 286"},
            {"precision": 0.31, "recall": 0.15, "fid": 198.18},
        ),
        (
            "ucsd-table-1",
            {"dataset": "facades", "experiment": "no skips"},
            {"precision": 0.13, "recall": 0.01, "fid": 275.91},
        ),
        ("ucsd-table-2", {"dataset": "maps", "experiment": "L1 + L2"}, {"fid": 298.45}),
        ("ucsd-table-2", {"dataset": "horse2zebra", "experiment": "L2"}, {"fid": 245.89}),
    ],
)
def test_the_numbers_are_those_that_were_printed(name: str, labels: dict[str, Any], printed: dict[str, float]) -> None:
    assert row_of(name, **labels).published == printed


@pytest.mark.parametrize("name", FULL)
def test_the_full_form_is_the_papers_size_and_scores_the_last_checkpoint(name: str) -> None:
    plan = planned(name)
    assert plan.seeds == (
        tuple(range(10)) if name in ("shukla-table-1", "shukla-table-2", "shukla-table-8") else (0, 1, 2)
    )
    for run in plan.runs:
        assert run.settings.size == "256x256"
        assert run.settings.ngf == 64
        assert run.evaluate["checkpoint"] == "last"  # the best one is chosen on the very images that are scored
        assert run.selection is None or run.selection.settings["features"] == "resnet50"


@pytest.mark.parametrize("name", SMALL)
def test_the_small_form_is_for_two_cores_and_downloads_nothing(name: str) -> None:
    plan = planned(name)
    assert plan.seeds == (0, 1, 2)
    for run in plan.runs:
        width, height = parse_size(run.settings.size)
        assert width * height <= 128 * 96
        assert run.settings.steps <= 1500
        assert run.settings.ngf == 16
        assert run.settings.judge.ndf in (None, 16)
        assert run.settings.blocks in (None, 4)
        assert run.settings.encoder_weights is None
        assert run.evaluate.get("extractor", "descriptor") == "descriptor"
        assert run.evaluate.get("segmenter", "runs/segmenter") == "runs/segmenter"
        assert run.selection is None or run.selection.settings["features"] == "descriptor"


def steps(name: str, **labels: object) -> int:
    return row_of(name, **labels).runs[0].settings.steps


def test_steps_are_comparable_and_follow_from_the_papers_epochs() -> None:
    """200 epochs: of a paired and an unpaired pass of 200 (100) steps, or of all images; 150 of ceil(images / 16)."""
    for name in ("shukla-table-1", "shukla-table-8"):
        counts = [row.runs[0].settings.steps for row in planned(name).rows]
        assert counts == [200 * (200 + 200)] * 10 + [200 * 2975]
    for name, on_the_200 in (("shukla-table-2", 15), ("shukla-table-9", 14)):
        counts = sorted(row.runs[0].settings.steps for row in planned(name).rows)
        assert counts == [200 * (200 + 200)] * on_the_200 + [200 * 2975] * 5
    for name in ("shukla-table-3", "shukla-table-5", "shukla-table-6", "shukla-table-7"):
        assert {run.settings.steps for run in planned(name).runs} == {200 * (200 + 200)}
    counts = [row.runs[0].settings.steps for row in planned("shukla-table-4").rows]
    assert counts == [200 * (100 + 100)] * 6 + [200 * 1096] * 2
    for name in ("tripathy-photo-to-label", "tripathy-label-to-photo", "tripathy-across-datasets"):
        assert {run.settings.steps for run in planned(name).runs} == {200 * 2975}
    assert {run.settings.steps for run in planned("tripathy-maps").runs} == {200 * 1096}
    for row in planned("ucsd-table-1").rows + planned("ucsd-table-2").rows:
        images = {"cityscapes": 2975, "maps": 1096, "facades": 400, "horse2zebra": 1334}[row.labels["dataset"]]
        assert row.runs[0].settings.steps == 150 * ceil(images / 16)


def test_half_of_the_hybrids_steps_and_a_quarter_of_tripathys_are_of_pairs() -> None:
    hybrid = row_of("shukla-table-2", method="hybrid", budget=20).runs[0]
    assert (hybrid.settings.rhythm, hybrid.settings.balance) == ("passes", None)
    unbalanced = row_of("shukla-table-2", method="unbalanced").runs[0]
    assert unbalanced.settings.balance == 1
    tripathy = row_of("tripathy-photo-to-label", method="hybrid", pairs=50).runs[0]
    assert tripathy.settings.rhythm == "phases"
    assert tripathy.settings.paired_steps == 50 * 2975


@pytest.mark.parametrize("name", ["shukla-table-2", "shukla-table-9"])
def test_what_each_row_of_a_hybrid_table_learns_from(name: str) -> None:
    hybrid = row_of(name, method="hybrid", budget=20).runs[3 % len(planned(name).seeds)]
    assert hybrid.selection is not None
    chosen = hybrid.selection.settings
    assert (chosen["selector"], chosen["budget"], chosen["unpaired"]) == ("kmedoids", 20, 200)
    assert Path(str(hybrid.settings.pairs)).name == "pairs.csv"
    assert Path(str(hybrid.settings.unpaired)).name == "unpaired.csv"
    pairs_only = row_of(name, method="pairs only", budget=20).runs[3 % len(planned(name).seeds)]
    assert pairs_only.selection == hybrid.selection  # the very same pairs
    assert pairs_only.settings.method == "pix2pix"
    all_of_them = row_of(name, method="pairs only", budget=200).runs[0]
    assert all_of_them.selection is not None
    assert all_of_them.selection.settings["budget"] == 200
    assert row_of(name, method="hybrid", budget=0).runs[0].settings.pairs == "none"
    for without_pairs in (row_of(name, method="hybrid", budget=0), row_of(name, method="CycleGAN on 200")):
        run = without_pairs.runs[0]
        assert run.selection is not None
        among = row_of(name, method="hybrid", budget=1).runs[0].selection
        assert run.selection == among  # the very same 200
        assert Path(str(run.settings.unpaired)).name == "unpaired.csv"
        assert run.settings.pairs in (None, "none")
    assert row_of(name, method="CycleGAN on 2975").runs[0].settings.unpaired == "all"
    assert row_of(name, method="pairs only", budget=2975).runs[0].settings.pairs == "all"
    assert row_of(name, method="Tripathy", budget=30).runs[0].settings.pairs == "30"


def test_unpaired_labels_from_elsewhere_stand_beside_the_same_pairs() -> None:
    rows = {
        label: row_of("shukla-table-7", budget=5, unpaired_labels=label)
        for label in ("none", "GTA5", "Synscapes", "own")
    }
    assert len({row.runs[0].settings.pairs for row in rows.values()}) == 1
    folders = {label: row.runs[0].settings.unpaired_b for label, row in rows.items()}
    elsewhere = {label: folder and folder.parts[-2:] for label, folder in folders.items()}
    assert elsewhere == {"none": None, "GTA5": ("gta5", "labels"), "Synscapes": ("synscapes", "labels"), "own": None}


@pytest.mark.parametrize("name", ["shukla-table-8", "shukla-table-9", "tripathy-label-to-photo"])
@pytest.mark.parametrize("form", ["", "-small"])
def test_label_to_photo_is_the_other_way_and_read_by_a_segmenter(name: str, form: str) -> None:
    for run in planned(name + form).runs:
        assert run.settings.direction == "b_to_a"
        assert run.evaluate["segmenter"]


def test_tripathy_learns_from_pairs_from_unpaired_images_and_from_both() -> None:
    for name in ("tripathy-photo-to-label", "tripathy-photo-to-label-small"):
        both, pairs, unpaired = (
            row_of(name, method=method, **({} if method == "unpaired only" else {"pairs": 50})).runs[0].settings
            for method in ("hybrid", "pairs only", "unpaired only")
        )
        assert {settings.method for settings in (both, pairs, unpaired)} == {"tripathy"}
        assert (both.pairs, both.unpaired) == ("50", "all")
        assert (pairs.pairs, pairs.unpaired) == ("50", "0")
        assert (unpaired.pairs, unpaired.unpaired) == ("none", "all")


def test_the_six_and_the_three_experiments_differ_in_one_thing_each() -> None:
    def settings(table: int, experiment: str) -> Any:
        return row_of(f"ucsd-table-{table}", dataset="facades", experiment=experiment).runs[0].settings

    experiments = ("L1", "L2", "L1 + L2", "patch 16", "patch 286", "no skips")
    paired = [settings(1, experiment) for experiment in experiments]
    assert [one.reconstruction_l2 for one in paired] == [0, 1, 0.5, 0, 0, 0]
    assert [one.judge.patch for one in paired] == [70, 70, 70, 16, 286, 70]
    assert [one.skips for one in paired] == [True, True, True, True, True, False]
    assert [settings(2, experiment).cycle_l2 for experiment in experiments[:3]] == [0, 1, 0.5]


@pytest.mark.slow
def test_a_small_study_comes_to_its_page(folders: Folders, tmp_path: Path) -> None:
    """Table 1, cut down: one pair of either kind, 4 steps at 32x32; each step of it is a process of its own."""
    study, out = tmp_path / "cut.yaml", tmp_path / "out"
    study.write_text(
        """
extends: shukla-table-1-small
train: {size: 32x32, steps: 4, ngf: 4, depth: 3, judge: {patch: 16, ndf: 4}}
axes:
  budget: {5: null, 20: null}
  selection: {k-medoids: {select: {unpaired: 6}}}
seeds: [0]
rows: []
published:
  - {labels: {budget: 1, selection: random}, pixel_accuracy: .401, class_accuracy: .130, mean_iou: .076}
  - {labels: {budget: 1, selection: k-medoids}, pixel_accuracy: .567, class_accuracy: .160, mean_iou: .114}
"""
    )
    sides = ["--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes]
    sides += ["--val-a", folders.val_photos, "--val-b", folders.val_labels]
    assert diptych("study", study, *sides, "--out", out) == 0

    names = {"1--random--seed0", "1--k-medoids--seed0"}
    assert {path.parent.name for path in (out / "scores").glob("*/metrics.json")} == names
    table = json.loads((out / "table.json").read_text())
    assert [row["labels"]["selection"] for row in table["rows"]] == ["random", "k-medoids"]
    for row, published in zip(table["rows"], (0.076, 0.114), strict=True):
        (run,) = row["runs"]
        record = json.loads((out / "scores" / run["name"] / "metrics.json").read_text())
        assert record["n"] == 4
        assert row["metrics"]["mean_iou"]["mean"] == record["scores"]["mean_iou"]
        assert row["metrics"]["mean_iou"]["published"] == published
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "Shukla et al. 2019, table 1, small: which images to pair" in page
    assert "0.076" in page
    assert "0.114" in page
    assert not re.search(r"""(?:src|href)=["']?https?:""", page)  # self-contained
