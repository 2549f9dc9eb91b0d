"""Shards as they are written: for diptych, and for the webdataset library."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Folders, tree
from diptych.bands import tiff_bytes
from diptych.dataset import Dataset, open_domain, with_pairs
from diptych.errors import DiptychError
from diptych.images import read_class_map, read_classes, read_pixels
from diptych.shards.opening import Shards, open_shards
from diptych.shards.packing import write_shards


def quiet(_: str) -> None: ...


def opened(where: Path, **channels: int) -> Shards:
    return open_shards(str(where), swap=False, channels={"a": 3, "b": 3} | channels, cache_limit=2**30, note=quiet)


def dataset_of(folders: Folders, pairs: str = "5") -> Dataset:
    a, _ = open_domain(folders.photos, None)
    b, _ = open_domain(folders.labels, read_classes(folders.classes))
    return with_pairs(Dataset(a, b), pairs, seed=0)


def pack(dataset: Dataset, folder: Path, shard_bytes: int = 8_000, seed: int = 0) -> Path:
    folder.mkdir()
    write_shards(dataset, folder, shard_bytes, seed, lambda done, total: None)
    return folder


def test_every_file_comes_back_byte_for_byte(folders: Folders, tmp_path: Path) -> None:
    shards = opened(pack(dataset_of(folders), tmp_path / "sh"))
    assert len(list((tmp_path / "sh").glob("*.tar"))) > 5
    for side, folder in (("a", folders.photos), ("b", folders.labels)):
        domain = shards.domains[side]
        assert list(domain.names) == sorted(path.name for path in folder.iterdir())
        for index, name in enumerate(domain.names):
            file = domain.file(index)
            assert not isinstance(file, Path)
            with file.open() as member:
                assert member.read() == (folder / name).read_bytes()
            assert name in str(file)
            assert ".tar" in str(file)
            assert domain.sizes[index] == (48, 32)
    assert len(shards.pairs) == 5
    assert set(shards.pairs) == {(a, a) for a, _ in shards.pairs}
    table = shards.domains["b"].classes
    assert table is not None
    assert table.names == read_classes(folders.classes).names


def test_webdataset_reads_pairs_with_both_fields(folders: Folders, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    shards = opened(pack(dataset_of(folders), tmp_path / "sh"))

    def samples(group: str) -> list[dict[str, bytes]]:
        urls = [str(path) for path in sorted((tmp_path / "sh").glob(f"{group}-*.tar"))]
        return list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))

    pairs = samples("pairs")
    assert len(pairs) == 5
    known = {((folders.photos / a).read_bytes(), (folders.labels / b).read_bytes()) for a, b in shards.pairs}
    assert {(sample["a.png"], sample["b.png"]) for sample in pairs} == known
    alone = samples("a")
    assert len(alone) == 7
    assert all("b.png" not in sample for sample in alone)
    keys = [sample["__key__"] for group in ("pairs", "a", "b") for sample in samples(group)]
    assert len(set(keys)) == len(keys) == 5 + 7 + 7


def test_the_same_input_gives_the_same_bytes(folders: Folders, tmp_path: Path) -> None:
    one = pack(dataset_of(folders), tmp_path / "one")
    shutil.copytree(folders.photos, tmp_path / "again" / "photos", copy_function=shutil.copyfile)
    moved = open_domain(tmp_path / "again" / "photos", None)[0]
    dataset = dataset_of(folders)
    other = pack(Dataset(moved, dataset.b, dataset.pairs), tmp_path / "other")
    assert tree(one) == tree(other)
    assert tree(one) != tree(pack(dataset, tmp_path / "seed", seed=1))


def test_shards_are_as_large_as_asked(folders: Folders, tmp_path: Path) -> None:
    largest = max(path.stat().st_size for path in folders.photos.iterdir())
    for path in pack(dataset_of(folders), tmp_path / "sh").glob("*.tar"):
        end = tarfile.RECORDSIZE  # tar files end on a whole record
        assert path.stat().st_size <= 8_000 + 2 * largest + end
        with tarfile.open(path) as tar:
            assert all(member.isreg() and member.mtime == 0 and member.uid == 0 for member in tar)
    assert len(list(pack(dataset_of(folders), tmp_path / "one each", 1).glob("a-*.tar"))) == 7


def test_images_are_shuffled(folders: Folders, tmp_path: Path) -> None:
    pack(dataset_of(folders, "none"), tmp_path / "sh", 10**6)
    columns = json.loads((tmp_path / "sh" / "images.json").read_text())["shards"]
    names = [next(iter(column.values()))["names"] for column in columns]
    assert all(listed != sorted(listed) for listed in names)
    assert names[0] != names[1]


def test_odd_images_have_the_same_pixels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    deep = rng.integers(0, 65536, (9, 12, 5), np.uint16)
    for side in ("a", "b"):
        (tmp_path / side / "deep").mkdir(parents=True)
        (tmp_path / side / "deep" / "five bands.tif").write_bytes(tiff_bytes(deep))
        (tmp_path / side / "x.y.TIFF").write_bytes(tiff_bytes(deep[::-1]))
    domain, _ = open_domain(tmp_path / "a", None, channels=5)
    other, _ = open_domain(tmp_path / "b", None, channels=5)
    shards = opened(pack(Dataset(domain, other), tmp_path / "sh"), a=5, b=5)
    packed = shards.domains["a"]
    assert packed.form == domain.form
    assert packed.form.bits == 16
    for index in range(2):
        assert (
            read_pixels(packed.file(index), form=packed.form) == read_pixels(domain.file(index), form=domain.form)
        ).all()
    with pytest.raises(DiptychError, match=r"five bands\.tif.* has 5 bands where 3 are wanted|TIFF.* has 5 bands"):
        opened(tmp_path / "sh")


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "I;16"])
def test_halves_are_cut_out_without_loss(mode: str, tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 256, (8, 20, 3), np.uint8)
    image = Image.fromarray(values)
    image = Image.fromarray(values[..., 0].astype(np.uint16) * 250) if mode == "I;16" else image.convert(mode)
    (tmp_path / "both").mkdir()
    image.save(tmp_path / "both" / ("x.jpg" if mode in ("RGB", "CMYK") else "x.png"))
    a, _ = open_domain(tmp_path / "both::left", None)
    b, _ = open_domain(tmp_path / "both::right", None)
    packed = opened(pack(with_pairs(Dataset(a, b), "all", 0), tmp_path / "sh")).domains
    for side, domain in (("a", a), ("b", b)):
        assert packed[side].form == domain.form
        assert packed[side].sizes == domain.sizes == ((10, 8),)
        ours, theirs = (read_pixels(one.file(0), form=one.form) for one in (packed[side], domain))
        assert (ours == theirs).all()


def test_halves_that_are_class_maps(folders: Folders, tmp_path: Path) -> None:
    classes = read_classes(folders.classes)
    (tmp_path / "both").mkdir()
    for name in ("scene000.png", "scene001.png"):
        both = Image.new("RGB", (96, 32))
        both.paste(Image.open(folders.photos / name), (0, 0))
        both.paste(Image.open(folders.labels / name).convert("RGB"), (48, 0))
        both.save(tmp_path / "both" / name)
    a, _ = open_domain(tmp_path / "both::left", None)
    b, _ = open_domain(tmp_path / "both::right", classes)
    packed = opened(pack(with_pairs(Dataset(a, b), "all", 0), tmp_path / "sh")).domains["b"]
    assert packed.classes is not None
    for index in range(2):
        rows = read_class_map(packed.file(index), packed.classes)
        assert (rows == read_class_map(b.file(index), classes)).all()


def test_a_file_that_changes_meanwhile_is_no_part_of_it(own_folders: Folders, tmp_path: Path) -> None:
    dataset = dataset_of(own_folders, "none")
    Image.new("RGB", (50, 32)).save(own_folders.photos / "scene003.png")
    with pytest.raises(DiptychError, match=r"scene003\.png: has changed while it was packed"):
        pack(dataset, tmp_path / "sh")
    assert not (tmp_path / "sh" / "shards.json").exists()


def test_elsewhere_is_a_domain_of_its_own(folders: Folders, tmp_path: Path) -> None:
    dataset = dataset_of(folders)
    elsewhere, _ = open_domain(folders.val_photos, None)
    shards = opened(pack(Dataset(dataset.a, dataset.b, dataset.pairs, elsewhere_a=elsewhere), tmp_path / "sh"))
    assert set(shards.domains) == {"a", "b", "elsewhere_a"}
    assert shards.domains["elsewhere_a"].names == elsewhere.names
    member = shards.domains["elsewhere_a"].file(0)
    assert not isinstance(member, Path)
    assert Image.open(io.BytesIO(member.open().read())).size == (48, 32)
