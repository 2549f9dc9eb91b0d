"""`diptych select`, end to end."""

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from conftest import Folders, diptych, rows_of, said_one_line, tiny, tree
from diptych import pictures
from diptych.features import extract
from diptych.selection import faiss_means, kmedoids


def select(folders: Folders, out: Path, budget: int, *words: object) -> list[tuple[str, str]]:
    features = () if "--features" in words else ("--features", "descriptor")
    assert diptych("select", folders.photos, "--budget", budget, "--out", out, *features, *words) == 0
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
    line = said.partition(": diptych ")[2].split()
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


def test_unreadable_images_are_no_absent_ones(
    own_folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_folders.photos / "scene003.png").write_bytes(b"no image")
    listed = tmp_path / "listed.csv"
    listed.write_text("a,b\nscene003.png,\nscene004.png,\nscene005.png,\n")
    words = ("select", own_folders.photos, "--features", "descriptor", "--skip-unreadable")
    assert diptych(*words, "--within", listed, "--budget", 2, "--out", tmp_path / "within") == 0
    assert {name for name, _ in rows_of(tmp_path / "within" / "pairs.csv")} == {"scene004.png", "scene005.png"}
    capsys.readouterr()
    assert diptych(*words, "--given", listed, "--budget", 5, "--out", tmp_path / "given") == 2
    assert f"{listed}: scene003.png cannot be read; mend the file or take the line out" in capsys.readouterr().err


def test_a_selection_does_not_lie_among_the_images(own_folders: Folders, capsys: pytest.CaptureFixture[str]) -> None:
    out = own_folders.photos / "chosen"
    assert diptych("select", own_folders.photos, "--features", "descriptor", "--budget", 2, "--out", out) == 2
    assert f"--out {out}: lies among the images of {own_folders.photos}" in said_one_line(capsys)
    assert not out.exists()


def test_partners_of_an_earlier_selection_stay(folders: Folders, tmp_path: Path) -> None:
    rows = select(folders, tmp_path / "first", 4, "--partners", folders.labels)
    again = select(folders, tmp_path / "second", 2, "--within", tmp_path / "first" / "pairs.csv")
    assert set(again) <= set(rows)


def stored(folders: Folders, path: Path, dtype: str = "float32") -> Path:
    """The descriptor's features of all photos, as somebody else would keep them."""
    names = sorted(file.name for file in folders.photos.iterdir())
    features = extract("descriptor", [folders.photos / name for name in names])
    np.save(path, features.astype(dtype))
    return path


