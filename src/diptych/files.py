"""Files that are the old one or the new one, never half, and folders in which one process works at a time."""

import errno
import json
import os
import re
import shutil
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BytesIO, FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.errors import DiptychError

if TYPE_CHECKING:
    from PIL import Image

PART = ".part-"
"""How the names of files and folders begin that are not whole yet; only a killed process leaves one behind."""
SECONDS_BETWEEN_TRIES = 0.1


@contextmanager
def saving(path: Path, *, lasting: bool = True) -> Iterator[Path]:
    """A file beside `path`, of the same suffix, to be written in the block; then it takes the place of `path` in one
    move. After an exception the old file is still there, and nothing else.

    The folder is made where it is missing. An `OSError` names `path`, whatever it named before. What need not be
    `lasting` may be empty after a power cut, which spares the wait for the disk.
    """
    part: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=PART, suffix=path.suffix)
        part = Path(name)
        os.close(handle)
        yield part
        part.chmod(0o666 & ~_umask())
        if lasting:
            sync(part)
        part.replace(path)
    except BaseException as problem:
        if part is not None:
            part.unlink(missing_ok=True)
        if isinstance(problem, OSError) and problem.errno is not None:
            raise OSError(problem.errno, problem.strerror, str(path)) from None
        raise


def sync(path: Path) -> None:
    """Return once a file, or the names in a folder, would outlast a power cut."""
    if path.is_dir() and sys.platform == "win32":
        return  # where folders cannot be opened
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, data: bytes, *, lasting: bool = True) -> None:
    """Replace `path` by `data` in one move; its folder is made where it is missing."""
    with saving(path, lasting=lasting) as part:
        part.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` (UTF-8) in one move."""
    write_bytes(path, text.encode())


def write_json(path: Path, data: Any) -> None:
    """Replace `path` by `data` as indented JSON in one move; NaN and infinity are refused."""
    write_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n")


def write_png(path: Path, image: "Image.Image") -> None:
    """Replace `path` by `image` as PNG in one move; a picture can be made again, so it need not be lasting."""
    data = BytesIO()  # Pillow itself would not say that a disk is full
    image.save(data, "PNG")
    write_bytes(path, data.getvalue(), lasting=False)


def write_tensors(path: Path, tensors: Mapping[str, Any]) -> None:
    """Replace `path` by torch's `tensors`, which lie on the CPU, as a .safetensors file in one move."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with saving(path) as part:
        try:
            save_file(dict(tensors), part)
        except SafetensorError as problem:
            number = re.search(r"\(os error (\d+)\)", str(problem))
            code = int(number[1]) if number else errno.EIO
            raise OSError(code, os.strerror(code) if number else str(problem)) from None


def append(file: FileIO, data: bytes) -> None:
    """Write all of `data` to the end of an unbuffered file; an `OSError` names the file."""
    try:
        while data:
            data = data[file.write(data) :]
    except OSError as problem:
        raise OSError(problem.errno, problem.strerror, str(file.name)) from None


def delete_folder(folder: Path) -> None:
    """Delete a folder: its name goes first, in one move, so that nobody finds it half empty."""
    part = folder.with_name(f"{PART}{folder.name}")
    shutil.rmtree(part, ignore_errors=True)
    folder.replace(part)
    shutil.rmtree(part)


def check_out(out: Path) -> None:
    """Raises `DiptychError` where no folder can be made: found out before hours of work, not after."""
    there = next(place for place in (out.absolute(), *out.absolute().parents) if place.exists())
    if not there.is_dir():
        raise DiptychError(f"{there}: is a file; choose another --out")
    if str(out).encode(errors="replace") != str(out).encode(errors="surrogatepass"):
        raise DiptychError(f"{out}: is no UTF-8, as TensorBoard and pages want it; choose another --out, or rename it")
    if not os.access(there, os.W_OK):
        raise DiptychError(f"{there}: may not be written to; choose another --out")


def check_own(*places: Path) -> None:
    """Raises `DiptychError` where a file or folder that will be written, or anything in it, is neither a file nor a
    folder: what is cleared away behind a link may be someone else's, and a pipe may wait for ever."""
    for place in places:
        for path in (place, *place.rglob("*")):
            if path.is_symlink() or (path.exists() and not (path.is_file() or path.is_dir())):
                raise DiptychError(f"{path}: is a link or a pipe; put the file or folder itself in its place")


@contextmanager
def alone_in(folder: Path, command: str, waiting: Callable[[], None] = lambda: None) -> Iterator[int]:
    """Hold the lock of `folder`, which is there already, as `command`; yields the lock's file descriptor.

    The lock is the system's: it is free as soon as no process has its file open, however the last one ended, and over
    NFS it holds between machines. A process that inherits the descriptor holds on to it: where such a one has outlived
    the process that took the lock, `waiting()` is called and its end awaited. On filesystems without locks, what
    FOLDER/.lock says is all there is to go by.

    Raises `DiptychError` naming the process and the machine that hold it.
    """
    path = folder / ".lock"
    try:
        # What it holds is written over: a link would lead that out of the folder.
        file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except OSError as problem:
        if problem.errno == errno.ELOOP:
            raise DiptychError(f"{path}: is a link; delete it") from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise DiptychError(f"{path}: is no file; delete it")
        told = False
        while (taken := _lock(file)) is not True:
            holder = _holder(file)
            if taken is None and (not holder or _is_dead(holder)):
                break
            if holder and not _is_dead(holder):
                raise DiptychError(
                    f"{folder}: diptych {holder['command']} is at work there (process {holder['process']} on "
                    f"{holder['host']}, since {holder['since']}); stop it or let it end"
                    + ("" if taken is False else f", or delete {path} if it is gone")
                )
            if holder and not told:
                waiting()
                told = True
            time.sleep(SECONDS_BETWEEN_TRIES)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        record = {"command": command, "process": os.getpid(), "host": socket.gethostname(), "since": since}
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(record).encode(), 0)
        try:
            yield file
        finally:
            os.ftruncate(file, 0)
    finally:
        os.close(file)


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Hold the lock file at `path`, once nobody else holds it; on filesystems without locks, at once."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    try:
        while _lock(file) is False:
            time.sleep(SECONDS_BETWEEN_TRIES)
        yield
    finally:
        os.close(file)


def _lock(file: int) -> bool | None:
    """Whether the lock is ours now; None where there are no locks, as on Windows and on some filesystems."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as problem:
        if problem.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL):
            return None
        raise
    return True


def _holder(file: int) -> dict[str, Any]:
    """Who holds the lock; empty while a process that has just got it has not written that down."""
    try:
        record = json.loads(os.pread(file, 4096, 0))
    except ValueError:
        return {}
    whole = isinstance(record, dict) and {"command", "process", "host", "since"} <= record.keys()
    return record if whole and isinstance(record["process"], int) else {}


def _is_dead(holder: Mapping[str, Any]) -> bool:
    """Whether the holder was a process of this machine that has ended; of other machines nothing is known."""
    if holder["host"] != socket.gethostname():
        return False
    if holder["process"] == os.getpid():
        return False
    try:
        os.kill(holder["process"], 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return False


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
