"""Batches are a function of seed and step; pixels that hold their own coordinates show where each row was cropped."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from diptych.batches import Batch, Batches, Mixed, Passes, Rows, rhythm_of
from diptych.dataset import Dataset, Domain
from diptych.decoded import Decoded, InMemory, OnDisk
from diptych.images import Classes, PixelFormat, write_pixels

WIDTH, HEIGHT, JITTER = 8, 6, 1.5
LOAD = (12, 9)  # width and height before the crop


def coordinates(path: Path, number: int, size: tuple[int, int] = LOAD) -> None:
    """Red is 10 x, green is 10 y, blue is the image's number."""
    y, x = np.mgrid[: size[1], : size[0]]
    Image.fromarray(np.stack([10 * x, 10 * y, np.full_like(x, number)], -1).astype(np.uint8)).save(path)


def make_dataset(
    root: Path,
    counts: tuple[int, int] = (5, 7),
    pairs: Sequence[tuple[int, int]] = (),
    unpaired: bool = True,
    size: tuple[int, int] = LOAD,
) -> Dataset:
    """Image i of domain a has the number i, image j of domain b has 100 + j."""
    domains = []
    for side, count, first in (("a", counts[0], 0), ("b", counts[1], 100)):
        (root / side).mkdir()
        names = tuple(f"{n}.png" for n in range(count))
        for n, name in enumerate(names):
            coordinates(root / side / name, first + n, size)
        domains.append(Domain(root / side, names, (size,) * count))
    everything = [tuple(range(count)) if unpaired else () for count in counts]
    return Dataset(*domains, pairs=tuple(pairs), unpaired_a=everything[0], unpaired_b=everything[1])


def in_memory(budget: int) -> Decoded:
    return Decoded(budget, InMemory())


def make_batches(dataset: Dataset, rhythm: str, **settings: Any) -> Batches:
    settings = {"batch_size": 2, "seed": 3, "jitter": JITTER, "decoded": in_memory(10**6)} | settings
    larger_side = max(len(dataset.unpaired_a), len(dataset.unpaired_b))
    order = rhythm_of(rhythm, len(dataset.pairs), larger_side, settings["batch_size"], paired_steps=3)
    return Batches(dataset, order, (WIDTH, HEIGHT), **settings)


def bytes_of(images: Tensor) -> NDArray[np.int64]:
    """(B, 3, H, W) in [-1, 1] -> the whole numbers 0..255 that the files held."""
    values = (images.numpy().astype(np.float64) + 1) * 127.5
    assert np.abs(values - values.round()).max() < 1e-3
    return values.round().astype(np.int64)


def crops(images: Tensor) -> list[tuple[int, int, bool, int]]:
    """(left, top, flipped, number) of every row, having checked that the row is exactly that crop of that image."""
    found = []
    for red, green, blue in bytes_of(images):
        flipped = bool(red[0, 0] > red[0, -1])
        upright = red[:, ::-1] if flipped else red
        left, top = int(upright[0, 0]) // 10, int(green[0, 0]) // 10
        assert (upright == 10 * (left + np.arange(WIDTH))).all()
        assert (green == 10 * (top + np.arange(HEIGHT))[:, None]).all()
        assert (blue == blue[0, 0]).all()
        found.append((left, top, flipped, int(blue[0, 0])))
    return found


def numbers(batches: Batches, steps: int) -> tuple[list[int], list[int]]:
    """The images of steps 0 .. steps - 1, in order, of either side."""
    rows: tuple[list[int], list[int]] = [], []
    for step in range(steps):
        batch = batches.at(step)
        rows[0].extend(crop[3] for crop in crops(batch.a))
        rows[1].extend(crop[3] - 100 for crop in crops(batch.b))
    return rows


# --- rows


def test_a_batch_is_batch_channels_height_width(tmp_path: Path) -> None:
    batch = make_batches(make_dataset(tmp_path), "unpaired", batch_size=3).at(0)
    assert batch.a.shape == batch.b.shape == (3, 3, HEIGHT, WIDTH)
    assert batch.a.dtype == batch.b.dtype == torch.float32
    assert batch.a.min() >= -1
    assert batch.a.max() <= 1
    assert batch.n_pairs == 0


