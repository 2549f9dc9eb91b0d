"""A study whose data is named as a whole."""

from pathlib import Path

import pytest
import yaml

from conftest import diptych, said_one_line
from diptych.config import StudySettings
from diptych.studies.study import plan_of
from miniatures import make_pix2pix

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
