"""Shards from elsewhere, kept in the cache folder while there is room. Several processes may share it.

A shard is known by its SHA-256. The one that was used longest ago goes first; who has it open still reads it.
"""

import contextlib
import os
import time
from pathlib import Path
from typing import BinaryIO

from diptych.cache import default_folder
from diptych.errors import DiptychError, reason
from diptych.files import PART, in_turn, saving
from diptych.reading import open_file
from diptych.saved import PackedShard
from diptych.shards.places import NO_ROOM, Address, wrong_with

SECONDS_OF_A_PART = 24 * 3600  # then whoever was writing it is dead


def shard_folder() -> Path:
    """Where fetched shards are kept."""
    return default_folder() / "shards"


class Fetched:
    """The shards at an address, by way of files in `folder` that take `limit` bytes at most."""

    def __init__(self, address: Address, folder: Path, limit: int) -> None:
        self.address = address
        self.folder = folder
        self.limit = limit
        self._checked: set[str] = set()

    def open(self, shard: PackedShard) -> BinaryIO:
        """The shard, fetched unless it is there and whole. One process at a time fetches it, others wait for it."""
        path = self.folder / f"{shard.sha256}.tar"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with in_turn(self.folder / f".lock-{shard.sha256[:2]}"):  # no more than 256 such files
                file = self._kept(path, shard)
                if file is None:
                    self._make_room(shard.bytes)
                    with saving(path, lasting=False) as part:
                        self.address.fetch(shard, part)
                        file = open_file(part)  # once it has its name, another process may need the room
                    self._checked.add(shard.sha256)
        except OSError as problem:
            why, mend = f"cannot be written to ({reason(problem)})", "set the environment variable DIPTYCH_CACHE to"
            if problem.errno in NO_ROOM:
                why, mend = (
                    "its disk has no room for shards",
                    "give a smaller --shard-cache-gib, or set DIPTYCH_CACHE to",
                )
            raise DiptychError(f"{self.folder}: {why}; {mend} a folder on another disk") from None
        return file

    def mark(self, file: BinaryIO) -> None:
        """Write down that a shard is in use now."""
        if os.utime in os.supports_fd:
            os.utime(file.fileno())

    def _kept(self, path: Path, shard: PackedShard) -> BinaryIO | None:
        """The shard's file; None where there is none, or after a power cut half of one."""
        try:
            file = open_file(path)
        except FileNotFoundError:
            return None
        if shard.sha256 not in self._checked and wrong_with(file, shard) is not None:
            file.close()
            path.unlink(missing_ok=True)
            return None
        self._checked.add(shard.sha256)
        self.mark(file)
        return file

    def _make_room(self, size: int) -> None:
        kept = []
        for entry in os.scandir(self.folder):
            with contextlib.suppress(FileNotFoundError):  # another process makes room, too
                status = entry.stat(follow_symlinks=False)
                if entry.name.startswith(PART) and time.time() - status.st_mtime > SECONDS_OF_A_PART:
                    Path(entry.path).unlink()
                elif entry.name.endswith(".tar") and not entry.name.startswith(PART):
                    kept.append((status.st_mtime_ns, entry.path, status.st_size))
        total = sum(length for _, _, length in kept)
        for _, path, length in sorted(kept):
            if total + size <= self.limit:
                break
            Path(path).unlink(missing_ok=True)
            total -= length
