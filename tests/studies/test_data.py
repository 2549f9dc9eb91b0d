"""A study whose data is named as a whole."""

from pathlib import Path

import pytest
import yaml

from conftest import diptych, said_one_line
from diptych.config import StudySettings
from diptych.studies.study import plan_of
from miniatures import make_pix2pix, photo

STUDY = {
    "metrics": ["l1"],
    "rows": [{"labels": {"run": "only"}}],
    "train": {"method": "pix2pix", "size": "256", "direction": "b_to_a"},
}


def test_a_dataset_stands_for_its_folders(tmp_path: Path) -> None:
    make_pix2pix(tmp_path / "ab")
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**STUDY, "data": {"data": str(tmp_path / "ab")}}))
    run = plan_of(StudySettings(study=str(tmp_path / "study.yaml"), out=tmp_path / "out")).runs[0]
    assert run.settings.a == tmp_path / "ab/train::left"
    assert run.settings.val_b == tmp_path / "ab/val::right"
    assert run.evaluate["a"] == str(tmp_path / "ab/test::left")


def test_flags_come_before_what_the_study_says(tmp_path: Path) -> None:
    make_pix2pix(tmp_path / "ab")
    data = {"a": "x", "b": "y", "val_a": "v", "val_b": "w"}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**STUDY, "data": data}))
    flags = {"data": tmp_path / "ab", "test_b": tmp_path / "other"}
    run = plan_of(StudySettings(study=str(tmp_path / "study.yaml"), out=tmp_path / "out", **flags)).runs[0]
    assert run.settings.b == tmp_path / "ab/train::right"
    assert run.evaluate["a"] == str(tmp_path / "ab/test::left")
    assert run.evaluate["b"] == str(tmp_path / "other")


def test_a_dataset_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**STUDY, "data": {"data": str(tmp_path)}}))
    assert diptych("study", tmp_path / "study.yaml", "--out", tmp_path / "out") == 2
    assert "not understood; what is: dataset.yaml" in said_one_line(capsys)


def test_a_csv_of_pairs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for side in "ab":
        for name in ("1.png", "2.png"):
            photo(tmp_path / side / name)
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("a,b\na/1.png,b/2.png\na/2.png,b/1.png\n")
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump({**STUDY, "data": {"data": str(pairs)}}))
    assert diptych("study", file, "--out", tmp_path / "out") == 2
    assert f"data: {pairs}: a study pairs images of the same name; give the partners" in said_one_line(capsys)
    file.write_text(yaml.safe_dump(STUDY))
    assert diptych("study", file, "--data", tmp_path, "--out", tmp_path / "out") == 2  # found beside the folders
    assert f"data: {pairs}: a study pairs" in said_one_line(capsys)


def test_validation_images_without_partners_are_scored_and_not_validated_on(tmp_path: Path) -> None:
    for folder, name in (("trainA", "1.png"), ("trainB", "1.png"), ("valA", "2.png"), ("valB", "3.png")):
        photo(tmp_path / "d" / folder / name)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**STUDY, "data": {"data": str(tmp_path / "d")}}))
    run = plan_of(StudySettings(study=str(tmp_path / "study.yaml"), out=tmp_path / "out")).runs[0]
    assert (run.settings.val_a, run.settings.val_b) == (None, None)
    assert (run.evaluate["a"], run.evaluate["b"]) == (str(tmp_path / "d/valA"), str(tmp_path / "d/valB"))
