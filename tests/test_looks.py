"""What was seen in files is remembered as long as they do not change."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diptych import dataset
from diptych.bands import Header
from diptych.dataset import open_domain
from diptych.errors import DiptychError
from diptych.images import Classes, UnreadableImageError
from diptych.looks import Look, Reading, Seen, look_through

IMAGE, HEADS = Reading(), Reading(heads=True)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))


def look(folder: Path, name: str, reading: Reading = IMAGE) -> Seen:
    return next(look_through(folder, [name], reading))


def size(seen: Seen) -> tuple[int, int]:
    assert isinstance(seen, Look), seen
    return seen.header.size


def write_unnoticed(path: Path, data: bytes) -> None:
    """Change what is in the file, and nothing that tells so."""
    before = path.stat()
    assert len(data) == before.st_size
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def bmp(width: int, height: int) -> bytes:
    """Of 150 bytes wherever width x height is 32 and the width a multiple of 4."""
    header = b"BM" + (150).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little") + (40).to_bytes(4, "little")
    header += width.to_bytes(4, "little") + height.to_bytes(4, "little") + (1).to_bytes(2, "little")
    return header + (24).to_bytes(2, "little") + bytes(24) + bytes(96)


def test_a_file_that_has_not_changed_is_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "x.bmp").write_bytes(bmp(8, 4))
    first = look(tmp_path, "x.bmp")
    assert first == Look(Header((8, 4), 3, 8, False), "RGB", first.content if isinstance(first, Look) else b"")
    write_unnoticed(tmp_path / "x.bmp", bmp(4, 8))
    assert look(tmp_path, "x.bmp") == first


@pytest.mark.parametrize("change", ["time", "size", "inode"])
def test_a_file_that_has_changed_is_looked_at_again(tmp_path: Path, change: str) -> None:
    file = tmp_path / "x.bmp"
    file.write_bytes(bmp(8, 4))
    before = file.stat()
    assert size(look(tmp_path, "x.bmp")) == (8, 4)
    if change == "inode":
        other = tmp_path / "other"
        other.write_bytes(bmp(4, 8))
        other.replace(file)
    else:
        file.write_bytes(bmp(4, 8) + (b" " if change == "size" else b""))
    later = 1 if change == "time" else 0
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + later))
    assert size(look(tmp_path, "x.bmp")) == (4, 8)


def test_a_problem_is_looked_at_again(tmp_path: Path) -> None:
    (tmp_path / "x.bmp").write_bytes(b"?" * 150)
    problem = look(tmp_path, "x.bmp")
    assert isinstance(problem, UnreadableImageError)
    assert "x.bmp" in str(problem)
    write_unnoticed(tmp_path / "x.bmp", bmp(8, 4))
    assert size(look(tmp_path, "x.bmp")) == (8, 4)


def test_a_class_map_is_looked_at_again_with_other_classes(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 8), 7, np.uint8)).save(tmp_path / "x.png")
    colours = np.array([[0, 0, 0], [9, 9, 9]], np.uint8)
    knows, does_not = (Classes(ids, ("sky", "road"), colours, None) for ids in ((0, 7), (0, 8)))
    assert size(look(tmp_path, "x.png", Reading(knows))) == (8, 4)
    assert isinstance(look(tmp_path, "x.png", Reading(does_not)), DiptychError)
    assert size(look(tmp_path, "x.png")) == (8, 4)


def test_heads_are_read_alone_and_known_to_who_has_seen_the_whole(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((40, 80, 3), np.uint8)).save(tmp_path / "x.png")
    whole = (tmp_path / "x.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    assert look(tmp_path, "cut.png", HEADS) == Look(Header((80, 40), 3, 8, False))
    assert isinstance(look(tmp_path, "cut.png"), UnreadableImageError)  # its head is no answer to that
    seen = look(tmp_path, "x.png")
    assert look(tmp_path, "x.png", HEADS) == seen


def test_halves_are_files_of_their_own(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 8, 3), np.uint8)).save(tmp_path / "x.png")
    folders = [Path(f"{tmp_path}::left"), Path(f"{tmp_path}::right"), tmp_path]
    looks = [look(folder, "x.png") for folder in folders]
    assert [size(seen) for seen in looks] == [(4, 4), (4, 4), (8, 4)]
    assert len({seen.content for seen in looks if isinstance(seen, Look)}) == 3


def test_the_way_to_a_folder_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    file = tmp_path / "images" / "x.bmp"
    file.write_bytes(bmp(8, 4))
    assert size(look(tmp_path / "images", "x.bmp")) == (8, 4)
    write_unnoticed(file, bmp(4, 8))
    (tmp_path / "link").symlink_to("images")
    monkeypatch.chdir(tmp_path)
    assert size(look(tmp_path / "link", "x.bmp")) == size(look(Path("images"), "x.bmp")) == (8, 4)


def test_answers_come_in_the_order_of_the_names(tmp_path: Path) -> None:
    names = [f"{width:04d}.bmp" for width in range(4, 12, 4)] + ["gone.bmp"]
    for name in names[:-1]:
        (tmp_path / name).write_bytes(bmp(int(name[:4]), 32 // int(name[:4])))
    for _ in range(2):
        eight, four, gone = look_through(tmp_path, [names[1], names[0], names[2]], IMAGE)
        assert (size(eight), size(four)) == ((8, 4), (4, 8))
        assert isinstance(gone, UnreadableImageError)


def test_without_a_cache_that_can_be_used_nothing_is_remembered_and_all_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "file" / "below"))
    (tmp_path / "x.bmp").write_bytes(bmp(8, 4))
    notes: list[str] = []
    assert [size(seen) for seen in look_through(tmp_path, ["x.bmp"], IMAGE, notes.append)] == [(8, 4)]
    assert len(notes) == 1
    assert "not remembered" in notes[0]
    write_unnoticed(tmp_path / "x.bmp", bmp(4, 8))
    assert size(look(tmp_path, "x.bmp")) == (4, 8)


def test_of_many_images_a_domain_reads_the_heads_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    monkeypatch.setattr(dataset, "READ_WHOLE", 2)
    for name in ("a", "b", "c"):
        Image.fromarray(np.zeros((40, 80, 3), np.uint8)).save(tmp_path / "images" / f"{name}.png")
    whole = (tmp_path / "images" / "a.png").read_bytes()
    (tmp_path / "images" / "a.png").write_bytes(whole[: len(whole) // 2])
    notes: list[str] = []
    domain, problems = open_domain(tmp_path / "images", None, note=notes.append)
    assert (domain.sizes, problems) == (((80, 40),) * 3, [])
    assert len(notes) == 1
    assert "diptych check" in notes[0]
    domain, problems = open_domain(tmp_path / "images", None, skip_unreadable=True, note=notes.append)
    assert (domain.names, len(problems), len(notes)) == (("b.png", "c.png"), 1, 1)
    (tmp_path / "images" / "c.png").unlink()
    with pytest.raises(DiptychError, match=r"a\.png: "):
        open_domain(tmp_path / "images", None, note=notes.append)
    assert len(notes) == 1