def test_a_pair_shares_its_crop_and_its_flip(tmp_path: Path) -> None:
    pairs = [(0, 6), (2, 1), (4, 0)]
    batches = make_batches(make_dataset(tmp_path, pairs=pairs), "pairs")
    places = set()
    for step in range(60):
        batch = batches.at(step)
        assert batch.n_pairs == 2
        for (*where, i), (*where_b, j) in zip(crops(batch.a), crops(batch.b), strict=True):
            assert where == where_b
            assert (i, j - 100) in pairs
            places.add(tuple(where))
    # Every place the crop can take, to the last row and column, and both ways round.
    assert {left for left, _, _ in places} == {0, 1, 2, 3, 4}
    assert {top for _, top, _ in places} == {0, 1, 2, 3}
    assert {flipped for _, _, flipped in places} == {False, True}


def test_unpaired_sides_are_independent(tmp_path: Path) -> None:
    batches = make_batches(make_dataset(tmp_path, counts=(6, 6)), "unpaired")
    rows = []
    for step in range(60):
        batch = batches.at(step)
        rows += list(zip(crops(batch.a), crops(batch.b), strict=True))
    same = np.array([[of_a == of_b for of_a, of_b in zip(a, b, strict=True)] for a, b in rows])
    flipped = np.array([[a[2], b[2]] for a, b in rows])
    partners = np.mean([a[3] == b[3] - 100 for a, b in rows])
    # By chance: left agrees in 1/5 of 120 rows, top in 1/4, the flip in 1/2, and the images in 1/6.
    assert 0.05 < same[:, 0].mean() < 0.4
    assert 0.1 < same[:, 1].mean() < 0.45
    assert 0.35 < same[:, 2].mean() < 0.65
    assert partners < 0.4
    assert 0.35 < flipped[:, 0].mean() < 0.65
    assert 0.35 < flipped[:, 1].mean() < 0.65


def test_nothing_is_flipped_where_flips_are_off(tmp_path: Path) -> None:
    batches = make_batches(make_dataset(tmp_path, pairs=[(0, 0)]), "passes", flip=False)
    for step in range(20):
        batch = batches.at(step)
        assert not any(flipped for _, _, flipped, _ in crops(batch.a) + crops(batch.b))


def test_jitter_1_leaves_the_crop_no_freedom(tmp_path: Path) -> None:
    data = make_dataset(tmp_path, size=(WIDTH, HEIGHT))
    batches = make_batches(data, "unpaired", jitter=1)
    for step in range(10):
        batch = batches.at(step)
        assert {crop[:2] for crop in crops(batch.a) + crops(batch.b)} == {(0, 0)}


def test_images_are_loaded_at_the_papers_286_of_256() -> None:
    data = Dataset(Domain(Path("a"), (), ()), Domain(Path("b"), (), ()))
    pairs = Passes(1, 1, 0)
    assert Batches(data, pairs, (256, 256), batch_size=1, seed=0, decoded=in_memory(0)).load_size == (286, 286)
    # 128 * 286 / 256 = 143 and 96 * 286 / 256 = 107.25.
    assert Batches(data, pairs, (128, 96), batch_size=1, seed=0, decoded=in_memory(0)).load_size == (143, 107)


