"""zip and tar archives from elsewhere -> a folder, whole or not at all, and nothing is written outside it."""

import bz2
import gzip
import lzma
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from diptych.errors import DiptychError, first_line
from diptych.files import PART

MOST_ENTRIES = 1_000_000
MOST_BYTES = 2**39  # half a terabyte
MOST_GROWTH = 200  # times the archive's size; images hardly shrink, and even a blank class map not so much more
ALWAYS_ALLOWED = 2**26  # bytes: small archives of text and blank class maps may grow as they like
LONGEST_NAME = 255  # bytes of a file or folder, on most systems
PIECE = 2**20  # bytes copied at a time
DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    LookupError,
    OSError,
    OverflowError,
    ValueError,
)

Progress = Callable[[int, int], None]  # (done, total), in bytes of the archive


@dataclass(frozen=True)
class Entry:
    """A file in an archive, not yet trusted."""

    name: str
    size: int  # bytes, as the archive says
    trouble: str  # why it may not be unpacked, whatever it is called
    open: Callable[[], IO[bytes]]
    read: int  # bytes of the archive that lie before it


def is_archive(file: Path) -> bool:
    """Whether the file's name says that it is a zip or tar archive."""
    return file.name.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"))


def unpack(archive: Path, folder: Path, progress: Progress = lambda _done, _total: None) -> None:
    """Unpack `archive` (zip or tar, told by its content) into `folder`, which is not there yet.

    Raises `DiptychError`, and leaves no folder, for a damaged archive, for names that lead out of the folder or stand
    there twice, for links, devices and encrypted files, and for more than `MOST_ENTRIES` files, `MOST_BYTES` bytes or
    `MOST_GROWTH` times the archive's own size.
    """
    size = archive.stat().st_size
    limit = min(MOST_BYTES, max(ALWAYS_ALLOWED, MOST_GROWTH * size))
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=PART))
    try:
        seen: set[PurePosixPath] = set()
        written = 0
        with closing(_entries(archive)) as entries:
            for entry in entries:
                path = _checked(entry, archive)
                if path in seen:
                    raise _refused(archive, entry.name, "stands there twice")
                seen.add(path)
                if len(seen) > MOST_ENTRIES:
                    raise DiptychError(f"{archive}: holds more than {MOST_ENTRIES:,} files; unpack it by hand")
                written += _copy(entry, part / path, archive, limit - written, limit)
                progress(entry.read, size)
        if not seen:
            raise DiptychError(f"{archive}: holds no file; download it again")
        part.chmod(0o755)
        part.replace(folder)
        progress(size, size)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _copy(entry: Entry, target: Path, archive: Path, room: int, limit: int) -> int:
    """Write the entry; return its bytes. The size that the archive says is not trusted."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = target.open("xb")
    except (FileExistsError, NotADirectoryError):
        raise _refused(archive, entry.name, "is another file's folder, or has its name but for large letters") from None
    written = 0
    with file:
        for piece in _pieces(entry, archive):
            written += len(piece)
            if max(written, entry.size) > room:
                raise DiptychError(
                    f"{archive}: would unpack to more than {limit / 1e6:,.0f} MB (a decompression bomb?); "
                    "unpack it by hand"
                )
            file.write(piece)
    return written


def _pieces(entry: Entry, archive: Path) -> Iterator[bytes]:
    with _whole(archive), entry.open() as source:
        read = 0
        while piece := source.read(PIECE):
            read += len(piece)
            yield piece
        if read != entry.size:
            raise EOFError(f"{entry.name} ends early")


def _checked(entry: Entry, archive: Path) -> PurePosixPath:
    """Where in the folder the entry belongs."""
    name = entry.name
    path = PurePosixPath(name)
    if entry.trouble:
        raise _refused(archive, name, entry.trouble)
    if not name.isprintable():
        raise _refused(archive, name, "is not written in UTF-8, or holds control characters")
    if path.is_absolute() or not path.parts or ".." in path.parts or "\\" in name or ":" in name:
        raise _refused(archive, name, "leads out of the folder, or would on some systems")
    if any(len(part.encode()) > LONGEST_NAME for part in path.parts):
        raise _refused(archive, name, "is too long a name")
    return path


def _refused(archive: Path, name: str, why: str) -> DiptychError:
    return DiptychError(f"{archive}: {name!r} {why}, so nothing was unpacked; get the archive from its authors again")


@contextmanager
def _whole(archive: Path) -> Iterator[None]:
    """Explains what reading a damaged archive raises."""
    try:
        yield
    except RuntimeError as problem:  # how zipfile says that it lacks a password or a way to decompress
        raise DiptychError(f"{archive}: cannot be unpacked ({first_line(problem)}); unpack it by hand") from None
    except DAMAGE as problem:
        raise DiptychError(
            f"{archive}: is damaged, or neither zip nor tar ({first_line(problem)}); delete it and get it again"
        ) from None


def _entries(archive: Path) -> Generator[Entry]:
    """The files of an archive in their order; folders are left out, they come with the files."""
    # What goes wrong between two entries is the caller's: it is not thrown in here, and so not taken for damage.
    with _whole(archive), archive.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        if start.startswith(b"PK"):
            with zipfile.ZipFile(file) as opened:
                yield from _zip_entries(opened)
            return
        kinds = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zX", lzma.open))
        decompress = next((kind for magic, kind in kinds if start.startswith(magic)), None)
        with file if decompress is None else decompress(file, "rb") as stream:
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                yield from _tar_entries(tar, file)
            while stream.read(PIECE):  # the checksum of all that came before stands at the end
                pass


def _zip_entries(opened: zipfile.ZipFile) -> Iterator[Entry]:
    for info in opened.infolist():
        if info.is_dir():
            continue
        kind = stat.S_IFMT(info.external_attr >> 16)
        trouble = "" if kind in (0, stat.S_IFREG) else "is a link or a device"
        trouble = "is encrypted" if info.flag_bits & 1 else trouble

        def read(info: zipfile.ZipInfo = info) -> IO[bytes]:
            return opened.open(info)

        # zipfile cuts a name at its first NUL byte.
        name = info.orig_filename if "\0" in info.orig_filename else info.filename
        yield Entry(name, info.file_size, trouble, read, info.header_offset)


def _tar_entries(opened: tarfile.TarFile, file: IO[bytes]) -> Iterator[Entry]:
    for member in opened:
        if member.isdir():
            continue
        trouble = "" if member.isreg() else "is a link or a device"

        def read(member: tarfile.TarInfo = member) -> IO[bytes]:
            source = opened.extractfile(member)
            assert source is not None
            return source

        yield Entry(member.name, member.size, trouble, read, file.tell())
