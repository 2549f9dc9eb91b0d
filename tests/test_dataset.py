"""Folders, pairs and what the unpaired passes draw from; every problem of the data is found here."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diptych.dataset import Dataset, Domain, open_domain, with_pairs, with_unpaired
from diptych.errors import DiptychError
from diptych.images import Classes
from diptych.pairs import write_pairs

CLASSES = Classes((0, 7), ("sky", "road"), np.array([(70, 130, 180), (128, 64, 128)], np.uint8), None)


def folder_of(path: Path, sizes: dict[str, tuple[int, int]], value: int = 0) -> Path:
    for name, size in sizes.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, value).save(path / name)
    return path


def two_domains(names_a: list[str], names_b: list[str], size: tuple[int, int] = (8, 6)) -> Dataset:
    """A dataset of names only: nothing here reads pixels."""
    a = Domain(Path("photos"), tuple(names_a), (size,) * len(names_a))
    b = Domain(Path("labels"), tuple(names_b), (size,) * len(names_b))
    return Dataset(a, b)


def same_names(count: int) -> Dataset:
    stems = [f"{n:02d}" for n in range(count)]
    return two_domains([f"{stem}.jpg" for stem in stems], [f"{stem}.png" for stem in stems])


def complaint_of_pairs(dataset: Dataset, pairs: str) -> str:
    with pytest.raises(DiptychError) as problem:
        with_pairs(dataset, pairs, seed=0)
    assert "\n" not in str(problem.value)
    return str(problem.value)


def complaint_of_unpaired(dataset: Dataset, unpaired: str, excludes_pairs: bool = False) -> str:
    with pytest.raises(DiptychError) as problem:
        with_unpaired(dataset, unpaired, excludes_pairs, seed=0)
    assert "\n" not in str(problem.value)
    return str(problem.value)


# --- open_domain


def test_a_domain_knows_names_and_sizes(tmp_path: Path) -> None:
    folder_of(tmp_path, {"z.png": (8, 6), "a/b.png": (5, 9)})
    calls: list[tuple[int, int]] = []
    domain, skipped = open_domain(tmp_path, None, progress=lambda done, total: calls.append((done, total)))
    assert domain.names == ("a/b.png", "z.png")
    assert domain.sizes == ((5, 9), (8, 6))  # width, height
    assert domain.file(0) == tmp_path / "a" / "b.png"
    assert domain.classes is None
    assert skipped == []
    assert calls == [(1, 2), (2, 2)]


def test_sizes_are_those_of_the_upright_image(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.new("RGB", (8, 6)).save(tmp_path / "x.jpg", exif=tags)
    assert open_domain(tmp_path, None)[0].sizes == ((6, 8),)


def test_class_maps_have_sizes_and_classes(tmp_path: Path) -> None:
    folder_of(tmp_path, {"x.png": (8, 6)}, value=7)
    domain, _ = open_domain(tmp_path, CLASSES)
    assert domain.sizes == ((8, 6),)
    assert domain.classes is CLASSES


def test_a_folder_of_which_nothing_is_asked_for_is_empty(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"")
    domain, skipped = open_domain(tmp_path, CLASSES, names=[])
    assert (domain.folder, domain.names, domain.sizes, domain.classes) == (tmp_path, (), (), CLASSES)
    assert skipped == []


def test_only_the_names_asked_for_are_read(tmp_path: Path) -> None:
    folder_of(tmp_path, {"x.png": (8, 6), "y.png": (4, 4)})
    (tmp_path / "broken.png").write_bytes(b"")
    assert open_domain(tmp_path, None, names=["y.png"])[0].names == ("y.png",)


def test_unreadable_files_stop_it_and_name_the_way_out(tmp_path: Path) -> None:
    folder_of(tmp_path, {"good.png": (8, 6)})
    for name in ("bad1.png", "bad2.png", "bad3.png"):
        (tmp_path / name).write_bytes(b"no image")
    with pytest.raises(DiptychError) as problem:
        open_domain(tmp_path, None)
    message = str(problem.value)
    assert message.startswith(f"{tmp_path / 'bad1.png'}: ")
    assert message.endswith(", or --skip-unreadable (2 more files like it)")
    assert "\n" not in message


def test_no_way_out_is_named_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(DiptychError, match=r"gone\.png: no such file$"):
        open_domain(tmp_path, None, names=["gone.png"], skip_unreadable=None)


def test_skipping_keeps_the_rest_and_reports(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a.png": (8, 6), "c.png": (4, 5)})
    (tmp_path / "b.png").write_bytes(b"")
    domain, skipped = open_domain(tmp_path, None, skip_unreadable=True)
    assert domain.names == ("a.png", "c.png")
    assert domain.sizes == ((8, 6), (4, 5))
    assert len(skipped) == 1
    assert skipped[0].startswith(f"{tmp_path / 'b.png'}: ")


def test_nothing_left_after_skipping(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"")
    with pytest.raises(DiptychError, match="none of its images can be read"):
        open_domain(tmp_path, None, skip_unreadable=True)


def test_unknown_class_ids_are_never_skipped(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a.png": (8, 6)}, value=7)
    folder_of(tmp_path, {"b.png": (8, 6)}, value=9)
    with pytest.raises(DiptychError, match=r"b\.png: holds the ids 9,") as problem:
        open_domain(tmp_path, CLASSES, skip_unreadable=True)
    assert "--skip-unreadable" not in str(problem.value)


@pytest.mark.parametrize("size", [(7, 6), (8, 5)])
def test_images_smaller_than_the_crop_are_named(tmp_path: Path, size: tuple[int, int]) -> None:
    folder_of(tmp_path, {"fits.png": (8, 6), "small.png": size})
    small = f"small.png ({size[0]}x{size[1]})"
    with pytest.raises(DiptychError, match=rf"smaller than the crop of 8x6: {re.escape(small)}; give a smaller --size"):
        open_domain(tmp_path, None, smallest=(8, 6))


# --- pairs


def test_no_pairs() -> None:
    assert with_pairs(same_names(3), "none", seed=0).pairs == ()


def test_all_pairs_are_the_same_stems() -> None:
    data = two_domains(["a.jpg", "b.jpg", "x/c.jpg", "d.jpg"], ["b.png", "c.png", "d.png", "x/c.png"])
    assert with_pairs(data, "all", seed=0).pairs == ((1, 0), (3, 2), (2, 3))


def test_a_number_of_pairs_is_drawn_at_random() -> None:
    data = same_names(10)
    drawn = {seed: with_pairs(data, "3", seed).pairs for seed in range(8)}
    for pairs in drawn.values():
        assert len(set(pairs)) == 3
        assert all(i == j for i, j in pairs)
    assert len(set(drawn.values())) > 4
    assert drawn[5] == with_pairs(data, "3", 5).pairs


def test_a_number_of_pairs_may_be_0_or_all_there_are() -> None:
    assert with_pairs(same_names(4), "0", seed=0).pairs == ()
    assert with_pairs(same_names(4), "4", seed=0).pairs == ((0, 0), (1, 1), (2, 2), (3, 3))


def test_more_pairs_than_there_are() -> None:
    data = two_domains(["a.jpg", "b.jpg", "c.jpg"], ["a.png", "b.png", "z.png"])
    assert complaint_of_pairs(data, "3") == "--pairs 3: there are only 2 pairs; give a smaller number"


@pytest.mark.parametrize("pairs", ["all", "2"])
def test_no_stem_in_common(pairs: str) -> None:
    data = two_domains(["a.jpg"], ["z.png"])
    assert complaint_of_pairs(data, pairs) == (
        f"--pairs {pairs}: no image of photos has the stem of one in labels; give a CSV"
    )


def test_pairs_of_a_file(tmp_path: Path) -> None:
    data = two_domains(["a.jpg", "b.jpg", "c.jpg"], ["x.png", "y.png", "z.png"])
    write_pairs(tmp_path / "pairs.csv", [("c.jpg", "x.png"), ("a.jpg", "z.png")])
    assert with_pairs(data, str(tmp_path / "pairs.csv"), seed=0).pairs == ((2, 0), (0, 2))


def test_a_superscript_is_no_number() -> None:
    assert complaint_of_pairs(same_names(3), "²").startswith("²: cannot be read")


def test_partners_of_different_shape(tmp_path: Path) -> None:
    a = Domain(Path("photos"), ("p.jpg", "q.jpg"), ((8, 6), (8, 6)))
    b = Domain(Path("labels"), ("p.png", "q.png"), ((8, 6), (6, 8)))
    says = complaint_of_pairs(Dataset(a, b), "all")
    assert "q.jpg (8x6) and its partner " in says
    assert "q.png (6x8) have different shapes" in says
    write_pairs(tmp_path / "pairs.csv", [("p.jpg", "p.png")])
    assert with_pairs(Dataset(a, b), str(tmp_path / "pairs.csv"), seed=0).pairs == ((0, 0),)


# --- unpaired


def test_all_unpaired_with_and_without_the_pairs() -> None:
    data = with_pairs(two_domains(["a.jpg", "b.jpg", "c.jpg"], ["b.png", "x.png"]), "all", seed=0)
    assert data.pairs == ((1, 0),)
    both = with_unpaired(data, "all", False, seed=0)
    assert (both.unpaired_a, both.unpaired_b) == ((0, 1, 2), (0, 1))
    rest = with_unpaired(data, "all", True, seed=0)
    assert (rest.unpaired_a, rest.unpaired_b) == ((0, 2), (1,))
    assert rest.pairs == data.pairs


def paired(data: Dataset, *pairs: tuple[int, int]) -> Dataset:
    return Dataset(data.a, data.b, pairs=pairs)


def test_a_number_caps_each_side_and_includes_the_pairs() -> None:
    data = paired(same_names(30), (3, 4), (20, 29))
    for seed in range(5):
        drawn = with_unpaired(data, "10", False, seed)
        assert len(set(drawn.unpaired_a)) == len(set(drawn.unpaired_b)) == 10
        assert {3, 20} <= set(drawn.unpaired_a)
        assert {4, 29} <= set(drawn.unpaired_b)


def test_a_number_without_the_pairs() -> None:
    data = paired(same_names(12), (3, 4), (10, 11))
    drawn = with_unpaired(data, "10", True, seed=0)
    assert drawn.unpaired_a == (0, 1, 2, 4, 5, 6, 7, 8, 9, 11)
    assert drawn.unpaired_b == (0, 1, 2, 3, 5, 6, 7, 8, 9, 10)


def test_the_cap_holds_below_the_number_of_pairs() -> None:
    data = paired(same_names(8), (0, 0), (2, 2), (4, 4), (6, 6))
    drawn = with_unpaired(data, "3", False, seed=0)
    assert len(drawn.unpaired_a) == len(drawn.unpaired_b) == 3
    assert set(drawn.unpaired_a) <= {0, 2, 4, 6}


def test_a_number_is_a_cap_that_a_smaller_side_need_not_reach() -> None:
    data = two_domains(["a.jpg", "b.jpg", "c.jpg", "d.jpg"], ["a.png", "b.png"])
    drawn = with_unpaired(data, "3", False, seed=0)
    assert len(drawn.unpaired_a) == 3
    assert drawn.unpaired_b == (0, 1)


def test_the_sides_are_drawn_independently() -> None:
    data = same_names(30)
    drawn = [with_unpaired(data, "15", False, seed) for seed in range(20)]
    in_common = [len(set(one.unpaired_a) & set(one.unpaired_b)) for one in drawn]
    # The partner of a chosen image is chosen in half of the cases, neither always nor never.
    assert 6 < np.mean(in_common) < 9
    assert len({one.unpaired_a for one in drawn}) == 20
    assert with_unpaired(data, "15", False, 3).unpaired_b == drawn[3].unpaired_b


def test_none_unpaired() -> None:
    drawn = with_unpaired(paired(same_names(5), (1, 1)), "0", False, seed=0)
    assert (drawn.unpaired_a, drawn.unpaired_b) == ((), ())


def test_an_unpaired_file_with_both_columns(tmp_path: Path) -> None:
    write_pairs(tmp_path / "u.csv", [("05.jpg", "01.png"), ("02.jpg", ""), ("", "03.png"), ("05.jpg", "04.png")])
    data = paired(same_names(9), (8, 7))
    drawn = with_unpaired(data, str(tmp_path / "u.csv"), False, seed=0)
    assert (drawn.unpaired_a, drawn.unpaired_b) == ((2, 5, 8), (1, 3, 4, 7))
    drawn = with_unpaired(data, str(tmp_path / "u.csv"), True, seed=0)
    assert (drawn.unpaired_a, drawn.unpaired_b) == ((2, 5), (1, 3, 4))


def test_an_unpaired_file_without_partners_leaves_side_b_to_chance(tmp_path: Path) -> None:
    write_pairs(tmp_path / "u.csv", [(f"{n:02d}.jpg", "") for n in range(6)])
    data = paired(same_names(20), (0, 19), (5, 18))
    drawn = [with_unpaired(data, str(tmp_path / "u.csv"), False, seed) for seed in range(5)]
    assert {one.unpaired_a for one in drawn} == {(0, 1, 2, 3, 4, 5)}
    assert {len(one.unpaired_b) for one in drawn} == {6}
    assert all({18, 19} <= set(one.unpaired_b) for one in drawn)
    assert len({one.unpaired_b for one in drawn}) > 1


def test_an_unpaired_file_of_everything_without_the_pairs(tmp_path: Path) -> None:
    write_pairs(tmp_path / "u.csv", [(f"{n:02d}.jpg", "") for n in range(6)])
    drawn = with_unpaired(paired(same_names(6), (0, 0), (5, 5)), str(tmp_path / "u.csv"), True, seed=0)
    assert (drawn.unpaired_a, drawn.unpaired_b) == ((1, 2, 3, 4), (1, 2, 3, 4))


def test_an_unpaired_file_that_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "u.csv"
    write_pairs(path, [("00.jpg", "00.png"), ("00.jpg", "77.png")])
    assert complaint_of_unpaired(same_names(3), str(path)).startswith(f"{path}: 77.png is not in labels")
    write_pairs(path, [])
    assert complaint_of_unpaired(same_names(3), str(path)).startswith(f"{path}: lists no image")


def test_one_side_without_unpaired_images() -> None:
    data = paired(two_domains(["a.jpg", "b.jpg"], ["a.png"]), (0, 0))
    assert complaint_of_unpaired(data, "all", excludes_pairs=True).startswith(
        "--unpaired all: leaves no unpaired image"
    )


# --- unpaired images from elsewhere


def with_elsewhere(data: Dataset, a: list[str] | None = None, b: list[str] | None = None) -> Dataset:
    """The same dataset, its unpaired images in folders of their own and of another size."""
    sides = {"a": ("wild", a), "b": ("synthetic", b)}
    folders = {
        side: None if names is None else Domain(Path(folder), tuple(names), ((5, 7),) * len(names))
        for side, (folder, names) in sides.items()
    }
    return replace(data, elsewhere_a=folders["a"], elsewhere_b=folders["b"])


def test_the_unpaired_domain_is_the_pairs_own_unless_it_is_elsewhere() -> None:
    data = with_elsewhere(same_names(2), b=["x.png"])
    assert data.unpaired_domain("a") is data.a
    assert data.unpaired_domain("b") is data.elsewhere_b
    assert data.unpaired_domain("b").file(0) == Path("synthetic/x.png")


@pytest.mark.parametrize("excludes_pairs", [False, True])
def test_all_from_elsewhere(excludes_pairs: bool) -> None:
    data = with_elsewhere(paired(same_names(3), (1, 0)), b=["v.png", "w.png", "x.png", "y.png", "z.png"])
    drawn = with_unpaired(data, "all", excludes_pairs, seed=0)
    assert drawn.unpaired_a == ((0, 2) if excludes_pairs else (0, 1, 2))
    assert drawn.unpaired_b == (0, 1, 2, 3, 4)  # place 0 is no paired image here
    assert drawn.pairs == ((1, 0),)


def test_a_number_from_elsewhere_holds_no_pairs() -> None:
    data = with_elsewhere(paired(same_names(10), (7, 7), (8, 8)), a=[f"{n}.jpg" for n in range(30)])
    drawn = [with_unpaired(data, "4", False, seed) for seed in range(12)]
    assert {len(set(one.unpaired_a)) for one in drawn} == {4}
    assert max(max(one.unpaired_a) for one in drawn) >= 10
    assert not any({7, 8} <= set(one.unpaired_a) for one in drawn)
    assert all({7, 8} <= set(one.unpaired_b) for one in drawn)


def test_the_cap_holds_for_a_small_folder_elsewhere() -> None:
    drawn = with_unpaired(with_elsewhere(same_names(10), a=["x.jpg", "y.jpg"]), "4", False, seed=0)
    assert drawn.unpaired_a == (0, 1)
    assert len(drawn.unpaired_b) == 4


def test_an_unpaired_file_names_images_of_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "u.csv"
    write_pairs(path, [("04.jpg", "z.png"), ("02.jpg", "x.png")])
    data = with_elsewhere(paired(same_names(6), (0, 1)), b=["x.png", "y.png", "z.png"])
    drawn = with_unpaired(data, str(path), False, seed=0)
    assert (drawn.unpaired_a, drawn.unpaired_b) == ((0, 2, 4), (0, 2))
    write_pairs(path, [("04.jpg", "nowhere.png")])
    assert complaint_of_unpaired(data, str(path)).startswith(f"{path}: nowhere.png is not in synthetic")


def test_an_unpaired_file_without_partners_leaves_elsewhere_to_chance(tmp_path: Path) -> None:
    write_pairs(tmp_path / "u.csv", [("00.jpg", ""), ("01.jpg", ""), ("02.jpg", "")])
    data = with_elsewhere(paired(same_names(6), (0, 1)), b=[f"{n}.png" for n in range(9)])
    drawn = [with_unpaired(data, str(tmp_path / "u.csv"), False, seed) for seed in range(6)]
    assert {one.unpaired_a for one in drawn} == {(0, 1, 2)}
    assert {len(set(one.unpaired_b)) for one in drawn} == {3}
    assert len({one.unpaired_b for one in drawn}) > 1


# --- the record


def test_the_record_holds_names() -> None:
    data = two_domains(["a.jpg", "b.jpg", "c.jpg"], ["x.png", "y.png"])
    record = Dataset(data.a, data.b, pairs=((2, 0), (1, 1)), unpaired_a=(0, 2), unpaired_b=(1,)).to_record()
    assert record == {
        "pairs": [["c.jpg", "x.png"], ["b.jpg", "y.png"]],
        "unpaired_a": ["a.jpg", "c.jpg"],
        "unpaired_b": ["y.png"],
        "bits": {"a": 8, "b": 8},
    }


def test_the_record_holds_the_names_of_elsewhere() -> None:
    data = with_elsewhere(two_domains(["a.jpg"], ["x.png"]), a=["v.jpg", "w.jpg"], b=["x.png", "z.png"])
    record = replace(data, pairs=((0, 0),), unpaired_a=(1,), unpaired_b=(0, 1)).to_record()
    del record["bits"]
    assert record == {"pairs": [["a.jpg", "x.png"]], "unpaired_a": ["w.jpg"], "unpaired_b": ["x.png", "z.png"]}


def test_a_cap_below_the_number_of_pairs_keeps_a_random_part_of_them() -> None:
    data = paired(same_names(40), *((n, n) for n in range(40)))
    drawn = [with_unpaired(data, "5", False, seed=seed) for seed in range(3)]
    assert all(len(one.unpaired_a) == len(one.unpaired_b) == 5 for one in drawn)
    assert len({one.unpaired_a for one in drawn}) == 3
    assert drawn[0].unpaired_a != drawn[0].unpaired_b


def test_an_unpaired_file_that_names_the_pairs_own_images_draws_as_many_elsewhere(tmp_path: Path) -> None:
    write_pairs(tmp_path / "u.csv", [("05.jpg", "05.png"), ("02.jpg", "02.png"), ("03.jpg", "03.png")])
    own = paired(same_names(9), (8, 7))
    labels = two_domains(["x.jpg"], [f"label{n}.png" for n in range(20)]).b
    data = replace(own, elsewhere_b=labels)
    drawn = [with_unpaired(data, str(tmp_path / "u.csv"), False, seed=seed) for seed in range(3)]
    assert all(one.unpaired_a == (2, 3, 5, 8) for one in drawn)
    assert all(len(one.unpaired_b) == 3 for one in drawn)
    assert len({one.unpaired_b for one in drawn}) == 3