def test_images_of_any_size_are_resized_before_the_crop(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    # Twice as large in one direction only; left half dark, right half light.
    halves = np.zeros((LOAD[1], 2 * LOAD[0], 3), np.uint8)
    halves[:, LOAD[0] :] = 200
    Image.fromarray(halves).save(tmp_path / "a" / "x.png")
    domain = Domain(tmp_path / "a", ("x.png",), ((24, 9),))
    data = Dataset(domain, domain, pairs=((0, 0),))
    pairs = Passes(1, 1, 0)
    batches = Batches(data, pairs, LOAD, batch_size=1, seed=0, jitter=1, flip=False, decoded=in_memory(0))
    values = bytes_of(batches.at(0).a)[0]
    assert values.shape == (3, 9, 12)
    assert (values[..., :4] == 0).all()
    assert (values[..., 8:] == 200).all()


# --- order


def test_every_image_comes_once_before_any_comes_again(tmp_path: Path) -> None:
    of_a, of_b = numbers(make_batches(make_dataset(tmp_path, counts=(5, 7)), "unpaired"), steps=35)
    turns_a = [of_a[start : start + 5] for start in range(0, 70, 5)]
    turns_b = [of_b[start : start + 7] for start in range(0, 70, 7)]
    assert all(sorted(turn) == [0, 1, 2, 3, 4] for turn in turns_a)
    assert all(sorted(turn) == [0, 1, 2, 3, 4, 5, 6] for turn in turns_b)
    # And each turn in an order of its own.
    assert len({tuple(turn) for turn in turns_a}) > 8
    assert len({tuple(turn) for turn in turns_b}) > 8


def test_every_pair_comes_once_before_any_comes_again(tmp_path: Path) -> None:
    pairs = [(0, 6), (2, 1), (4, 0)]
    of_a, of_b = numbers(make_batches(make_dataset(tmp_path, pairs=pairs), "pairs"), steps=12)
    rows = list(zip(of_a, of_b, strict=True))
    for start in range(0, 24, 3):
        assert sorted(rows[start : start + 3]) == pairs


def test_only_the_unpaired_images_of_the_dataset_are_drawn(tmp_path: Path) -> None:
    data = make_dataset(tmp_path)
    few = Dataset(data.a, data.b, unpaired_a=(1, 3), unpaired_b=(0, 5, 6))
    of_a, of_b = numbers(make_batches(few, "unpaired"), steps=6)
    assert (set(of_a), set(of_b)) == ({1, 3}, {0, 5, 6})


def assert_same(one: Batch, other: Batch) -> None:
    assert one.n_pairs == other.n_pairs
    assert torch.equal(one.a, other.a)
    assert torch.equal(one.b, other.b)


def test_a_batch_depends_on_seed_and_step_alone(tmp_path: Path) -> None:
    data = make_dataset(tmp_path, pairs=[(0, 6), (2, 1), (4, 0)])
    forwards, backwards = make_batches(data, "passes"), make_batches(data, "passes")
    steps = range(25)
    batches = {step: forwards.at(step) for step in steps}
    for step in reversed(steps):
        assert_same(backwards.at(step), batches[step])
    assert_same(forwards.at(7), batches[7])
    assert_same(make_batches(data, "passes").at(24), batches[24])


def test_another_seed_gives_other_batches(tmp_path: Path) -> None:
    data = make_dataset(tmp_path)
    one, other = make_batches(data, "unpaired", seed=3), make_batches(data, "unpaired", seed=4)
    assert numbers(one, 10) != numbers(other, 10)
    places = [[crop[:3] for step in range(10) for crop in crops(batches.at(step).a)] for batches in (one, other)]
    assert places[0] != places[1]


# --- memory


def test_no_memory_gives_the_same_batches(tmp_path: Path) -> None:
    data = make_dataset(tmp_path, pairs=[(0, 6), (2, 1)])
    kept, read = make_batches(data, "passes"), make_batches(data, "passes", decoded=in_memory(0))
    # Room for two images of 12 x 9 x 3 bytes.
    some = make_batches(data, "passes", decoded=in_memory(700))
    on_disk = make_batches(data, "passes", decoded=Decoded(10**6, OnDisk(tmp_path)))
    for step in range(15):
        assert_same(read.at(step), kept.at(step))
        assert_same(some.at(step), kept.at(step))
        assert_same(on_disk.at(step), kept.at(step))
    assert [len(batches.decoded.kept) for batches in (read, some, kept, on_disk)] == [0, 2, 12, 12]
    assert kept.footprints() == [12 * 9 * 3] * 12


def test_images_are_read_once_while_they_fit(tmp_path: Path) -> None:
    data = make_dataset(tmp_path, pairs=[(0, 6)])
    kept, read = make_batches(data, "pairs"), make_batches(data, "pairs", decoded=in_memory(0))
    before = kept.at(0)
    read.at(0)
    coordinates(data.a.file(0), 50)
    assert_same(kept.at(0), before)
    assert {crop[3] for crop in crops(read.at(0).a)} == {50}


# --- rhythm


@pytest.mark.parametrize(
    ("pairs", "unpaired", "batch_size", "balance", "steps"),
    [
        (20, 200, 2, None, (100, 100)),  # 10 times 20 pairs
        (3, 10, 2, None, (5, 5)),
        (1, 10, 2, None, (5, 5)),  # 10 times 1 pair
        (150, 200, 1, None, (200, 200)),  # neither once nor twice would balance
        (1, 1, 4, None, (1, 1)),
        (7, 7, 2, None, (4, 4)),
        (10, 4, 2, None, (5, 2)),  # more pairs than unpaired: once all pairs
        (3, 7, 1, None, (7, 7)),
        (20, 200, 1, 1.0, (20, 200)),  # unbalanced
        (21, 200, 2, 1.0, (11, 100)),
        (20, 200, 1, 10.0, (200, 200)),
        (5, 9, 2, 2.5, (8, 5)),  # 3 steps 2.5 times, to the nearest even
        (5, 9, 2, 0.1, (1, 5)),  # never none
    ],
)
def test_passes(pairs: int, unpaired: int, batch_size: int, balance: float | None, steps: tuple[int, int]) -> None:
    assert rhythm_of("passes", pairs, unpaired, batch_size, balance=balance) == Passes(batch_size, *steps)


def test_the_paired_pass_comes_first_and_counts_go_on() -> None:
    first = [(2, 0, 0), (2, 2, 0), (0, 4, 0), (0, 4, 2), (0, 4, 4)]
    second = [(2, 4, 6), (2, 6, 6), (0, 8, 6), (0, 8, 8), (0, 8, 10)]
    passes = Passes(2, 2, 3)
    assert [passes(step) for step in range(10)] == [Rows(*row) for row in first + second]


@pytest.mark.parametrize(
    ("name", "pairs", "unpaired"),
    [("pairs", 3, 10), ("pairs", 3, 0), ("passes", 3, 0), ("phases", 3, 0), ("mixed", 3, 0)],
)
def test_only_paired_steps(name: str, pairs: int, unpaired: int) -> None:
    rhythm = rhythm_of(name, pairs, unpaired, 2, paired_steps=1)
    assert [(rhythm(step).pairs, rhythm(step).pairs_before) for step in range(4)] == [(2, 0), (2, 2), (2, 4), (2, 6)]


@pytest.mark.parametrize(
    ("name", "pairs", "unpaired"),
    [("unpaired", 3, 10), ("unpaired", 0, 9), ("passes", 0, 9), ("phases", 0, 9), ("mixed", 0, 9)],
)
def test_only_unpaired_steps(name: str, pairs: int, unpaired: int) -> None:
    rhythm = rhythm_of(name, pairs, unpaired, 2, paired_steps=3)
    assert [(rhythm(step).pairs, rhythm(step).unpaired_before) for step in range(4)] == [(0, 0), (0, 2), (0, 4), (0, 6)]


def test_phases_are_pairs_first_and_then_unpaired_images_only() -> None:
    phases = rhythm_of("phases", 5, 9, 2, paired_steps=3)
    assert [phases(step) for step in range(5)] == [
        Rows(2, 0, 0),
        Rows(2, 2, 0),
        Rows(2, 4, 0),
        Rows(0, 6, 0),
        Rows(0, 6, 2),
    ]
    assert phases(1003) == Rows(0, 6, 2000)
    assert rhythm_of("phases", 5, 9, 2, paired_steps=0)(0) == Rows(0, 0, 0)


def test_mixed_batches_are_half_pairs() -> None:
    assert rhythm_of("mixed", 5, 9, 5) == Mixed(5)
    assert [Mixed(5)(step) for step in range(3)] == [Rows(2, 0, 0), Rows(2, 2, 3), Rows(2, 4, 6)]


@pytest.mark.parametrize("rhythm", ["pairs", "unpaired", "passes", "phases", "mixed"])
def test_no_rhythm_leaves_out_or_repeats_a_place(rhythm: str) -> None:
    order = rhythm_of(rhythm, 3, 11, 4, paired_steps=5)
    pairs = unpaired = 0
    for step in range(40):
        rows = order(step)
        assert (rows.pairs_before, rows.unpaired_before) == (pairs, unpaired)
        pairs, unpaired = pairs + rows.pairs, unpaired + 4 - rows.pairs


def test_a_mixed_batch_has_its_pairs_first(tmp_path: Path) -> None:
    pairs = [(0, 6), (2, 1), (4, 0)]
    batches = make_batches(make_dataset(tmp_path, pairs=pairs), "mixed", batch_size=4)
    together = 0
    for step in range(15):
        batch = batches.at(step)
        assert batch.n_pairs == 2
        rows = list(zip(crops(batch.a), crops(batch.b), strict=True))
        for (*where, i), (*where_b, j) in rows[:2]:
            assert where == where_b
            assert (i, j - 100) in pairs
        together += sum(a[:3] == b[:3] for a, b in rows[2:])
    assert together < 10  # of 30 unpaired rows, which share crop and flip by chance alone: 1 in 40


@pytest.mark.parametrize("rhythm", ["passes", "phases", "mixed", "pairs", "unpaired"])
@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_out_the_rows_of_every_batch(tmp_path: Path, rhythm: str, processes: int) -> None:
    dataset = make_dataset(tmp_path, counts=(9, 12), pairs=((0, 0), (1, 1), (2, 5)), unpaired=rhythm != "pairs")
    whole = make_batches(dataset, rhythm, batch_size=2 * processes)
    shares = [make_batches(dataset, rhythm, batch_size=2 * processes, share=(r, processes)) for r in range(processes)]
    for step in range(9):
        batch, parts = whole.at(step), [share.at(step) for share in shares]
        each = batch.n_pairs // processes
        assert [part.n_pairs for part in parts] == [each] * processes
        for side in ("a", "b"):
            rows = [getattr(part, side) for part in parts]
            assert [len(images) for images in rows] == [2] * processes
            again = torch.cat([images[:each] for images in rows] + [images[each:] for images in rows])
            assert torch.equal(again, getattr(batch, side))


def test_unpaired_images_may_come_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "pairs").mkdir()
    (tmp_path / "elsewhere").mkdir()
    data = make_dataset(tmp_path / "pairs", pairs=[(0, 6), (2, 1)], unpaired=False)
    other = make_dataset(tmp_path / "elsewhere", counts=(3, 4))
    for name in other.b.names:  # their numbers are 200, 201, ...
        coordinates(other.b.folder / name, 200 + int(name.removesuffix(".png")))
    data = replace(data, unpaired_a=(1, 3), unpaired_b=(0, 2), elsewhere_b=other.b)
    of_a, of_b = numbers(make_batches(data, "passes"), 4)
    assert set(zip(of_a[:2], of_b[:2], strict=True)) == {(0, 6), (2, 1)}
    assert set(of_a[2:4]) == {1, 3}
    assert set(of_b[2:4]) == {100, 102}


