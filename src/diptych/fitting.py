"""How an image of any shape becomes one of a given size: stretched, cropped or letterboxed. Numbers only."""

from dataclasses import dataclass
from typing import Literal

from diptych.errors import DiptychError

Fit = Literal["stretch", "crop", "letterbox"]
MOST_PIXELS = 2**27  # of an image that is scaled to be cropped
Size = tuple[int, int]  # (width, height) in pixels


@dataclass(frozen=True)
class Fitted:
    """An image scaled to `scaled`, with its upper left corner at `corner` of a canvas of size `canvas`."""

    scaled: Size
    canvas: Size
    corner: tuple[int, int] = (0, 0)  # (left, top)

    @property
    def bars(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Pixels of the canvas ((above, below), (left, right)) of the image."""
        (left, top), (width, height), (wide, tall) = self.corner, self.scaled, self.canvas
        return (top, tall - height - top), (left, wide - width - left)


def fitted(image: Size, box: Size, fit: Fit) -> Fitted:
    """How an image of size `image` goes with a box of size `box`.

    `"stretch"`: the box, whatever the shape. `"crop"`: its shape kept, it covers the box, and the canvas is as large as
    itself. `"letterbox"`: its shape kept, it lies in the middle of the box and touches two sides of it.
    """
    if fit == "stretch":
        return Fitted(box, box)
    factors = box[0] / image[0], box[1] / image[1]
    if fit == "crop":
        factor = max(factors)
        scaled = max(box[0], round(image[0] * factor)), max(box[1], round(image[1] * factor))
        if scaled[0] * scaled[1] > MOST_PIXELS:
            raise DiptychError(
                f"an image of {image[0]}x{image[1]} pixels would become {scaled[0]}x{scaled[1]}, to be cropped to "
                f"{box[0]}x{box[1]}; give --fit stretch or letterbox, or take it out"
            )
        return Fitted(scaled, scaled)
    factor = min(factors)
    scaled = min(box[0], max(1, round(image[0] * factor))), min(box[1], max(1, round(image[1] * factor)))
    return Fitted(scaled, box, ((box[0] - scaled[0]) // 2, (box[1] - scaled[1]) // 2))


def too_small(image: Size, smallest: Size, fit: Fit) -> bool:
    """Whether an image has fewer pixels a side than the box of size `smallest` that it is to fill."""
    narrow, low = image[0] < smallest[0], image[1] < smallest[1]
    return narrow and low if fit == "letterbox" else narrow or low


def in_words(box: Size, fit: Fit) -> str:
    """Where the resizing leads: `"to 256x256"`, and what becomes of the shape."""
    size = f"{box[0]}x{box[1]}"
    return {"stretch": f"to {size}", "crop": f"to cover {size}", "letterbox": f"to lie within {size}"}[fit]
