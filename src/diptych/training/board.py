"""What TensorBoard shows; its own writer has a thread that keeps events back, and raises late what went wrong.

There is one event file. A resumed run begins another with what the last one held up to its checkpoint, and only then
deletes the last, so that a reader sees no event twice and none that was undone.
"""

import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diptych.files import append, saving, sync

EVENTS = "events.out.tfevents."  # TensorBoard knows its files by this, and reads them in the order of their names


class Board:
    """The event file in `folder` of a run that goes on after `step` steps."""

    def __init__(self, folder: Path, step: int) -> None:
        self.path = cut_board(folder, step)
        self._file = self.path.open("ab", buffering=0)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """A point of the curve `name`."""
        from torch.utils.tensorboard.summary import scalar

        self._add(step, scalar(name, value))  # type: ignore[no-untyped-call]

    def add_image(self, name: str, picture: Image.Image, step: int) -> None:
        """A picture; those of one name can be leafed through by step."""
        from torch.utils.tensorboard.summary import image

        pixels = np.array(picture.convert("RGB"))  # (H, W, 3)
        self._add(step, image(name, pixels, dataformats="HWC"))  # type: ignore[no-untyped-call]

    def sync(self) -> None:
        """All events would outlast a power cut afterwards."""
        sync(self.path)

    def close(self) -> None:
        self._file.close()

    def _add(self, step: int, summary: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        append(self._file, _record(Event(wall_time=time.time(), step=step, summary=summary)))


def cut_board(folder: Path, step: int) -> Path:
    """Begin a new event file in `folder` with the events of the last one up to `step`, delete the others; its path."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    earlier = sorted(folder.glob(f"{EVENTS}*"))
    last = earlier[-1].name.removeprefix(EVENTS) if earlier else "0"
    number = max(time.time_ns(), int(last) + 1 if last.isdecimal() else 0)
    path = folder / f"{EVENTS}{number}"
    with saving(path) as part, part.open("wb") as file:
        file.write(_record(Event(wall_time=time.time(), file_version="brain.Event:2")))
        # A TensorBoard that is open now forgets what it has read so far.
        start = SessionLog(status=SessionLog.START)
        file.write(_record(Event(wall_time=time.time(), step=0, session_log=start)))
        for event in _events(earlier[-1]) if earlier else ():
            if event.HasField("summary") and event.step <= step:
                file.write(_record(event))
    for old in earlier:
        old.unlink()
    return path


def _events(path: Path) -> Iterator[Any]:
    """The events of a file up to its end, or to one that was cut off by the end of its process."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    yield from LegacyEventFileLoader(str(path)).Load()


def _record(event: Any) -> bytes:
    """An event with its length and check sums."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    data = BytesIO()
    RecordWriter(data).write(event.SerializeToString())
    return data.getvalue()