def test_a_full_round_of_passes(tmp_path: Path) -> None:
    pairs = [(0, 0), (1, 1), (2, 2)]
    batches = make_batches(make_dataset(tmp_path, counts=(4, 10), pairs=pairs), "passes")
    # The larger side counts: 10. So 5 paired steps of 2, then 5 unpaired ones.
    assert [batches.at(step).n_pairs for step in range(20)] == ([2] * 5 + [0] * 5) * 2
    of_a, of_b = numbers(batches, 10)
    assert sorted(of_a[:9]) == [0] * 3 + [1] * 3 + [2] * 3
    assert of_a[:10] == of_b[:10]
    assert sorted(of_b[10:]) == list(range(10))


# --- class maps


def test_class_maps_come_in_exact_class_colours(tmp_path: Path) -> None:
    ids, names = (3, 90, 255), ("sky", "road", "void")
    classes = Classes(ids, names, np.array([(70, 130, 180), (128, 64, 128), (0, 0, 0)], np.uint8), void=2)
    for side in ("photos", "labels"):
        (tmp_path / side).mkdir()
    # Not the loading size, and stripes of one pixel: anything but nearest neighbour would blend them.
    stripes = np.array(ids, np.uint8)[np.arange(31) % 3]
    Image.fromarray(np.tile(stripes, (17, 1))).save(tmp_path / "labels" / "x.png")
    coordinates(tmp_path / "photos" / "x.png", 0, (31, 17))
    photos = Domain(tmp_path / "photos", ("x.png",), ((31, 17),))
    labels = Domain(tmp_path / "labels", ("x.png",), ((31, 17),), classes)
    data = Dataset(photos, labels, pairs=((0, 0),), unpaired_a=(0,), unpaired_b=(0,))
    batches = make_batches(data, "passes")
    for step in range(6):
        seen = {tuple(colour) for colour in bytes_of(batches.at(step).b).transpose(0, 2, 3, 1).reshape(-1, 3).tolist()}
        assert seen == {(70, 130, 180), (128, 64, 128), (0, 0, 0)}


