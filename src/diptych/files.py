"""Files that are the old one or the new one, never half."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from diptych.errors import DiptychError


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one move; its folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:64]}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` (UTF-8) in one move."""
    write_bytes(path, text.encode())


def write_json(path: Path, data: Any) -> None:
    """Replace `path` by `data` as indented JSON in one move; NaN and infinity are refused."""
    write_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n")


def check_out(out: Path) -> None:
    """Raises `DiptychError` where no folder can be made: found out before hours of work, not after."""
    there = next(place for place in (out.absolute(), *out.absolute().parents) if place.exists())
    if not there.is_dir():
        raise DiptychError(f"{there}: is a file; choose another --out")
    if not os.access(there, os.W_OK):
        raise DiptychError(f"{there}: may not be written to; choose another --out")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
