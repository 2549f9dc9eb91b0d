"""Names of files that nobody expects: they go through whole commands, or are refused in one line on any terminal."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import diptych, draw_scene, said_one_line, tiny
from diptych.errors import LONGEST, DiptychError
from diptych.images import list_images
from diptych.pairs import read_pairs, read_rows, write_pairs

PHOTO = Image.fromarray(draw_scene(3)[0])
ODD = [
    " blank.png",
    "\u3000wide blank.png",
    "\tdeep/tab.png",
    "-dash.png",
    "--out.png",
    "two\nlines.png",
    "carriage\rreturn.png",
    'a "quote".png',
    "a,b;c.png",
    "back\\slash.png",
    "C:drive.png",
    "deep/a..two dots.png",
    "=1+1.png",
    "#.png",
    "x.PNG",
    "X.png",
    "caf\N{LATIN SMALL LETTER E WITH ACUTE}.png",
    "cafe\N{COMBINING ACUTE ACCENT}.png",
    "\N{RIGHT-TO-LEFT OVERRIDE}gnp.png",
    "\x1b[31mred.png",
    "*?[x].png",
    "%s{0}.png",
    "~.png",
    "x" * 251 + ".png",
]
IN_PLACES_THAT_DIFFER = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not have all these names")


def write_images(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        PHOTO.save(folder / name, "PNG")
    return folder


@IN_PLACES_THAT_DIFFER
def test_odd_names_go_from_selection_to_translation(tmp_path: Path) -> None:
    a, b = write_images(tmp_path / "a", ODD), write_images(tmp_path / "b", ODD)
    call = ("select", a, "--features", "descriptor", "--selector", "random", "--budget", len(ODD))
    assert diptych(*call, "--partners", b, "--out", tmp_path / "sel") == 0
    assert sorted(read_rows(tmp_path / "sel" / "pairs.csv")) == sorted((name, name) for name in ODD)

    run = tmp_path / "run"
    words = ("--a", a, "--b", b, "--pairs", tmp_path / "sel" / "pairs.csv", "--out", run, *tiny("shukla"))
    assert diptych("train", "shukla", *words, "--steps", 1) == 0
    assert diptych("resume", run, "--steps", 2) == 0
    assert diptych("translate", run, a, "--out", tmp_path / "out") == 0
    assert list_images(tmp_path / "out") == sorted(name.replace(".PNG", ".png") for name in ODD)


@IN_PLACES_THAT_DIFFER
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=40).filter(
            lambda stem: not stem.startswith(".")
        ),
        min_size=1,
        max_size=6,
        unique=True,
    )
)
def test_what_is_on_disk_is_read_back_from_pairs(tmp_path: Path, names: list[str]) -> None:
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    folder.mkdir()
    for name in names:
        (folder / f"{name}.png").touch()
    listed = list_images(folder)
    assert sorted(listed) == sorted(f"{name}.png" for name in names)
    rows = list(zip(listed, reversed(listed), strict=True))
    write_pairs(folder / "pairs.csv", rows)
    assert read_pairs(folder / "pairs.csv", (folder, listed), (folder, listed)) == rows


@IN_PLACES_THAT_DIFFER
def test_names_that_are_no_utf8_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = write_images(tmp_path / "photos", ["x.png"])
    PHOTO.save(os.fsencode(photos) + b"/caf\xe9.png")
    for call in (
        ("select", photos, "--features", "descriptor", "--budget", 1, "--out", tmp_path / "out"),
        ("train", "cyclegan", "--a", photos, "--b", photos, *tiny("cyclegan"), "--out", tmp_path / "out"),
    ):
        assert diptych(*call) == 2
        line = said_one_line(capsys)
        assert r"photos: 'caf\udce9.png' is no UTF-8" in line
        assert "rename the file" in line
    assert not (tmp_path / "out").exists()


@IN_PLACES_THAT_DIFFER
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_a_folder_that_is_no_utf8_on_any_terminal(tmp_path: Path, encoding: str) -> None:
    place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 \xff\n"))
    photos = write_images(place / "photos", ["x.png", "\N{SNOWMAN}.png"])

    def call(*words: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "diptych", *map(str, words)],
            env=os.environ | {"PYTHONIOENCODING": f"{encoding}:strict", "PYTHONUTF8": "0"},
            capture_output=True,
            check=False,
        )

    select = ("select", photos, "--features", "descriptor", "--budget", 1, "--partners", photos, "--out")
    done = call(*select, tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"--a " + os.fsencode(tmp_path) + rb"/caf\udce9 \udcff" in done.stdout
    assert read_rows(tmp_path / "out" / "pairs.csv")
    done = call(*select, place / "out")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"is no UTF-8" in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert rb"caf\udce9 \udcff\n" in done.stderr


@IN_PLACES_THAT_DIFFER
def test_a_run_of_a_folder_that_is_no_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 \xff\n"))
    photos = write_images(place / "photos", ["x.png", "y.png"])
    words = ("--a", photos, "--b", photos, "--val-a", photos, "--val-b", photos)
    run = tmp_path / "run"
    assert diptych("train", "cyclegan", *words, *tiny("cyclegan"), "--steps", 1, "--out", run) == 0
    assert diptych("resume", run, "--steps", 2) == 0
    assert diptych("translate", run, photos, "--out", tmp_path / "out") == 0
    assert diptych("evaluate", run, "--a", photos, "--b", photos, "--out", tmp_path / "scores") == 0
    capsys.readouterr()
    run = run.rename(place / "run")
    assert diptych("resume", run, "--steps", 3) == 2
    assert "run: is no UTF-8" in said_one_line(capsys)
    assert diptych("translate", run, photos, "--out", tmp_path / "again") == 0


@pytest.mark.parametrize("text", ["one\ntwo", "a\rb\x1b[2Jc", "\udcff", "\u2028\u2029\x85", "x\0y"])
def test_an_error_is_one_line_of_what_can_be_printed(text: str) -> None:
    line = str(DiptychError(f"{text}: bad; mend it"))
    assert line.isprintable()
    assert line.endswith(": bad; mend it")
    assert str(DiptychError(line)) == line


def test_an_error_escapes_as_people_know_it() -> None:
    assert str(DiptychError("a\nb\x1b\udcffé")) == r"a\nb\x1b\udcffé"


def test_an_endless_error_keeps_its_beginning_and_its_end() -> None:
    line = str(DiptychError("begin " + "x" * 10**6 + " the way out"))
    assert len(line) < LONGEST
    assert line.startswith("begin x")
    assert line.endswith("x the way out")


@pytest.mark.parametrize(
    "name",
    ["../x.png", "/x.png", "a/../../x.png", "..", "//x.png", "x\0.png", "..\\x.png", "C:\\x.png", "\\\\host\\x.png"],
)
def test_names_that_reach_out_are_never_opened(name: str, tmp_path: Path) -> None:
    photos = write_images(tmp_path / "photos", ["x.png"])
    PHOTO.save(tmp_path / "x.png")
    (tmp_path / "pairs.csv").write_text(f"a,b\n{name},x.png\n")
    with pytest.raises(DiptychError, match=r"leads out of its folder|is not in"):
        read_pairs(tmp_path / "pairs.csv", (photos, ["x.png"]), (photos, ["x.png"]))
