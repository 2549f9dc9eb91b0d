"""`diptych select`, end to end."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from conftest import Folders, diptych, rows_of, tiny, tree


def select(folders: Folders, out: Path, budget: int, *words: object) -> list[tuple[str, str]]:
    call = ("select", folders.photos, "--features", "descriptor", "--budget", budget, "--out", out)
    assert diptych(*call, *words) == 0
    return rows_of(out / "pairs.csv")


@pytest.mark.parametrize("selector", ["kmedoids", "random"])
def test_the_same_selection_twice_gives_the_same_bytes(selector: str, folders: Folders, tmp_path: Path) -> None:
    words = ("--selector", selector, "--partners", folders.labels)
    for name in ("one", "two"):
        rows = select(folders, tmp_path / name, 5, *words, "--seed", 3)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert sorted(tree(tmp_path / "one")) == ["chosen.png", "map.png", "pairs.csv"]
    assert len({left for left, _ in rows}) == 5


def test_another_seed_draws_others(folders: Folders, tmp_path: Path) -> None:
    drawn = {
        tuple(select(folders, tmp_path / str(seed), 5, "--selector", "random", "--seed", seed)) for seed in range(4)
    }
    assert len(drawn) > 1


def test_partners_are_found_by_stem(own_folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (own_folders.labels / "scene002.png").rename(own_folders.labels / "other.png")
    Image.open(own_folders.labels / "scene004.png").save(own_folders.labels / "scene004.tif")
    (own_folders.labels / "scene004.png").unlink()
    partner = {f"scene00{i}.png": f"scene00{i}.png" for i in (0, 1, 3, 5)} | {"scene004.png": "scene004.tif"}
    rows = select(own_folders, tmp_path / "sel", 6, "--partners", own_folders.labels)
    assert dict(rows) == partner | {"scene002.png": ""}
    assert "write the 1 missing partners into column b" in capsys.readouterr().out


def test_without_partners_column_b_waits(folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = select(folders, tmp_path / "sel", 3)
    assert [right for _, right in rows] == ["", "", ""]
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "write the 3 missing partners into column b of" in said
    assert str(tmp_path / "sel" / "pairs.csv") in said


def test_within_chooses_among_an_earlier_selection(folders: Folders, tmp_path: Path) -> None:
    wide = {left for left, _ in select(folders, tmp_path / "wide", 6, "--selector", "random", "--seed", 1)}
    narrow = {left for left, _ in select(folders, tmp_path / "narrow", 3, "--within", tmp_path / "wide" / "pairs.csv")}
    assert len(narrow) == 3
    assert narrow < wide


def test_given_pairs_stay_with_their_partners_and_count(folders: Folders, tmp_path: Path) -> None:
    given = tmp_path / "given.csv"
    given.write_text("a,b\nscene007.png,mine.png\nscene002.png,\n")
    rows = dict(select(folders, tmp_path / "sel", 5, "--given", given, "--partners", folders.labels))
    assert len(rows) == 5
    assert rows["scene007.png"] == "mine.png"
    assert rows["scene002.png"] == "scene002.png"


@pytest.mark.parametrize("selector", ["kmedoids", "random"])
def test_a_nested_selection_is_two_selections(selector: str, folders: Folders, tmp_path: Path) -> None:
    words = ("--selector", selector, "--seed", 4, "--partners", folders.labels)
    within, given = tmp_path / "within.csv", tmp_path / "given.csv"
    within.write_text("a\n" + "".join(f"scene{n:03d}.png\n" for n in range(1, 12)))
    given.write_text("a,b\nscene006.png,mine.png\n")
    bounds = ("--within", within, "--given", given)
    select(folders, tmp_path / "once", 3, *words, *bounds, "--unpaired", 7)
    select(folders, tmp_path / "first", 7, *words, *bounds)
    wide = tmp_path / "first" / "pairs.csv"
    select(folders, tmp_path / "second", 3, *words, "--within", wide, "--given", given)
    once = tree(tmp_path / "once")
    assert sorted(once) == ["chosen.png", "map.png", "pairs.csv", "unpaired.csv"]
    assert once["unpaired.csv"] == wide.read_bytes()
    for name in ("pairs.csv", "chosen.png"):
        assert once[name] == (tmp_path / "second" / name).read_bytes()

    chosen, unpaired = (dict(rows_of(tmp_path / "once" / name)) for name in ("pairs.csv", "unpaired.csv"))
    assert (len(chosen), len(unpaired)) == (3, 7)
    assert chosen.items() <= unpaired.items()
    assert chosen["scene006.png"] == "mine.png"
    assert "scene000.png" not in unpaired
    assert all(right == left for left, right in unpaired.items() if left != "scene006.png")


def test_a_budget_may_take_all_the_unpaired_ones(folders: Folders, tmp_path: Path) -> None:
    rows = select(folders, tmp_path / "sel", 12, "--unpaired", 12)
    assert rows_of(tmp_path / "sel" / "unpaired.csv") == rows
    assert rows == [(f"scene{n:03d}.png", "") for n in range(12)]


def test_a_nested_selection_is_trained_on(folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sel, run = tmp_path / "sel", tmp_path / "run"
    select(folders, sel, 2, "--unpaired", 6, "--partners", folders.labels)
    said = capsys.readouterr().out
    assert said.startswith(f"2 images chosen among the 6 in {sel / 'unpaired.csv'}, shown in ")
    line = said.partition("Next: diptych ")[2].split()
    assert line[-6:] == ["--pairs", str(sel / "pairs.csv"), "--unpaired", str(sel / "unpaired.csv"), "--out", "RUN"]
    assert diptych(*line[:-1], run, *tiny("shukla"), "--b-classes", folders.classes, "--steps", 1) == 0
    unpaired = [left for left, _ in rows_of(sel / "unpaired.csv")]
    assert json.loads((run / "data.json").read_text()) == {
        "pairs": [[left, left] for left, _ in rows_of(sel / "pairs.csv")],
        "unpaired_a": unpaired,
        "unpaired_b": unpaired,
        "bits": {"a": 8, "b": 8},
    }


def test_partners_that_wait_are_asked_for_after_a_nested_selection(
    folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    select(folders, tmp_path / "sel", 3, "--unpaired", 5)
    assert {right for _, right in rows_of(tmp_path / "sel" / "unpaired.csv")} == {""}
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert f"write the 3 missing partners into column b of {tmp_path / 'sel' / 'pairs.csv'}" in said


def test_select_goes_on_without_unreadable_files(folders: Folders, tmp_path: Path) -> None:
    shutil.copytree(folders.photos, tmp_path / "photos")
    (tmp_path / "photos" / "bad.png").write_text("no image")
    call = ["select", tmp_path / "photos", "--budget", 2, "--features", "descriptor"]
    assert diptych(*call, "--out", tmp_path / "one") == 2
    assert diptych(*call, "--out", tmp_path / "two", "--skip-unreadable") == 0


def test_partners_of_an_earlier_selection_stay(folders: Folders, tmp_path: Path) -> None:
    rows = select(folders, tmp_path / "first", 4, "--partners", folders.labels)
    again = select(folders, tmp_path / "second", 2, "--within", tmp_path / "first" / "pairs.csv")
    assert set(again) <= set(rows)
