"""pairs.csv: written, read back, and every way in which it can be wrong."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.errors import DiptychError
from diptych.pairs import read_pairs, read_rows, same_stem, write_pairs

A = (Path("photos"), ["one.jpg", "two.jpg", "three.jpg"])
B = (Path("labels"), ["one.png", "two.png", "deep/three.png"])


def pairs_file(folder: Path, text: str | bytes) -> Path:
    path = folder / "pairs.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def complaint(path: Path) -> str:
    with pytest.raises(DiptychError) as problem:
        read_pairs(path, A, B)
    message = str(problem.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


# --- same_stem


def test_same_stem_minds_folders_and_inner_dots() -> None:
    names = ["x.jpg", "a/x.jpg", "b/y.jpg", "z.0.jpg", "lonely.jpg"]
    others = ["a/x.png", "x.png", "c/y.png", "z.0.tif", "z.1.tif", "z.png"]
    assert same_stem(names, others, Path("labels")) == {"x.jpg": "x.png", "a/x.jpg": "a/x.png", "z.0.jpg": "z.0.tif"}


def test_same_stem_refuses_two_partners_for_one_image() -> None:
    with pytest.raises(DiptychError, match=r"^labels: x\.png, x\.tif have the same stem; keep one of them$"):
        same_stem(["x.jpg"], ["w.png", "x.png", "x.tif"], Path("labels"))


def test_same_stem_refuses_two_images_for_one_partner() -> None:
    with pytest.raises(DiptychError, match=r"^x\.jpg, x\.tif have the same stem; keep one of them$"):
        same_stem(["x.jpg", "x.tif"], ["x.png"], Path("labels"))


def test_same_stem_lets_files_be_that_nobody_asks_for() -> None:
    assert same_stem(["x.jpg"], ["x.png", "w.png", "w.tif"], Path("labels")) == {"x.jpg": "x.png"}


# --- writing and reading back


def test_the_written_file_is_plain(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.csv", [("one.jpg", "one.png"), ("two.jpg", "")])
    assert (tmp_path / "pairs.csv").read_bytes() == b"a,b\none.jpg,one.png\ntwo.jpg,\n"


NASTY = [
    "a,b.png",
    'the "best".png',
    "two\nlines.png",
    "two\r\nlines.png",
    "a,\"\n,'.png",
    "café/ñ.png",
    "=1+1.png",
    "a;b\tc.png",
    "#.png",
]


def test_nasty_names_are_read_back(tmp_path: Path) -> None:
    rows = [*zip(NASTY, reversed(NASTY), strict=True), ("waiting.png", "")]
    write_pairs(tmp_path / "pairs.csv", rows)
    assert read_rows(tmp_path / "pairs.csv") == rows
    write_pairs(tmp_path / "pairs.csv", rows[:-1])
    assert read_pairs(tmp_path / "pairs.csv", (Path("photos"), NASTY), (Path("labels"), NASTY)) == rows[:-1]


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\r/."), min_size=1), unique=True, max_size=5)
)
def test_any_names_are_read_back(tmp_path_factory: pytest.TempPathFactory, stems: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "any_pairs.csv"
    # Names of images: a suffix at the end, and no blank at the front, where a person's blank is forgiven.
    rows = [(f"a{stem}.png", f"b{stem}.jpg") for stem in stems]
    write_pairs(path, rows)
    assert read_rows(path) == rows


def test_spreadsheets_are_understood(tmp_path: Path) -> None:
    text = "\ufeffa,note,b\r\n one.jpg ,first, one.png\r\n,,\r\ntwo.jpg,,two.png\r\n"
    assert read_pairs(pairs_file(tmp_path, text), A, B) == [("one.jpg", "one.png"), ("two.jpg", "two.png")]


def test_rows_may_wait_for_a_partner_or_lack_the_column(tmp_path: Path) -> None:
    assert read_rows(pairs_file(tmp_path, "a\none.jpg\ntwo.jpg\n")) == [("one.jpg", ""), ("two.jpg", "")]
    assert read_rows(pairs_file(tmp_path, "a,b\none.jpg\n,two.png\n")) == [("one.jpg", ""), ("", "two.png")]
    assert read_rows(pairs_file(tmp_path, "a,b\n")) == []


def test_a_row_given_twice_counts_once(tmp_path: Path) -> None:
    path = pairs_file(tmp_path, "a,b\ntwo.jpg,two.png\none.jpg,one.png\ntwo.jpg,two.png\n")
    assert read_pairs(path, A, B) == [("two.jpg", "two.png"), ("one.jpg", "one.png")]


# --- what can be wrong


def test_an_absent_file_is_named_with_the_nearest_there_is(tmp_path: Path) -> None:
    says = complaint(pairs_file(tmp_path, "a,b\nthee.jpg,one.png\n"))
    assert says == "thee.jpg is not in photos; did you mean 'three.jpg'?"
    says = complaint(pairs_file(tmp_path, "a,b\nthree.jpg,three.png\n"))
    assert says == "three.png is not in labels; did you mean 'deep/three.png'?"


def test_absent_files_unlike_any_are_named_three_at_most(tmp_path: Path) -> None:
    text = "a,b\n" + "".join(f"QQQQQQQQ{n},one.png\n" for n in range(5))
    says = complaint(pairs_file(tmp_path, text))
    assert says == "QQQQQQQQ0, QQQQQQQQ1, QQQQQQQQ2 and 2 more is not in photos; mend the name or add the file"


@pytest.mark.parametrize("row", ["two.jpg,", "two.jpg", ",two.jpg", "two.jpg,  "])
def test_an_empty_partner(tmp_path: Path, row: str) -> None:
    says = complaint(pairs_file(tmp_path, f"a,b\none.jpg,one.png\n{row}\n"))
    assert says == "no partner for two.jpg; fill column b or take the line out"


def test_an_image_with_two_partners_on_either_side(tmp_path: Path) -> None:
    says = complaint(pairs_file(tmp_path, "a,b\none.jpg,one.png\ntwo.jpg,two.png\none.jpg,two.png\n"))
    assert says == "one.jpg is listed with different partners (one.png, two.png); keep one"
    says = complaint(pairs_file(tmp_path, "a,b\none.jpg,one.png\ntwo.jpg,two.png\nthree.jpg,one.png\n"))
    assert says == "one.png is listed with different partners (one.jpg, three.jpg); keep one"


@pytest.mark.parametrize("name", ["../one.jpg", "x/../../one.jpg", "/one.jpg", "..", "one\0.jpg"])
@pytest.mark.parametrize("row", ["{},one.png", "one.jpg,{}"])
def test_names_that_lead_out_of_the_folder(tmp_path: Path, name: str, row: str) -> None:
    says = complaint(pairs_file(tmp_path, "a,b\n" + row.format(name) + "\n"))
    assert says == f"{name!r} leads out of its folder; give names relative to it"


def test_two_dots_within_a_name_lead_nowhere(tmp_path: Path) -> None:
    assert read_rows(pairs_file(tmp_path, "a,b\nx..y/..one.jpg,one..png\n")) == [("x..y/..one.jpg", "one..png")]


def test_a_missing_column(tmp_path: Path) -> None:
    for text in ("", "one.jpg,one.png\n", "A,b\none.jpg,one.png\n"):
        assert complaint(pairs_file(tmp_path, text)) == "has no column a; its first line must be a,b"
    assert complaint(pairs_file(tmp_path, "a,partner\none.jpg,one.png\n")).startswith("no partner for one.jpg;")


def test_no_pair_at_all(tmp_path: Path) -> None:
    assert complaint(pairs_file(tmp_path, "a,b\n,\n")) == "lists no pair; complete it, or train with --pairs none"


def test_a_file_that_is_missing_or_no_text(tmp_path: Path) -> None:
    assert complaint(tmp_path / "none.csv").startswith("cannot be read (")
    assert complaint(pairs_file(tmp_path, "a,b\ncafé.jpg,x.png\n".encode("latin-1"))).startswith("cannot be read (")
    assert complaint(pairs_file(tmp_path, "a,b\none.jpg,one.png\n".encode("utf-16"))).startswith("cannot be read (")
    assert complaint(tmp_path).startswith("cannot be read (")


def test_semicolons_of_a_spreadsheet_are_read(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("a;b\nx,1.jpg;y.png\n")
    assert read_rows(tmp_path / "pairs.csv") == [("x,1.jpg", "y.png")]


# --- files that someone else has made


def test_blanks_at_the_front_are_a_part_of_the_name_behind_a_dot(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.csv", [(" one.png", "\ttwo.png")])
    assert (tmp_path / "pairs.csv").read_bytes() == b"a,b\n./ one.png,./\ttwo.png\n"
    assert read_rows(tmp_path / "pairs.csv") == [(" one.png", "\ttwo.png")]
    assert read_rows(pairs_file(tmp_path, "a,b\n one.png ,\ttwo.png\n")) == [("one.png", "two.png")]


def test_a_lone_carriage_return_within_a_name_is_quoted(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.csv", [("one\rtwo.png", "x.png"), ("y.png", "z.png")])
    assert (tmp_path / "pairs.csv").read_bytes() == b'a,b\n"one\rtwo.png","x.png"\ny.png,z.png\n'
    assert read_rows(tmp_path / "pairs.csv") == [("one\rtwo.png", "x.png"), ("y.png", "z.png")]


def test_needless_steps_are_taken_out(tmp_path: Path) -> None:
    assert read_rows(pairs_file(tmp_path, "a,b\n./one.png,x//./y.png\none.png,x/y.png\n")) == [("one.png", "x/y.png")]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_lines_may_end_as_on_any_machine(tmp_path: Path, ends: str, mark: str) -> None:
    path = pairs_file(tmp_path, mark + ends.join(["a,b", "one.jpg,one.png", "two.jpg,", ""]))
    assert read_rows(path) == [("one.jpg", "one.png"), ("two.jpg", "")]


def test_a_column_given_twice_counts_as_it_stands_last(tmp_path: Path) -> None:
    assert read_rows(pairs_file(tmp_path, "a,b,a\none.jpg,one.png,two.jpg\n")) == [("two.jpg", "one.png")]


HOSTILE = {
    "an endless line": b"a,b\n" + b"x" * 2**20,
    "an endless first line": b"x" * 2**20,
    "an open quote": b'a,b\n"' + b"x,y\n" * 2**18,
    "UTF-32": "a,b\none.jpg,one.png\n".encode("utf-32"),
    "bytes": bytes(range(256)),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_no_table_is_refused(tmp_path: Path, what: str) -> None:
    assert complaint(pairs_file(tmp_path, HOSTILE[what])).startswith("cannot be read (")


def test_a_hundred_megabytes_in_one_line(tmp_path: Path) -> None:
    assert complaint(pairs_file(tmp_path, b"a," + b"x" * 10**8)).startswith("cannot be read (field larger than")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert complaint(tmp_path / "pipe") == "cannot be read (pipe: is no file); give a CSV with the columns a,b"
    assert complaint(Path("/dev/zero")).startswith("cannot be read (")


def test_names_of_another_system_are_just_absent(tmp_path: Path) -> None:
    for name in ("..\\one.jpg", "C:\\one.jpg", "C:one.jpg", "\\\\host\\one.jpg"):
        says = complaint(pairs_file(tmp_path, f"a,b\n{name},one.png\n"))
        assert "is not in photos" in says or "leads out of its folder" in says


def test_names_of_another_case_or_form_are_others(tmp_path: Path) -> None:
    assert "did you mean 'one.jpg'?" in complaint(pairs_file(tmp_path, "a,b\nONE.jpg,one.png\n"))
    composed, taken_apart = "caf\u00e9.png", "cafe\u0301.png"
    rows = [(composed, taken_apart), (taken_apart, composed)]
    with pytest.raises(DiptychError, match=r"is not in a; did you mean 'cafe\\u0301\.png'\?"):
        read_pairs(pairs_file(tmp_path, f"a,b\n{composed},x.png\n"), (Path("a"), [taken_apart]), (Path("b"), ["x.png"]))
    write_pairs(tmp_path / "pairs.csv", rows)
    assert read_pairs(tmp_path / "pairs.csv", (Path("a"), rows[0]), (Path("b"), rows[0])) == rows


def test_names_may_be_those_from_the_folder_of_the_file(tmp_path: Path) -> None:
    path = pairs_file(tmp_path, "a,b\nphotos/x/1.png,maps/2.png\nphotos/3.png,maps/4.png\n")
    a, b = (tmp_path / "photos", ["3.png", "x/1.png"]), (tmp_path / "maps", ["2.png", "4.png"])
    assert read_pairs(path, a, b) == [("x/1.png", "2.png"), ("3.png", "4.png")]
    with pytest.raises(DiptychError, match=r": 4\.png is not in .*maps"):  # the one that is absent alone
        read_pairs(path, a, (tmp_path / "maps", ["2.png"]))
    with pytest.raises(DiptychError, match=r"photos/x/1\.png, photos/3\.png is not in"):  # a folder elsewhere
        read_pairs(path, (tmp_path / "other", ["3.png", "x/1.png"]), b)


def test_names_from_the_images_own_folder_go_first(tmp_path: Path) -> None:
    path = pairs_file(tmp_path, "a,b\nphotos/1.png,2.png\n")
    a, b = (tmp_path / "photos", ["1.png", "photos/1.png"]), (tmp_path / "maps", ["2.png"])
    assert read_pairs(path, a, b) == [("photos/1.png", "2.png")]
