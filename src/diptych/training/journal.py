"""What a run writes down as it goes: log.jsonl for machines and the report, TensorBoard for whoever watches it.

Every line is with the system once it is written: a kill takes none back.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from diptych.files import append, sync, write_text
from diptych.reading import log_line
from diptych.training.board import Board
from diptych.training.resume import Sums


class Journal:
    """The log of a run that goes on after `step` steps; later lines of an earlier start are cut away."""

    def __init__(self, folder: Path, step: int, sums: Sums) -> None:
        self.sums = sums
        self.path = folder / "log.jsonl"
        self.seconds = cut_log(self.path, step)  # of training, without validation
        self._since_line = [0, 0.0]  # images, seconds
        self._log = self.path.open("ab", buffering=0)
        self._board = Board(folder / "tensorboard", step)

    @property
    def images_per_second(self) -> float:
        """Images of each domain per second of training, since the last line."""
        images, seconds = self._since_line
        return images / max(seconds, 1e-9)

    @property
    def means(self) -> dict[str, float]:
        """The mean of each term since the last line."""
        return {name: sum(values) / len(values) for name, values in self.sums.items()}

    def add(self, terms: Mapping[str, float], images: int, seconds: float) -> None:
        """One more step, with its terms, its number of images of each domain and how long it took."""
        for name, value in terms.items():
            self.sums.setdefault(name, []).append(value)
        self.seconds += seconds
        self._since_line[0] += images
        self._since_line[1] += seconds

    def write_terms(self, step: int, lr: float) -> None:
        """A line with the means since the last one."""
        speed = round(self.images_per_second, 2)
        line = {"step": step, "seconds": round(self.seconds, 3), "images_per_second": speed, "lr": lr}
        self._write({**line, "terms": self.means})
        for name, value in self.means.items():
            self._board.add_scalar(f"terms/{name}", value, step)
        self._board.add_scalar("lr", lr, step)
        self.sums.clear()
        self._since_line = [0, 0.0]

    def write_scores(self, step: int, scores: Mapping[str, Any]) -> None:
        """A line with the scores of a validation."""
        self._write({"step": step, "validation": scores})
        for name, value in scores.items():
            if isinstance(value, float):
                self._board.add_scalar(f"validation/{name}", value, step)

    def write_note(self, step: int, note: str) -> None:
        """A line with something worth knowing."""
        self._write({"step": step, "note": note})

    def show(self, step: int, picture: Image.Image) -> None:
        """A preview, for TensorBoard."""
        self._board.add_image("preview", picture, step)

    def sync(self) -> None:
        """All lines would outlast a power cut afterwards."""
        sync(self.path)
        self._board.sync()

    def close(self) -> None:
        """No line follows."""
        self._log.close()
        self._board.close()

    def _write(self, line: dict[str, Any]) -> None:
        append(self._log, (json.dumps(line) + "\n").encode())


def cut_log(log: Path, step: int) -> float:
    """Drop the lines after `step`, and what is no line, such as a last one cut in half.

    Returns the seconds of training that the rest records.
    """
    if not log.exists():
        return 0.0
    kept, seconds = [], 0.0
    for text in log.read_text(encoding="utf-8", errors="replace").splitlines():
        line = log_line(text)
        if line is not None and line["step"] <= step:
            kept.append(text + "\n")
            seconds = line.get("seconds", seconds)
    write_text(log, "".join(kept))
    return seconds