def test_a_class_map_is_cropped_and_flipped_with_its_photo(tmp_path: Path) -> None:
    # Class n is column n of the photo, at the loading size.
    classes = Classes(
        tuple(range(10, 22)), tuple("abcdefghijkl"), np.array([(n, 0, n) for n in range(12)], np.uint8), None
    )
    for side in ("photos", "labels"):
        (tmp_path / side).mkdir()
    Image.fromarray(np.tile(np.arange(10, 22, dtype=np.uint8), (9, 1))).save(tmp_path / "labels" / "x.png")
    coordinates(tmp_path / "photos" / "x.png", 0)
    photos = Domain(tmp_path / "photos", ("x.png",), (LOAD,))
    labels = Domain(tmp_path / "labels", ("x.png",), (LOAD,), classes)
    batches = make_batches(Dataset(photos, labels, pairs=((0, 0),)), "pairs")
    for step in range(20):
        batch = batches.at(step)
        assert np.array_equal(bytes_of(batch.a)[:, 0], 10 * bytes_of(batch.b)[:, 0])


def test_class_targets_are_the_crop_of_the_class_map_and_void_is_left_out(tmp_path: Path) -> None:
    # Void is the first row of the table: class n has the row n + 1 and is target n.
    ids, names = (255, *range(10, 21)), ("void", *"abcdefghijk")
    classes = Classes(ids, names, np.array([(99, 9, 9), *((n, 0, n) for n in range(11))], np.uint8), void=0)
    (tmp_path / "labels").mkdir()
    columns = np.array([*range(10, 21), 255], np.uint8)  # the last column is void
    Image.fromarray(np.tile(columns, (9, 1))).save(tmp_path / "labels" / "x.png")
    labels = Domain(tmp_path / "labels", ("x.png",), (LOAD,), classes)
    batches = make_batches(Dataset(labels, labels, pairs=((0, 0),), unpaired_a=(0,), unpaired_b=(0,)), "mixed")
    seen = set()
    for step in range(30):
        batch = batches.at(step)
        for images, targets in ((batch.a, batch.a_classes), (batch.b, batch.b_classes)):
            assert targets is not None
            assert targets.dtype == torch.int64
            red = bytes_of(images)[:, 0]  # (B, H, W), the class's number, 99 for void
            assert np.array_equal(np.where(red == 99, -100, red), targets.numpy())
            seen |= set(np.unique(targets))
    assert seen == {-100, *range(11)}


