"""Archives from the web -> a folder that remembers what they were: resumed, counted, and the same every time."""

import http.client
import json
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from diptych.errors import DiptychError, first_line
from diptych.files import write_json
from diptych.reading import read_text, sha256

RECORD = "downloads.json"
PATIENCE_S = 30  # without a byte
TRIES = 5  # in a row without a byte more
WAIT_S = 1.0  # before the second try, twice as long before each further one
PIECE = 2**18  # bytes

NETWORK = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)

Progress = Callable[[int, int], None]  # (done, total), in bytes


class _BrokenOffError(Exception):
    """The connection ended before the file did, or never came about: worth another try."""


def file_name(url: str) -> str:
    """What the file at `url` is called; raises `DiptychError` for an address that names none."""
    parts = urlsplit(url)
    name = unquote(parts.path).rpartition("/")[2]
    if parts.scheme not in ("http", "https") or not parts.netloc or name in ("", ".", "..") or "\\" in name:
        raise DiptychError(f"{url}: is not the http or https address of an archive; mend it")
    return name


def fetch(url: str, folder: Path, progress: Progress = lambda _done, _total: None) -> Path:
    """The file at `url`, in `folder`, downloaded unless it is there; return its path.

    What is there of it already (NAME.part) is continued where the server can. `folder`/downloads.json remembers size
    and SHA-256 of the first time; the file is compared with them every later time. Raises `DiptychError` where it is
    another file now, or cannot be had; then what was downloaded stays for the next try.
    """
    name = file_name(url)
    file, part = folder / name, folder / f"{name}.part"
    folder.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        _download(url, part, progress)
        _compare(part, name, url)
        part.replace(file)
    else:
        _compare(file, name, url)
    return file


def _compare(file: Path, name: str, url: str) -> None:
    """Remember size and SHA-256 of the file `name`, or raise `DiptychError` where they are not those remembered."""
    record_file = file.parent / RECORD
    record = _read_record(record_file)
    known = record.get(name, {})
    now = {"bytes": file.stat().st_size, "sha256": sha256(file)}
    if "sha256" not in known:
        write_json(record_file, record | {name: {"url": url, **now}})
    elif known["sha256"] != now["sha256"]:
        raise DiptychError(
            f"{file}: its SHA-256 is {now['sha256']}, at first it was {known['sha256']}; delete it to download it "
            f"again, or, if it may have changed, its entry in {record_file}"
        )


def _read_record(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    try:
        record = json.loads(read_text(file))
        if all(isinstance(entry, dict) for entry in record.values()):
            return dict(record)
    except (OSError, ValueError, AttributeError, RecursionError):
        pass
    raise DiptychError(f"{file}: is damaged; delete it, and the archives are taken as they are")


def _download(url: str, part: Path, progress: Progress) -> None:
    tries = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _go_on(url, part, progress)
            return
        except _BrokenOffError as problem:
            after = part.stat().st_size if part.exists() else 0
            tries = 1 if after > before else tries + 1
            if tries == TRIES:
                kept = f"; {after:,} bytes of it are kept and will be continued" if after else ""
                raise DiptychError(f"{url}: {problem} ({TRIES} tries){kept}; try again later") from None
            time.sleep(WAIT_S * 2 ** (tries - 1))


def _go_on(url: str, part: Path, progress: Progress) -> None:
    """Download the rest of `part`, or all of it where the server cannot give a rest or the file has changed."""
    folder, name = part.parent, part.name.removesuffix(".part")
    record_file = folder / RECORD
    entry = _read_record(record_file).get(name, {})
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "diptych", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if entry.get("validator"):
            headers["If-Range"] = entry["validator"]
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=PATIENCE_S) as answer:
            start = have if answer.status == 206 else 0
            whole = _whole_size(answer.headers, start)
            if start and (whole is None or entry.get("whole") not in (None, whole)):
                part.unlink()
                raise _BrokenOffError("the file has changed")
            if whole is not None and whole - start > shutil.disk_usage(folder).free:
                raise DiptychError(f"{url}: {whole - start:,} bytes do not fit on the disk of {folder}; free space")
            etag = answer.headers.get("ETag") or "W/"
            validator = answer.headers.get("Last-Modified") if etag.startswith("W/") else etag
            record = _read_record(record_file)
            entry = record.get(name, {}) | {"url": url, "validator": validator, "whole": whole}
            write_json(record_file, record | {name: entry})
            done = start
            with part.open("ab" if start else "wb") as file:
                while piece := answer.read(PIECE):
                    file.write(piece)
                    done += len(piece)
                    progress(done, done + 1 if whole is None else whole)
            if whole is not None and done != whole:
                raise _BrokenOffError(f"ended after {done:,} of {whole:,} bytes")
            progress(done, done)
    except urllib.error.HTTPError as problem:
        if problem.code == 416:  # there is no rest: it is all here, or it was another file
            if problem.headers.get("Content-Range", "").rpartition("/")[2] == str(have):
                return
            part.unlink()
            raise _BrokenOffError("the file has changed") from None
        if problem.code in (408, 425, 429) or problem.code >= 500:
            raise _BrokenOffError(f"the server answers {problem.code} {problem.reason}") from None
        raise DiptychError(
            f"{url}: the server answers {problem.code} {problem.reason}; look whether it is the right address"
        ) from None
    except NETWORK as problem:
        reason = problem.reason if isinstance(problem, urllib.error.URLError) else problem
        why = first_line(reason) if isinstance(reason, BaseException) else str(reason)
        raise _BrokenOffError(f"cannot be had ({why or type(reason).__name__})") from None


def _whole_size(headers: Message, start: int) -> int | None:
    """Bytes of the whole file, by the head of an answer that begins at byte `start`; None where it does not say."""
    if start:
        place, _, whole = headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        return int(whole) if place.startswith(f"{start}-") and whole.isdecimal() else None
    length = headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None
