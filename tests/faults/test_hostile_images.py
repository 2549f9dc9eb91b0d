"""Whatever stands where an image should be: opened, or refused in one line; no hang, no gigabytes."""

import io
import os
import socket
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import diptych, said_one_line
from diptych.errors import DiptychError
from diptych.fitting import fitted
from diptych.images import UnreadableImageError, list_images, open_image, pixels_of

PIXELS = np.random.default_rng(0).integers(0, 255, (5, 6, 3), np.uint8)
PHOTO = Image.fromarray(PIXELS)


def encoded(kind: str, image: Image.Image = PHOTO, **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    written = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def header(width: int, height: int, depth: int = 8, kind: int = 2) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)


def refusal(path: Path) -> str:
    with pytest.raises(UnreadableImageError) as problem:
        open_image(path)
    line = str(problem.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    return line


# --- no images at all


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket may have 108 bytes
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


IN_PLACE_OF_AN_IMAGE: dict[str, Callable[[Path], None]] = {
    "named pipe": make_fifo,
    "socket": make_socket,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "dangling link": lambda path: path.symlink_to("nothing.png"),
    "empty file": lambda path: path.write_bytes(b""),
    "web page": lambda path: path.write_bytes(b"<!DOCTYPE html><img src='x.png'>"),
    "GIF": lambda path: path.write_bytes(encoded("GIF", PHOTO.quantize(4))),
    "portable pixmap": lambda path: path.write_bytes(encoded("PPM")),
    "PostScript": lambda path: path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshow\n"
    ),
    "zip": lambda path: zipfile.ZipFile(path, "w").close(),
    "no pixel": lambda path: path.write_bytes(png(header(0, 5), (b"IDAT", b""), (b"IEND", b""))),
}