def test_photos_have_no_class_targets(tmp_path: Path) -> None:
    batch = make_batches(make_dataset(tmp_path), "unpaired").at(0)
    assert batch.a_classes is None
    assert batch.b_classes is None


def test_one_file_may_serve_as_a_picture_and_as_a_class_map(tmp_path: Path) -> None:
    classes = Classes((0, 1), ("left", "right"), np.array([(9, 0, 0), (0, 9, 0)], np.uint8), None)
    (tmp_path / "labels").mkdir()
    halves = Image.fromarray(np.tile((np.arange(12) > 5).astype(np.uint8), (9, 1)))
    halves.putpalette([0, 0, 200, 200, 0, 0])
    halves.save(tmp_path / "labels" / "x.png")
    as_picture = Domain(tmp_path / "labels", ("x.png",), (LOAD,))
    as_classes = Domain(tmp_path / "labels", ("x.png",), (LOAD,), classes)
    for sides in ((as_picture, as_classes), (as_classes, as_picture)):
        batch = make_batches(Dataset(*sides, pairs=((0, 0),)), "pairs").at(0)
        painted, picture = (batch.a, batch.b) if sides[0] is as_classes else (batch.b, batch.a)
        assert set(np.unique(bytes_of(painted))) == {0, 9}
        assert set(np.unique(bytes_of(picture))) == {0, 200}


