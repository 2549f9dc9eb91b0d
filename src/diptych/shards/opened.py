"""The shards that are in use: each opened once, read by offset, and the next one fetched while the others are read."""

import os
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from io import BytesIO
from typing import BinaryIO, Protocol

from diptych.errors import DiptychError, reason
from diptych.saved import PackedShard

MOST_OPEN = 64
SECONDS_BETWEEN_MARKS = 10.0  # how often a shard is said to be in use


class Source(Protocol):
    def open(self, shard: PackedShard) -> BinaryIO:
        """The shard's file, whole; raises `DiptychError` naming a shard that cannot be had or is damaged."""
        ...

    def mark(self, file: BinaryIO) -> None:
        """A file that `open` gave is in use now."""
        ...


class OpenShards:
    """Shards by number. Any thread may read."""

    def __init__(self, source: Source, shards: Sequence[PackedShard], *, fetches_ahead: bool = True) -> None:
        self.source = source
        self.shards = shards
        self.fetches_ahead = fetches_ahead
        self._files: OrderedDict[int, BinaryIO] = OrderedDict()  # the one used last at the end
        self._marked: dict[int, float] = {}
        self._files_lock = threading.Lock()
        self._turns: defaultdict[int, threading.Lock] = defaultdict(threading.Lock)  # to open a shard
        self._ahead: threading.Thread | None = None

    def read(self, shard: int, start: int, length: int) -> bytes:
        """`length` bytes from `start` on; raises `DiptychError`."""
        while True:
            with self._files_lock:
                file = self._files.get(shard)
                if file is not None:
                    self._files.move_to_end(shard)
                    self._mark(shard, file)
                    try:
                        file.seek(start)
                        data = file.read(length)
                    except OSError as problem:
                        raise DiptychError(
                            f"{self.shards[shard].name}: cannot be read ({reason(problem)}); bring the shard back"
                        ) from None
                    if len(data) < length:
                        raise DiptychError(f"{self.shards[shard].name}: has been cut short; bring the shard back")
                    return data
            self._open(shard)

    def fetch_ahead(self, shard: int) -> None:
        """Open a shard in a thread of its own, unless one is at work already; what goes wrong is found again later."""
        if not self.fetches_ahead or shard in self._files or (self._ahead is not None and self._ahead.is_alive()):
            return

        def work() -> None:
            try:
                self._open(shard)
            except DiptychError:
                return

        self._ahead = threading.Thread(target=work, daemon=True)
        self._ahead.start()

    def _open(self, shard: int) -> None:
        with self._files_lock:
            turn = self._turns[shard]
        with turn:
            if shard in self._files:
                return
            file = self.source.open(self.shards[shard])
            with self._files_lock:
                # What the cache has let go of takes room as long as it is open.
                gone = [number for number, other in self._files.items() if not os.fstat(other.fileno()).st_nlink]
                more = len(self._files) - len(gone) + 1 - MOST_OPEN
                gone += [number for number in self._files if number not in gone][: max(0, more)]
                for number in gone:
                    self._files.pop(number).close()
                self._files[shard] = file

    def _mark(self, shard: int, file: BinaryIO) -> None:
        now = time.monotonic()
        if now - self._marked.get(shard, -SECONDS_BETWEEN_MARKS) >= SECONDS_BETWEEN_MARKS:
            self._marked[shard] = now
            self.source.mark(file)


class ShardMember:
    """An image in a shard."""

    def __init__(self, shards: OpenShards, shard: int, start: int, length: int, spoken: str) -> None:
        self._shards = shards
        self._place = (shard, start, length)
        self._spoken = spoken

    def open(self) -> BinaryIO:
        return BytesIO(self._shards.read(*self._place))

    def __str__(self) -> str:
        return self._spoken
