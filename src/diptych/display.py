"""What long work tells whoever watches. The command line shows it; from Python nothing is shown unless asked for."""

from collections.abc import Mapping
from typing import Protocol


class Display(Protocol):
    """Something that watches a command."""

    def count(self, what: str, done: int, total: int) -> None:
        """`done` of `total` units of the work named `what` are finished."""
        ...

    def trained(self, run: str, step: int, steps: int, images_per_second: float, terms: Mapping[str, float]) -> None:
        """Step `step` of `steps` of the run is done; `terms` are means over the last steps, by name."""
        ...

    def note(self, text: str) -> None:
        """Something worth a line."""
        ...


class Silent:
    """Shows nothing."""

    def count(self, what: str, done: int, total: int) -> None: ...

    def trained(
        self, run: str, step: int, steps: int, images_per_second: float, terms: Mapping[str, float]
    ) -> None: ...

    def note(self, text: str) -> None: ...