def banded(root: Path, fit: str, shape: tuple[int, int], **settings: Any) -> Batches:
    """One pair of size `shape`: pixel (x, y) of a holds x + 1000 y in five bands of 16 bits, b its class x % 4."""
    y, x = np.mgrid[: shape[1], : shape[0]]
    for side in ("a", "b"):
        (root / side).mkdir()
    write_pixels(root / "a" / "x.tif", np.stack([x + 1000 * y + 100 * band for band in range(5)], 2).astype(np.uint16))
    Image.fromarray((x % 4).astype(np.uint8)).save(root / "b" / "x.png")
    colours = np.array([(n, 0, 0) for n in range(4)], np.uint8)
    a = Domain(root / "a", ("x.tif",), (shape,), form=PixelFormat(5, 16))
    b = Domain(root / "b", ("x.png",), (shape,), Classes((0, 1, 2, 3), tuple("abcd"), colours, None))
    data = Dataset(a, b, pairs=((0, 0),), unpaired_a=(0,), unpaired_b=(0,))
    return make_batches(data, "pairs", fit=fit, jitter=1, **settings)


def deep(images: Tensor) -> NDArray[np.int64]:
    return np.asarray(((images.numpy().astype(np.float64) + 1) * 32767.5).round().astype(np.int64))


def test_bands_of_sixteen_bits_come_whole(tmp_path: Path) -> None:
    batch = banded(tmp_path, "stretch", (WIDTH, HEIGHT), flip=False).at(0)
    assert batch.a.shape == (2, 5, HEIGHT, WIDTH)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for band in range(5):
        assert np.array_equal(deep(batch.a)[0, band], x + 1000 * y + 100 * band)


def test_a_letterbox_mirrors_the_image_and_its_bars_are_no_target(tmp_path: Path) -> None:
    # 8x2 within 8x6: two rows of image in the middle, two rows of bar above and below.
    batch = banded(tmp_path, "letterbox", (8, 2), flip=False).at(0)
    rows = deep(batch.a)[0, 0, :, 0].tolist()
    assert rows == [0, 1000, 0, 1000, 0, 1000]
    assert batch.b_classes is not None
    targets = batch.b_classes[0].numpy()
    assert (targets[[0, 1, 4, 5]] == -100).all()
    assert targets[2:4].tolist() == [[0, 1, 2, 3, 0, 1, 2, 3]] * 2
    # In the picture the bars show the classes mirrored, as the other side does.
    assert np.array_equal(bytes_of(batch.b)[0, 0], [[0, 1, 2, 3, 0, 1, 2, 3]] * 6)


def test_bars_are_void_wherever_crop_and_mirror_put_them(tmp_path: Path) -> None:
    classes = Classes(tuple(range(6)), tuple("abcdef"), np.array([(n, 0, 0) for n in range(6)], np.uint8), None)
    (tmp_path / "labels").mkdir()
    Image.fromarray(np.tile(np.arange(6, dtype=np.uint8), (9, 1))).save(tmp_path / "labels" / "x.png")
    labels = Domain(tmp_path / "labels", ("x.png",), ((6, 9),), classes)
    batches = make_batches(Dataset(labels, labels, unpaired_a=(0,), unpaired_b=(0,)), "unpaired", fit="letterbox")
    # Loaded at 12x9: six columns of classes, three columns of bar on either side, of which eight are cropped.
    shown, target = [3, 2, 1, 0, 1, 2, 3, 4, 5, 4, 3, 2], [-100] * 3 + [*range(6)] + [-100] * 3
    expected = {}
    for left in range(5):
        for step in (1, -1):
            expected[tuple(shown[left : left + 8][::step])] = target[left : left + 8][::step]
    seen = set()
    for step in range(40):
        batch = batches.at(step)
        assert batch.a_classes is not None
        for red, targets in zip(bytes_of(batch.a)[:, 0], batch.a_classes.tolist(), strict=True):
            assert targets == [expected[tuple(red[0])]] * HEIGHT
            seen.add(tuple(red[0]))
    assert seen == set(expected)