@pytest.mark.parametrize(
    "words",
    [
        ("--seed", 2),
        ("--selector", "random", "--seed", 1),
        ("--unpaired", 7),
        ("--within", "within.csv"),
        ("--given", "given.csv"),
        ("--within", "within.csv", "--given", "given.csv", "--unpaired", 8, "--selector", "random"),
        ("--within", "within.csv", "--given", "given.csv", "--unpaired", 8),
        ("--skip-unreadable",),
        ("--kmeans", "own"),
    ],
    ids=lambda words: " ".join(map(str, words)),
)
def test_features_in_a_file_are_chosen_from_as_those_in_memory(
    words: tuple[object, ...], folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("within.csv").write_text("a\n" + "".join(f"scene{n:03d}.png\n" for n in (11, *range(1, 9))))
    Path("given.csv").write_text("a,b\nscene006.png,mine.png\nscene011.png,\n")
    words = (*words, "--partners", folders.labels)
    select(folders, Path("memory"), 4, *words)
    select(folders, Path("file"), 4, *words, "--features", stored(folders, Path("f.npy")))
    assert tree(Path("memory")) == tree(Path("file"))


def test_a_list_says_which_rows_belong_to_which_images(folders: Folders, tmp_path: Path) -> None:
    names = [f"scene{n:03d}.png" for n in (7, 2, 9, 4)]
    np.save(tmp_path / "f.npy", np.array([[0, 0], [50, 0], [51, 0], [52, 0]], np.float16))
    (tmp_path / "f.txt").write_text("".join(f"{name}\n" for name in names))
    rows = select(folders, tmp_path / "sel", 2, "--features", tmp_path / "f.npy")
    assert rows == [("scene007.png", ""), ("scene009.png", "")]
    (tmp_path / "within.csv").write_text("a\nscene004.png\nscene002.png\n")
    words = ("--features", tmp_path / "f.npy", "--within", tmp_path / "within.csv")
    assert select(folders, tmp_path / "within", 1, *words) == [("scene002.png", "")]  # the first of two equals


def test_images_without_a_row_are_told(folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "f.npy", np.zeros((2, 1), np.float16))
    (tmp_path / "f.txt").write_text("scene001.png\nscene003.png\n")
    select(folders, tmp_path / "sel", 1, "--features", tmp_path / "f.npy")
    assert (
        f"10 images of {folders.photos} have no row in {tmp_path / 'f.npy'} and are left out" in capsys.readouterr().err
    )


def test_only_the_chosen_images_are_opened(own_folders: Folders, tmp_path: Path) -> None:
    file = stored(own_folders, tmp_path / "f.npy")
    chosen = {left for left, _ in select(own_folders, tmp_path / "one", 3, "--features", file)}
    for photo in own_folders.photos.iterdir():
        if photo.name not in chosen:
            photo.write_text("no image")
    assert {left for left, _ in select(own_folders, tmp_path / "two", 3, "--features", file)} == chosen


def test_unreadable_images_are_skipped_whatever_their_features(own_folders: Folders, tmp_path: Path) -> None:
    file = stored(own_folders, tmp_path / "f.npy")
    first = [left for left, _ in select(own_folders, tmp_path / "one", 3, "--features", file)]
    (own_folders.photos / first[0]).write_text("no image")
    call = ("select", own_folders.photos, "--features", file, "--budget", 3, "--out")
    assert diptych(*call, tmp_path / "two") == 2
    assert diptych(*call, tmp_path / "three", "--skip-unreadable") == 0
    assert first[0] not in dict(rows_of(tmp_path / "three" / "pairs.csv"))


def test_features_in_a_file_need_no_torch(folders: Folders, tmp_path: Path) -> None:
    script = (
        "import sys; from diptych.cli import main; assert not main(sys.argv[1:]); assert 'torch' not in sys.modules"
    )
    words = ["select", folders.photos, "--features", stored(folders, tmp_path / "f.npy"), "--budget", 3]
    call = [sys.executable, "-c", script, *map(str, words), "--out", str(tmp_path / "sel")]
    assert subprocess.run(call, check=False).returncode == 0


def test_of_many_images_some_are_pictured(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    room = importlib.import_module("diptych.commands.select")
    seen: dict[str, Any] = {}

    def selection_map(features: NDArray[Any], marks: list[int], captions: list[str], *rest: Any) -> Any:
        seen.update(features=features, marks=marks, captions=captions, of=rest[1])
        return pictures.to_map(features, marks, captions, *rest)

    monkeypatch.setattr(pictures, "to_map", pictures.selection_map, raising=False)
    monkeypatch.setattr(pictures, "selection_map", selection_map)
    monkeypatch.setattr(room, "PICTURED", 3)
    monkeypatch.setattr(room, "DRAWN", 4)
    file = stored(folders, tmp_path / "f.npy")
    rows = [left for left, _ in select(folders, tmp_path / "sel", 5, "--features", file)]
    assert "chosen.png and map.png show 3 of the 5 chosen images" in capsys.readouterr().err
    assert seen["captions"] == [rows[0], rows[2], rows[4]]
    assert seen["of"] == (12, 5)
    features = np.load(file)
    wanted = [features[int(name[5:8])].tolist() for name in seen["captions"]]
    assert [seen["features"][mark].tolist() for mark in seen["marks"]] == wanted
    assert len(seen["features"]) <= 4 + 3


@pytest.mark.parametrize("kmeans", ["own", "faiss"])
def test_a_large_file_by_either_k_means(
    kmeans: str, folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kmeans == "faiss":
        pytest.importorskip("faiss")
    monkeypatch.setattr(kmedoids, "SMALL", 5)
    by_faiss: list[int] = []
    original = faiss_means.centres

    def centres(sample: NDArray[Any], *rest: Any) -> NDArray[Any]:
        by_faiss.append(len(sample))
        return original(sample, *rest)

    monkeypatch.setattr(faiss_means, "centres", centres)
    file = stored(folders, tmp_path / "f.npy", "float16")
    words = ("--features", file, "--kmeans", kmeans)
    once, again = (select(folders, tmp_path / name, 3, *words) for name in ("one", "two"))
    assert once == again
    assert len(set(once)) == 3
    assert by_faiss == ([12, 12] if kmeans == "faiss" else [])


def test_faiss_that_is_missing(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(faiss_means, "find_spec", lambda _: None)
    assert diptych("select", folders.photos, "--out", tmp_path / "sel", "--budget", 3, "--kmeans", "faiss") == 2
    assert "pip install 'diptych[large]'" in said_one_line(capsys)
    assert not (tmp_path / "sel").exists()
