"""The sheet that a scene is drawn on: the camera, polygons of part numbers, and the class map looked up from them.

Seven classes cover every pixel, so none is void: hills and hedges are trees (vegetation), verges and fields are
pavement (the ground beside the road), markings are road, and windows, roofs and street lamps are building.
"""

from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from diptych.images import Classes, ClassMap
from diptych.scenes.layout import Colour, Light, Point, Street

CLASSES = Classes(
    ids=(0, 1, 2, 3, 4, 5, 6),
    names=("sky", "road", "pavement", "building", "tree", "car", "person"),
    colours=np.array(
        [[70, 130, 180], [128, 64, 128], [244, 35, 232], [70, 70, 70], [107, 142, 35], [0, 0, 142], [220, 20, 60]],
        np.uint8,
    ),
    void=None,
)
SKY, ROAD, PAVEMENT, BUILDING, TREE, CAR, PERSON = range(7)

FINE = 2  # every pixel is drawn as 2x2, which are averaged for the photo and vote for the class map
EYE = 1.55  # height of the camera in metres
NEAR = 1.5  # metres; nothing nearer is drawn

Plane = tuple[float, float, float]  # (a, b, c): 1/z = a*u + b*v + c where the ray of a point is (u, v, 1), v down
GROUND: Plane = (0.0, 1 / EYE, 0.0)
Windows = tuple[float, float, float, float, float, float, float]
NO_WINDOWS: Windows = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
PART = np.dtype(  # what `Drawing.part` is told
    [
        ("row", np.uint8),
        ("colour", np.float32, 3),
        ("plane", np.float32, 3),
        ("sunlit", np.float32),
        ("glow", np.float32),
        ("windows", np.float32, 7),
    ]
)


class Drawing:
    """A sheet of part numbers, what each part is made of, and which ground lies in shadow."""

    def __init__(self, size: tuple[int, int], street: Street, light: Light, rng: Random) -> None:
        self.street, self.light, self.rng = street, light, rng
        self.width, self.height = size[0] * FINE, size[1] * FINE
        self.focal = 0.74 * self.width
        self.centre = self.width * rng.uniform(0.42, 0.58)
        self.horizon = self.height * rng.uniform(0.48, 0.60)
        self.sheet = Image.new("I", (self.width, self.height))
        self.pen = ImageDraw.Draw(self.sheet)
        self.shade = Image.new("L", (self.width, self.height))  # 1 out of the sun, 2 under something
        self.shade_pen = ImageDraw.Draw(self.shade)
        self.parts: list[tuple[int, Colour, Plane, float, float, Windows]] = []  # rows of PART

    def part(
        self,
        row: int,
        colour: Colour,
        plane: Plane,
        sunlit: float = 0.5,
        glow: float = 0.0,
        windows: Windows = NO_WINDOWS,
    ) -> int:
        """The number of a new part of class `row` lying in `plane`.

        `sunlit` is the cosine between its normal and the sun, `glow` the light it gives off in multiples of its colour;
        `windows` are the bay and the storey in metres, the shares of both that are glass, where the first bay begins,
        the height of the wall, and whether there are shops at the bottom.
        """
        self.parts.append((row, colour, plane, max(sunlit, 0.0), glow, windows))
        return len(self.parts) - 1

    def zoom(self, z: float) -> float:
        """Points of the sheet per metre at depth `z`."""
        return self.focal / (z if z > NEAR else NEAR)

    def at(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Where a point of the world lies on the sheet."""
        zoom = self.zoom(z)
        return self.centre + zoom * (x + self.street.bend * z * z), self.horizon + zoom * (EYE - y)

    def fill(self, part: int, *points: Point) -> None:
        self.pen.polygon([self.at(*point) for point in points], fill=part)

    def board(self, part: int, x: float, z: float, low: float, high: float, half: float, lean: float = 0.0) -> None:
        """An upright strip of width 2 `half` from height `low` to `high`, whose top stands `lean` to the right."""
        (left, bottom), (right, top), shift = self.at(x - half, low, z), self.at(x + half, high, z), lean * self.zoom(z)
        self.pen.polygon((left, bottom, left + shift, top, right + shift, top, right, bottom), fill=part)

    def oval(self, part: int, x: float, y: float, z: float, across: float, up: float) -> None:
        """An upright ellipse with the half axes `across` and `up`."""
        (left, middle), wide, high = self.at(x, y, z), across * self.zoom(z), up * self.zoom(z)
        self.pen.ellipse((left - wide, middle - high, left + wide, middle + high), fill=part)

    def shadow_of_box(self, x: float, half: float, z0: float, z1: float, height: float) -> None:
        """Darken the ground under a box, and where the box keeps the sun off it."""
        sx, sy, sz = self.light.towards_sun
        dx, dz = -height * sx / sy, -height * sz / sy
        if dx < 0:
            half = -half
        near, far = (z0, z1) if dz > 0 else (z1, z0)
        base = [(-half, near), (half, near), (half, far), (-half, far)]
        top = [(out + dx, z + dz) for out, z in base]
        for corners, shade in (((*base[:2], *top[1:], base[3]), 1), (base, 2)):
            self.shade_pen.polygon([self.at(x + out, 0, z) for out, z in corners], fill=shade)

    def shadow_of_ball(self, x: float, y: float, z: float, radius: float) -> None:
        """Darken the ground where a ball keeps the sun off it."""
        sx, sy, sz = self.light.towards_sun
        x, z = x - y * sx / sy, z - y * sz / sy
        if z > NEAR:
            (left, middle), wide, high = self.at(x, 0, z), radius * self.zoom(z), EYE * radius * self.zoom(z) / z
            self.shade_pen.ellipse((left - wide, middle - high, left + wide, middle + high), fill=1)


def vote(drawing: Drawing) -> ClassMap:
    """The class that most of each pixel's FINE x FINE points have; where two tie, the earlier in the table."""
    ones = np.array([1 << 4 * row for row, *_ in drawing.parts])  # four bits count the points of each class
    counts = sum_of_points(ones[np.asarray(drawing.sheet)]) >> 4 * np.arange(len(CLASSES))[:, None, None] & 15
    winners: ClassMap = counts.argmax(0).astype(np.uint8)  # (K, H, W) -> (H, W)
    return winners


def sum_of_points(values: NDArray[Any]) -> NDArray[Any]:
    """(..., H * FINE, W * FINE) -> (..., H, W)."""
    shares = [values[..., row::FINE, column::FINE] for row in range(FINE) for column in range(FINE)]
    total: NDArray[Any] = np.add.reduce(shares)
    return total