@pytest.mark.parametrize("shape", [(16, 6), (8, 13), (20, 15), (24, 6)])
@pytest.mark.parametrize("fit", ["crop", "letterbox"])
def test_a_pair_shares_all_of_its_geometry(tmp_path: Path, fit: str, shape: tuple[int, int]) -> None:
    batches = banded(tmp_path, fit, shape)
    wide = shape[0] / shape[1] > WIDTH / HEIGHT
    for step in range(8):
        batch = batches.at(step)
        assert batch.b_classes is not None
        for images, targets in zip(deep(batch.a), batch.b_classes.numpy(), strict=True):
            inside = targets != -100  # (H, W)
            if fit == "crop":
                assert inside.all()
            elif wide:
                assert np.array_equal(inside, np.broadcast_to(inside[:, :1], inside.shape))
            else:
                assert np.array_equal(inside, np.broadcast_to(inside[:1], inside.shape))
            if fit == "crop" and shape[1] == HEIGHT:  # not scaled: classes are columns of the picture
                assert np.array_equal(images[0] % 1000 % 4, targets)


def test_a_crop_reaches_every_part_of_a_wide_image(tmp_path: Path) -> None:
    batches = banded(tmp_path, "crop", (24, 6), flip=False)
    lefts = {int(image[0, 0, 0]) % 1000 for step in range(60) for image in deep(batches.at(step).a)}
    assert lefts == set(range(24 - WIDTH + 1))


def test_images_of_any_shape_share_a_batch(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    shapes = [(30, 9), (9, 30), (20, 20), (8, 6)]
    for number, shape in enumerate(shapes):
        coordinates(tmp_path / "a" / f"{number}.png", number, shape)
    domain = Domain(tmp_path / "a", tuple(f"{n}.png" for n in range(4)), tuple(shapes))
    data = Dataset(domain, domain, unpaired_a=(0, 1, 2, 3), unpaired_b=(0, 1, 2, 3))
    for fit in ("stretch", "crop", "letterbox"):
        batch = make_batches(data, "unpaired", fit=fit, batch_size=4).at(0)
        assert batch.a.shape == (4, 3, HEIGHT, WIDTH)
        assert sorted(bytes_of(batch.a)[:, 2].max((1, 2))) == [0, 1, 2, 3]


def test_nearest_pixels_where_asked(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    stripes = np.zeros((LOAD[1], 2 * LOAD[0], 3), np.uint8)
    stripes[:, ::2] = 200
    Image.fromarray(stripes).save(tmp_path / "a" / "x.png")
    domain = Domain(tmp_path / "a", ("x.png",), ((24, 9),))
    data = Dataset(domain, domain, pairs=((0, 0),))

    def values(resample: Image.Resampling) -> set[int]:
        return set(np.unique(bytes_of(make_batches(data, "pairs", resample=resample).at(0).a)).tolist())

    assert values(Image.Resampling.NEAREST) <= {0, 200}
    assert values(Image.Resampling.BICUBIC) & set(range(50, 150))


def test_to_moves_both_sides_and_keeps_the_rest() -> None:
    targets = torch.arange(40).view(2, 4, 5)
    batch = Batch(torch.zeros(2, 3, 4, 5), torch.ones(2, 3, 4, 5), n_pairs=1, b_classes=targets)
    moved = batch.to(torch.device("cpu"), torch.channels_last)
    assert moved.n_pairs == 1
    assert moved.a_classes is None
    assert moved.b_classes is not None
    assert torch.equal(moved.b_classes, targets)
    assert torch.equal(moved.b, batch.b)
    assert moved.a.is_contiguous(memory_format=torch.channels_last)
    assert moved.b.is_contiguous(memory_format=torch.channels_last)