@pytest.mark.skipif(sys.platform == "win32", reason="has none of these")
@pytest.mark.parametrize("what", IN_PLACE_OF_AN_IMAGE)
def test_what_is_no_image_is_refused_at_once(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    PHOTO.save(photos / "good.png")
    IN_PLACE_OF_AN_IMAGE[what](photos / "x.png")
    assert list_images(photos) == ["good.png", "x.png"]
    assert "take it out" in refusal(photos / "x.png") or "no such file" in refusal(photos / "x.png")
    assert diptych("select", photos, "--features", "descriptor", "--budget", 1, "--out", tmp_path / "out") == 2
    assert "x.png" in said_one_line(capsys)
    assert not (tmp_path / "out").exists()


def test_a_folder_named_like_an_image_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x.png").mkdir()
    PHOTO.save(tmp_path / "x.png" / "y.png")
    assert list_images(tmp_path) == ["x.png/y.png"]
    assert "is no file" in refusal(tmp_path / "x.png") or "directory" in refusal(tmp_path / "x.png")


def test_links_that_lead_round_in_a_circle(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "over").symlink_to(tmp_path / "two")
    (tmp_path / "two" / "back").symlink_to(tmp_path)
    PHOTO.save(tmp_path / "two" / "x.png")
    assert len(list_images(tmp_path)) == 1


def test_a_folder_that_may_not_be_read_is_named_and_not_passed_over() -> None:
    with tempfile.TemporaryDirectory() as root:
        photos, closed = Path(root) / "photos", Path(root) / "photos" / "closed"
        closed.mkdir(parents=True)
        PHOTO.save(photos / "x.png")
        PHOTO.save(closed / "y.png")
        Path(root).chmod(0o755)
        closed.chmod(0)
        (photos / "x.png").chmod(0)
        as_root = hasattr(os, "geteuid") and os.geteuid() == 0
        try:
            if as_root:
                os.seteuid(65534)  # whom modes bind
            with pytest.raises(DiptychError, match=r"closed: Permission denied; let it be read"):
                list_images(photos)
            assert "Permission denied" in refusal(photos / "x.png")
        finally:
            if as_root:
                os.seteuid(0)
            closed.chmod(0o755)


def test_files_that_vanish_or_change_after_they_were_listed(tmp_path: Path) -> None:
    PHOTO.save(tmp_path / "x.png")
    assert list_images(tmp_path) == ["x.png"]
    (tmp_path / "x.png").write_bytes(b"")
    assert "not an image" in refusal(tmp_path / "x.png")
    (tmp_path / "x.png").unlink()
    assert refusal(tmp_path / "x.png").endswith("no such file")


# --- images, more or less

FORMATS = {
    "PNG": encoded("PNG"),
    "PNG of 16 bits": png(header(2, 2, 16), (b"IDAT", zlib.compress(bytes(26))), (b"IEND", b"")),
    "JPEG": encoded("JPEG", quality=20, optimize=True),
    "progressive JPEG": encoded("JPEG", quality=20, progressive=True),
    "WEBP": encoded("WEBP"),
    "lossless WEBP": encoded("WEBP", lossless=True),
    "BMP": encoded("BMP"),
    "TIFF": encoded("TIFF"),
    "deflated TIFF": encoded("TIFF", compression="tiff_adobe_deflate"),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_truncated_at_every_byte(kind: str, tmp_path: Path) -> None:
    path, data = tmp_path / "x.png", FORMATS[kind]
    path.write_bytes(data)
    whole = pixels_of(open_image(path))
    refused = 0
    for size in range(len(data)):
        path.write_bytes(data[:size])
        try:
            image = open_image(path)
        except UnreadableImageError:
            refused += 1
        else:
            assert pixels_of(image).shape == whole.shape
    assert refused > len(data) // 3


def test_what_follows_the_end_of_an_image_does_not_matter(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("x.txt", "x" * 1000)
    path = tmp_path / "x.jpg"  # nor does what the suffix says
    path.write_bytes(encoded("PNG") + archive.getvalue())
    assert zipfile.is_zipfile(path)
    assert np.array_equal(pixels_of(open_image(path)), PIXELS)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_several_pictures_the_first_counts(kind: str, tmp_path: Path) -> None:
    others = [Image.new("RGB", PHOTO.size, colour) for colour in ("red", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    path = tmp_path / "x.png"
    path.write_bytes(encoded(kind, save_all=True, append_images=others, **options))
    assert np.array_equal(pixels_of(open_image(path)), PIXELS)


@pytest.mark.parametrize("size", [(1, 1), (65535, 1), (1, 65535)])
def test_odd_sizes(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("RGB", size, (1, 2, 3)).save(tmp_path / "x.png")
    pixels = pixels_of(open_image(tmp_path / "x.png"), (4, 4))
    assert pixels.shape == (4, 4, 3)
    assert (pixels == (1, 2, 3)).all()


def tiff(width: int, height: int, *, bands: int = 3, at: int = 8, count: int = 12) -> bytes:
    """An uncompressed TIFF that says it is so large, with one strip of `count` bytes at `at`."""
    entries = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, at)]
    entries += [(277, 3, bands), (278, 4, height), (279, 4, count)]
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<I", 20) + bytes(12) + struct.pack("<H", len(entries)) + body + bytes(4)


def bomb_files() -> dict[str, bytes]:
    squeezed = zlib.compress(bytes(2**28), 9)  # a quarter of a gigabyte of zeros
    image, end = (header(4, 4), (b"IDAT", zlib.compress(bytes(52)))), (b"IEND", b"")
    webp = bytearray(encoded("WEBP", lossless=True))
    place = webp.index(b"VP8L") + 9
    webp[place : place + 4] = struct.pack("<I", 0x3FFF | 0x3FFF << 14)  # 16384 x 16384
    bmp = bytearray(encoded("BMP"))
    bmp[18:26] = struct.pack("<ii", 60000, 60000)
    jpeg = bytearray(encoded("JPEG"))
    place = jpeg.index(b"\xff\xc0") + 5
    jpeg[place : place + 4] = struct.pack(">HH", 65500, 65500)
    return {
        "a billion pixels": png(header(32000, 32000), (b"IDAT", zlib.compress(bytes(9))), end),
        "largest header": png(header(2**31 - 1, 2**31 - 1), (b"IDAT", zlib.compress(bytes(9))), end),
        "16 bits": png(header(32000, 32000, 16, 6), (b"IDAT", zlib.compress(bytes(9))), end),
        "more data than pixels": png(image[0], (b"IDAT", squeezed), end),
        "text": png(image[0], (b"zTXt", b"k\0\0" + squeezed), image[1], end),
        "international text": png(image[0], (b"iTXt", b"k\0\1\0\0\0" + squeezed), image[1], end),
        "many texts": png(image[0], *[(b"zTXt", b"k\0\0" + squeezed)] * 40, image[1], end),
        "colour profile": png(image[0], (b"iCCP", b"k\0\0" + squeezed), image[1], end),
        "16 bits with text": png(
            header(2, 2, 16), (b"zTXt", b"k\0\0" + squeezed), (b"IDAT", zlib.compress(bytes(26))), end
        ),
        "WEBP": bytes(webp),
        "BMP": bytes(bmp),
        "JPEG": bytes(jpeg),
        "TIFF": tiff(60000, 60000),
        "TIFF of many bands": tiff(9000, 9000, bands=4000),
        "TIFF with an endless strip": tiff(4, 4, count=2**32 - 1),
        "TIFF with a strip nowhere": tiff(4, 4, at=2**31),
    }


READ_ALL = """
import resource, sys
from pathlib import Path
from diptych.images import UnreadableImageError, open_image, pixels_of
Path(sys.argv[1], "first.png")
pixels_of(open_image(Path(sys.argv[1], "first.png")))  # imports all
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 2**30, size + 2**30))
for path in sorted(Path(sys.argv[1]).glob("*.png")):
    try:
        pixels_of(open_image(path), (4, 4))
        print(path.stem, "opened")
    except UnreadableImageError as problem:
        assert str(problem).isprintable()
        print(path.stem, "refused")
print("megabytes", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how much memory it takes")
def test_bombs_take_no_gigabytes(tmp_path: Path) -> None:
    PHOTO.save(tmp_path / "first.png")
    bombs = bomb_files()
    for name, data in bombs.items():
        (tmp_path / f"{name}.png").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    *outcomes, memory = done.stdout.splitlines()
    found = dict(line.rsplit(" ", 1) for line in outcomes)
    assert found.keys() == bombs.keys() | {"first"}
    opened = {"first", "more data than pixels", "TIFF with an endless strip"}
    assert {name for name, outcome in found.items() if outcome == "opened"} == opened
    assert int(memory.split()[1]) < 600


def test_more_transparencies_than_colours(tmp_path: Path) -> None:
    palette = (b"PLTE", bytes(range(6)))
    body = (b"IDAT", zlib.compress(bytes([0, 0, 1, 0, 1, 0])))
    for count, opened in ((2, True), (300, False)):
        transparency = (b"tRNS", bytes(count))
        (tmp_path / "x.png").write_bytes(png(header(2, 2, 8, 3), palette, transparency, body, (b"IEND", b"")))
        if opened:
            assert (pixels_of(open_image(tmp_path / "x.png")) == 255).all()  # all of it is transparent, on white
        else:
            assert "more transparencies than colours" in refusal(tmp_path / "x.png")


def test_no_image_is_scaled_to_gigabytes_to_be_cropped() -> None:
    assert fitted((65535, 1), (256, 256), "stretch").canvas == (256, 256)
    assert fitted((65535, 1), (256, 256), "letterbox").canvas == (256, 256)
    with pytest.raises(
        DiptychError, match="65535x1 pixels would become 16776960x256, to be cropped to 256x256; give --fit"
    ):
        fitted((65535, 1), (256, 256), "crop")
