"""Street scenes drawn by formula: a photo and its exact class map, as many as wanted, with nothing to download.

The world is in metres as seen from a car: x to the right of the camera, y above the road, z ahead. First everything is
laid out; then it is drawn far to near as polygons that hold nothing but *part numbers*, from which both the photo and
the class map are looked up, so that they share every edge; then comes the light, and last the sensor.

Seven classes cover every pixel, so none is void: hills and hedges are trees (vegetation), verges and fields are
pavement (the ground beside the road), markings are road, and windows, roofs and street lamps are building.
Six kinds of scene have markedly unequal shares, so that it matters which scenes are chosen to be paired.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import cos, hypot, pi, sin
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from diptych.errors import DiptychError
from diptych.images import Classes, ClassMap, Pixels

Array = NDArray[np.float32]
Indices = NDArray[np.intp]
Colour = tuple[float, float, float]  # 0..1; of things as displayed, of light linear
Point = tuple[float, float, float]  # x, y, z in metres
Range = tuple[float, float]
Thing = tuple[float, Callable[..., None], tuple[Any, ...]]  # its far end in metres, how to draw it, and with what

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
SHARES = {
    "day-town": 0.34,
    "day-country": 0.22,
    "dusk-town": 0.16,
    "night-town": 0.12,
    "dusk-country": 0.10,
    "night-country": 0.06,
}
KINDS: tuple[str, ...] = tuple(SHARES)

FINE = 2  # every pixel is drawn as 2x2, which are averaged for the photo and vote for the class map
EYE = 1.55  # height of the camera in metres
NEAR = 1.5  # metres; nothing nearer is drawn
LAMP = 5.5  # height of a street lamp in metres
GROUND = (0.0, 1 / EYE, 0.0)  # a plane is (a, b, c): 1/z = a*u + b*v + c where the pixel's ray is (u, v, 1), v down
# fmt: off
SEASONS: tuple[tuple[Colour, tuple[Colour, ...]], ...] = (  # grass, leaves
    ((0.38, 0.50, 0.24), ((0.34, 0.54, 0.16), (0.22, 0.44, 0.17), (0.46, 0.58, 0.20))),
    ((0.60, 0.56, 0.28), ((0.26, 0.42, 0.16), (0.17, 0.34, 0.18), (0.36, 0.44, 0.18))),
    ((0.50, 0.48, 0.26), ((0.80, 0.45, 0.12), (0.68, 0.27, 0.12), (0.78, 0.64, 0.18), (0.38, 0.42, 0.16))),
)
PAVINGS: tuple[Colour, ...] = ((0.62, 0.60, 0.57), (0.54, 0.54, 0.56), (0.66, 0.55, 0.47), (0.70, 0.68, 0.62))
WALLS: tuple[Colour, ...] = (
    (0.62, 0.30, 0.23), (0.76, 0.44, 0.30), (0.88, 0.72, 0.38), (0.88, 0.82, 0.70), (0.66, 0.66, 0.64),
    (0.93, 0.91, 0.87), (0.50, 0.42, 0.36), (0.50, 0.60, 0.70), (0.82, 0.58, 0.54), (0.60, 0.71, 0.58),
)
ROOFS: tuple[Colour, ...] = ((0.60, 0.28, 0.19), (0.36, 0.32, 0.31), (0.30, 0.33, 0.38), (0.48, 0.35, 0.28))
PAINTS: tuple[Colour, ...] = (
    (0.85, 0.86, 0.87), (0.62, 0.64, 0.66), (0.12, 0.12, 0.14), (0.76, 0.10, 0.10), (0.12, 0.24, 0.60),
    (0.94, 0.94, 0.92), (0.13, 0.38, 0.26), (0.94, 0.72, 0.12), (0.30, 0.32, 0.35), (0.36, 0.62, 0.80),
)
SKINS: tuple[Colour, ...] = ((0.90, 0.72, 0.60), (0.76, 0.56, 0.42), (0.50, 0.34, 0.25), (0.34, 0.23, 0.18))
WINDOWS = ((0.4, 0.5), (0.5, 0.55), (0.35, 0.62), (0.96, 0.5), (0.85, 0.85))  # shares of a bay and of a storey
# Length, height and half width in metres, and the roof line, back to front, in shares of length and height.
CARS: tuple[tuple[float, float, float, tuple[Range, ...]], ...] = (
    (4.5, 1.42, 0.90, ((0.0, 0.62), (0.14, 0.67), (0.27, 0.97), (0.36, 1.0), (0.58, 1.0), (0.74, 0.67), (1.0, 0.56))),
    (3.9, 1.50, 0.86, ((0.0, 0.62), (0.02, 0.66), (0.12, 0.97), (0.20, 1.0), (0.54, 1.0), (0.72, 0.66), (1.0, 0.55))),
    (4.4, 1.72, 0.94, ((0.0, 0.60), (0.01, 0.64), (0.08, 0.97), (0.14, 1.0), (0.58, 1.0), (0.72, 0.64), (1.0, 0.58))),
    (5.3, 2.25, 1.00, ((0.0, 0.52), (0.01, 0.56), (0.03, 0.97), (0.06, 1.0), (0.76, 1.0), (0.90, 0.56), (1.0, 0.48))),
)
# For each time of day two extremes to mix, each the linear colours of zenith, horizon, sun (or moon) and ambient light;
# then the brightness of the lamps, the most cloud, the range of the sun's y, and the range of its z.
Hues = tuple[Colour, Colour, Colour, Colour]
TIMES: dict[str, tuple[Hues, Hues, float, float, Range, Range]] = {
    "day": (((0.04, 0.17, 0.50), (0.48, 0.66, 0.86), (1.55, 1.42, 1.15), (0.28, 0.34, 0.44)),
            ((0.40, 0.44, 0.50), (0.62, 0.64, 0.67), (0.00, 0.00, 0.00), (0.60, 0.62, 0.65)),
            0.0, 1.0, (0.5, 1.2), (-0.9, 0.4)),
    "dusk": (((0.05, 0.08, 0.22), (0.80, 0.52, 0.34), (0.60, 0.32, 0.12), (0.14, 0.14, 0.21)),
             ((0.15, 0.08, 0.20), (0.90, 0.25, 0.10), (0.40, 0.10, 0.04), (0.20, 0.12, 0.16)),
             0.5, 0.6, (0.08, 0.2), (0.8, 1.2)),
    "night": (((0.003, 0.007, 0.026), (0.014, 0.024, 0.060), (0.05, 0.06, 0.07), (0.018, 0.023, 0.044)),
              ((0.014, 0.011, 0.022), (0.085, 0.048, 0.030), (0.01, 0.01, 0.02), (0.022, 0.020, 0.032)),
              1.0, 0.5, (0.25, 0.42), (1.0, 1.0)),
}
# fmt: on


@dataclass(frozen=True, eq=False)
class Scene:
    """A photo, the class map of exactly the same view, and which of `KINDS` it is."""

    photo: Pixels  # (H, W, 3)
    classes: ClassMap  # (H, W), rows of CLASSES
    kind: str


def draw_scene(seed: int, index: int, size: tuple[int, int] = (96, 64)) -> Scene:
    """Scene `index` of the endless set `seed`, at `size` = (width, height); the same arguments give the same pixels.

    The same scene at another size shows the same things. Raises `DiptychError` for a size below 32x32.
    """
    if min(size) < 32:
        raise DiptychError(f"a scene of {size[0]}x{size[1]} pixels is too small to draw; ask for 32x32 or more")
    rng = Random(f"{seed} {index}")
    kind = rng.choices(KINDS, tuple(SHARES.values()))[0]
    time, place = kind.split("-")
    light = choose_light(rng, time)
    street = choose_street(rng, place)
    drawing = Drawing(size, street, light, rng)
    draw_far_away(drawing)
    for _, draw, arguments in sorted(lay_out(street, rng), key=lambda thing: -thing[0]):
        draw(drawing, *arguments)
    noise = np.random.default_rng(rng.getrandbits(64))
    return Scene(expose(shine(drawing, noise), noise), vote(drawing), kind)


def write_scenes(folder: Path, count: int, seed: int, size: tuple[int, int] = (96, 64)) -> None:
    """Write scenes 0 .. count-1 of `seed` as `photos/0000.png` and `labels/0000.png` (palette PNG of class ids).

    Beside them stand `classes.csv` (id,name,red,green,blue) and `kinds.csv` (file,kind).
    """
    for name in ("photos", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    kinds: list[tuple[Any, ...]] = [("file", "kind")]
    for index in range(count):
        scene, name = draw_scene(seed, index, size), f"{index:04d}.png"
        Image.fromarray(scene.photo).save(folder / "photos" / name)
        CLASSES.to_image(scene.classes).save(folder / "labels" / name)
        kinds.append((name, scene.kind))
    rows = zip(CLASSES.ids, CLASSES.names, *CLASSES.colours.T.tolist(), strict=True)
    for name, table in (("classes.csv", [("id", "name", "red", "green", "blue"), *rows]), ("kinds.csv", kinds)):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(table)


@dataclass(frozen=True)
class Light:
    """What shines, in linear light."""

    zenith: Colour
    horizon: Colour
    sun: Colour  # or the moon
    ambient: Colour
    towards_sun: Point  # a unit vector
    lamps: float  # how brightly lamps and windows shine: 0 by day, 1 by night
    clouds: float  # 0 none .. 1 overcast
    visibility: float  # metres after which haze has taken 63 %


def choose_light(rng: Random, time: str) -> Light:
    """A sky for "day", "dusk" or "night": somewhere between the two extremes of its hour."""
    clear, dull, lamps, most_cloud, heights, depths = TIMES[time]
    share = rng.choice((0.0, 0.3, 0.45, 0.6, 1.0))
    zenith, horizon, sun, ambient = (mix(one, other, share) for one, other in zip(clear, dull, strict=True))
    x, y, z = rng.choice((-1, 1)) * rng.uniform(0.1, 0.8), rng.uniform(*heights), rng.uniform(*depths)
    towards_sun = scale((x, y, z), 1 / hypot(x, y, z))
    visibility = rng.choice((150.0, 400.0, 700.0, 1000.0))
    return Light(zenith, horizon, sun, ambient, towards_sun, lamps, share * most_cloud, visibility)


@dataclass(frozen=True)
class Street:
    """The ground plan: lines along z, in metres."""

    town: bool
    middle: float  # x of the middle of the road
    half_road: float
    pavement: float  # its width; houses, hedges and fields begin beyond it
    bend: float  # the world moves sideways by bend * z^2
    crossing: float  # z where a zebra crossing begins, negative for none
    lamp_spacing: float
    grass: Colour
    leaves: tuple[Colour, ...]


def choose_street(rng: Random, place: str) -> Street:
    """A straight street in "town" or a winding road in the "country", with the camera on its right half."""
    grass, leaves = rng.choice(SEASONS)
    lane, spacing, town = rng.uniform(2.9, 3.6), rng.uniform(20, 30), place == "town"
    half_road = lane + (rng.choice((0.3, 2.3, 2.3)) if town else 0.3)  # with room to park, or without
    crossing = rng.uniform(8, 28) if town and rng.random() < 0.45 else -99.0
    bend = 0.0 if town else rng.uniform(-0.0024, 0.0024)
    return Street(town, -lane / 2, half_road, rng.uniform(2.0, 5.0), bend, crossing, spacing, grass, leaves)


def lay_out(street: Street, rng: Random) -> list[Thing]:
    """Everything that stands on the ground, in any order, to be drawn by falling far end.

    Houses in a row face the road, so what stands between the rows hides them and is never hidden by them: going by the
    far end draws it after every house that it can overlap.
    """
    things: list[Thing] = []
    for side in (-1, 1):
        kerb = street.middle + side * street.half_road
        front = kerb + side * street.pavement
        things += town_side(street, side, kerb, front, rng) if street.town else country_side(side, front, rng)
        lane = street.middle + side * min(street.half_road, 3.6) * 0.5
        for z in steps(rng, rng.uniform(7, 24), 90, 9, 26):
            if rng.random() < (0.6 if street.town else 0.4):
                things.append((z, draw_car, (lane + rng.uniform(-0.3, 0.3), z, side < 0)))
        for z in steps(rng, rng.uniform(5.5, 9), 50, 0.5, 6):
            if rng.random() < (0.75 if street.town else 0.07):
                x = rng.uniform(kerb + side * 0.5, kerb + side * min(street.pavement - 0.3, 3.5))
                things.append((z, draw_person, (x, z)))
    for _ in range(rng.randint(0, 4) if street.crossing > 0 else 0):
        x, z = street.middle + rng.uniform(-1, 1) * street.half_road, street.crossing + rng.uniform(0.3, 2.6)
        things.append((z, draw_person, (x, z)))
    return things


def town_side(street: Street, side: int, kerb: float, front: float, rng: Random) -> list[Thing]:
    """A row of houses with gaps, trees, lamps and parked cars."""
    things: list[Thing] = []
    storeys, z1 = rng.choice((2, 2, 3, 3, 4, 6)), rng.uniform(2, 14)
    for end in steps(rng, z1, 190, 8, 22):
        z0, z1 = z1, end
        if rng.random() < 0.84:
            things.append((z1, draw_house, (side, front, z0, z1, max(1, storeys + rng.randint(-1, 2)))))
        else:  # a garden
            z = rng.uniform(z0, z1) + 3
            things.append((z, draw_tree, (front + side * rng.uniform(1.5, 10), z, rng.uniform(4, 9), "round")))
    spacing, shape = rng.choice((8.0, 12.0, 16.0, 99.0)), rng.choice(("round", "round", "poplar"))
    for z in steps(rng, rng.uniform(6, 14), 95, spacing, spacing):
        things.append((z, draw_tree, (kerb + side * 0.9, z, rng.uniform(3.8, 6.5), shape)))
    for z in steps(rng, street.lamp_spacing / 2, 95, street.lamp_spacing, street.lamp_spacing):
        things.append((z, draw_lamp, (side, kerb + side * 0.35, z)))
    parked = rng.uniform(0.2, 0.9) if street.half_road > 4.5 else 0.0
    for z in steps(rng, rng.uniform(4, 12), 80, 5.6, 8):
        if rng.random() < parked:
            things.append((z, draw_car, (kerb - side * 1.1, z, side < 0)))
    return things


def country_side(side: int, front: float, rng: Random) -> list[Thing]:
    """Perhaps a hedge or a row of trees, scattered trees and bushes, perhaps farmhouses."""
    things: list[Thing] = []
    edge, tall = rng.choice(("bush", "round", "poplar", "conifer", "", "", "")), rng.uniform(0.8, 1.4)
    gap = 1.6 if edge == "bush" else 11
    for z in steps(rng, rng.uniform(4, 9), 110 if edge else 0, gap * 0.8, gap * 1.2):
        height = tall * (rng.uniform(0.85, 1.15) if edge == "bush" else rng.uniform(5, 8))
        things.append((z, draw_tree, (front + side * 1.5, z, height, edge)))
    for _ in range(rng.randint(3, 12)):
        x, z, shape = front + side * rng.uniform(4, 60), rng.uniform(14, 140), rng.choice(("round", "conifer", "bush"))
        things.append((z, draw_tree, (x, z, rng.uniform(1, 2.5) if shape == "bush" else rng.uniform(5, 12), shape)))
    for _ in range(rng.choice((0, 0, 1, 2))):
        x, z = front + side * rng.uniform(3, 16), rng.uniform(20, 70)
        things.append((z + 10, draw_house, (side, x, z, z + 10, rng.choice((1, 1, 2)))))
    return things


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
        self.parts: list[tuple[float, ...]] = []

    def part(
        self,
        row: int,
        colour: Colour,
        plane: Point,
        sunlit: float = 0.5,
        glow: float = 0.0,
        windows: tuple[float, ...] = (0.0,) * 7,
    ) -> int:
        """The number of a new part of class `row` lying in `plane`.

        `sunlit` is the cosine between its normal and the sun, `glow` the light it gives off in multiples of its colour.
        `windows` are the bay and the storey in metres, the shares of both that are glass, where the first bay begins,
        the height of the wall, and whether there are shops at the bottom.
        """
        self.parts.append((row, *colour, *plane, max(sunlit, 0.0), glow, *windows))
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


def draw_far_away(drawing: Drawing) -> None:
    """The sky (part 0), hills and roofs at the end of the view, the ground and the road."""
    street, rng, sunlit = drawing.street, drawing.rng, drawing.light.towards_sun[1]
    drawing.part(SKY, (0, 0, 0), (0, 0, 1e-3))
    for z in (900.0, 500.0, 300.0):
        hill = drawing.part(TREE, mix(rng.choice(street.leaves), street.grass, rng.random() * 0.6), (0, 0, 1 / z))
        phase, rise = rng.uniform(0, 6), drawing.focal * rng.uniform(0.005, 0.03 if street.town else 0.09)
        ridge = [(0.0, drawing.horizon)]
        for step in range(49):
            wave = 1 + 0.5 * sin(phase + step / 7) + 0.3 * sin(3 * phase + step / 3) + rng.uniform(0, 0.15)
            ridge.append((drawing.width * step / 48, drawing.horizon - rise * wave))
        drawing.pen.polygon([*ridge, (drawing.width, drawing.horizon)], fill=hill)
    for _ in range(rng.randint(8, 18) if street.town else 0):
        z, x, half, height = rng.uniform(200, 320), rng.uniform(-110, 110), rng.uniform(4, 10), rng.uniform(6, 36)
        windows = (5, 4, 0.6, 0.5, x, height, 0)
        drawing.board(drawing.part(BUILDING, rng.choice(WALLS), (0, 0, 1 / z), 0.4, 0, windows), x, z, 0, height, half)
    ground = drawing.part(PAVEMENT, rng.choice(PAVINGS) if street.town else street.grass, GROUND, sunlit)
    drawing.pen.rectangle((0, drawing.horizon, drawing.width, drawing.height), fill=ground)
    grey = rng.uniform(0.30, 0.48)
    road = drawing.part(ROAD, (grey, grey, grey + rng.uniform(-0.02, 0.03)), GROUND, sunlit)
    depths = [NEAR * 1.14**step for step in range(44)]
    left, right = street.middle - street.half_road, street.middle + street.half_road
    drawing.fill(road, *((left, 0.0, z) for z in depths), *((right, 0.0, z) for z in reversed(depths)))


def draw_house(drawing: Drawing, side: int, front: float, z0: float, z1: float, storeys: int) -> None:
    """A house beside the road: the gable that faces us, then the wall that faces the road, and the roof."""
    rng, (sx, _, sz), town = drawing.rng, drawing.light.towards_sun, drawing.street.town
    storey, depth = rng.uniform(2.9, 3.5), rng.uniform(8, 12)
    eaves, middle, back = storeys * storey + 0.5, front + side * depth / 2, front + side * depth
    pitched = storeys < 4 and (not town or rng.random() < 0.7)
    ridge = eaves + (rng.uniform(2, 4) if pitched else 0)
    colour, (wide, tall) = jitter(rng, rng.choice(WALLS), 0.05), rng.choice(WINDOWS)
    drawing.shadow_of_box(middle, depth / 2, z0, z1, eaves)
    windows = (depth / 3, storey, min(wide, 0.5) * 0.8, tall, front, eaves, 0)
    gable = drawing.part(BUILDING, colour, (0, 0, 1 / z0), -sz, 0, windows)
    drawing.fill(gable, (front, 0, z0), (front, eaves, z0), (middle, ridge, z0), (back, eaves, z0), (back, 0, z0))
    x = front + drawing.street.bend * z0 * z0
    if x * side < 1:  # a bend has turned the road side of the house away from us
        return
    plane, sunlit, shops = (1 / x, 0.0, 0.0), -side * sx, town and storeys > 1 and rng.random() < 0.5

    def strip(part: int, low: float, high: float) -> None:
        drawing.fill(part, (front, low, z0), (front, high, z0), (front, high, z1), (front, low, z1))

    bay = (z1 - z0) / max(1, round((z1 - z0) / rng.uniform(2.2, 3.8)))
    strip(drawing.part(BUILDING, colour, plane, sunlit, 0, (bay, storey, wide, tall, z0, eaves, shops)), 0, eaves)
    strip(drawing.part(BUILDING, scale(colour, rng.uniform(0.7, 1.15)), plane, sunlit), eaves - 0.4, eaves)
    if shops:
        sign = drawing.part(BUILDING, rng.choice(PAINTS), plane, sunlit, 0.3 * drawing.light.lamps)
        strip(sign, storey - 0.5, storey)
    if pitched:
        tiles = drawing.part(BUILDING, jitter(rng, rng.choice(ROOFS), 0.04), plane, 0.5 + 0.4 * sunlit)
        drawing.fill(tiles, (front, eaves, z0), (middle, ridge, z0), (middle, ridge, z1), (front, eaves, z1))


def draw_lamp(drawing: Drawing, side: int, x: float, z: float) -> None:
    """A street lamp: a thin post, an arm towards the road, and the light."""
    post = drawing.part(BUILDING, (0.3, 0.32, 0.33), (0, 0, 1 / z))
    drawing.board(post, x, z, 0, LAMP, 0.06)
    drawing.board(post, x - side * 0.55, z, LAMP, LAMP + 0.15, 0.6)
    bulb = drawing.part(BUILDING, (1.0, 0.80, 0.50), (0, 0, 1 / z), 0.5, 7 * drawing.light.lamps)
    drawing.board(bulb, x - side * 1.1, z, LAMP - 0.1, LAMP + 0.08, 0.3)


def draw_tree(drawing: Drawing, x: float, z: float, height: float, shape: str) -> None:
    """A trunk and a crown of many blobs, the paler ones towards the sun; a bush has no trunk."""
    rng, (sx, sy, _), plane = drawing.rng, drawing.light.towards_sun, (0.0, 0.0, 1 / z)
    girth = {"round": 0.36, "poplar": 0.16, "conifer": 0.26, "bush": 0.8}[shape] * height
    foot = {"round": 0.3, "poplar": 0.15, "conifer": 0.1, "bush": 0.0}[shape] * height
    middle, half, pointed = (foot + height) / 2, (height - foot) / 2, shape == "conifer"
    leaf = jitter(rng, rng.choice(drawing.street.leaves), 0.05)
    tones = [drawing.part(TREE, scale(leaf, tone), plane, tone - 0.4) for tone in (0.55, 0.75, 0.95, 1.15)]
    bark = drawing.part(TREE, jitter(rng, (0.36, 0.28, 0.22), 0.05), plane)
    drawing.board(bark, x, z, 0, middle, 0.02 * height + 0.03)
    if pointed:
        drawing.fill(tones[0], (x - girth, foot, z), (x, height, z), (x + girth, foot, z))
    else:
        drawing.oval(tones[0], x, middle, z, girth * 0.85, half * 0.85)
    blobs = []
    for _ in range(int(min(max(70 * height / z, 3), 40))):
        angle, out = rng.uniform(0, 2 * pi), rng.random() ** 0.5
        dx, dy = out * cos(angle), out * sin(angle)
        blobs.append((dx * sx + dy * (0.4 + sy) + rng.gauss(0, 0.35), dx, dy))
    for tone, dx, dy in sorted(blobs):
        spread = girth * (0.55 - 0.45 * dy if pointed else 1)
        radius = min(spread, half) * rng.uniform(0.2, 0.42)
        level = 0 if tone < -0.6 else 1 if tone < 0 else 2 if tone < 0.6 else 3
        left, high = x + dx * spread, max(middle + dy * half * 0.9, radius * 0.5)
        drawing.oval(tones[level], left, high, z, radius, radius * 0.8)
        drawing.shadow_of_ball(left, high, z, radius * 1.2)


def draw_car(drawing: Drawing, x: float, z: float, towards_us: bool) -> None:
    """A car whose near end is at `z`: the side that we see, the roof and the panes from far to near, the near face."""
    rng, (sx, sy, sz), lamps = drawing.rng, drawing.light.towards_sun, drawing.light.lamps
    length, height, half, line = rng.choice(CARS)
    if towards_us:
        line = tuple((1 - along, up) for along, up in reversed(line))
    paint, plane, waist = jitter(rng, rng.choice(PAINTS), 0.04), (0.0, 0.0, 1 / (z + 0.5)), line[0][1] * height
    face, lid = drawing.part(CAR, paint, plane, -sz), drawing.part(CAR, paint, plane, sy)
    glass = drawing.part(CAR, (0.13, 0.16, 0.19), plane, 0.3, 0.25 * (1 - lamps))
    black, rim = drawing.part(CAR, (0.08, 0.08, 0.09), plane), drawing.part(CAR, (0.6, 0.6, 0.62), plane)
    drawing.shadow_of_box(x, half, z, z + length, height * 0.8)

    def corner(side: float, along: float, up: float) -> Point:
        return x + side * (half - 0.5 * max(0.0, up - 0.62)), up * height, z + along * length

    if abs(x) > half:
        side = -1 if x > 0 else 1
        flank = drawing.part(CAR, scale(paint, 0.9), plane, side * sx)
        drawing.fill(flank, *(corner(side, *place) for place in ((0.0, 0.2), *line, (1.0, 0.2))))
        cabin = [place for place in line if place[1] > 0.63]
        mid = sum(along for along, _ in cabin) / len(cabin)
        drawing.fill(glass, *(corner(side, mid + 0.84 * (along - mid), 0.2 + 0.75 * up) for along, up in cabin))
        for along in (0.18, 0.8):
            for part, radius in ((black, 0.34), (rim, 0.19)):
                turns = [step * pi / 6 for step in range(12)]
                rest = ((along + radius / length * cos(turn), (0.34 + radius * sin(turn)) / height) for turn in turns)
                drawing.fill(part, *(corner(side, *place) for place in rest))
    for side in (-1, 1):
        drawing.board(black, x + side * (half - 0.12), z + 0.3, 0, 0.5, 0.12)
    for (along, up), (further, higher) in reversed(list(pairwise(line))):
        run, rise = further - along, higher - up
        if rise < 0:
            continue  # it falls away from us
        for part, trim in ((face, 0.0), (glass, 0.12)) if rise > 0.15 else ((lid, 0.0),):
            ends = ((trim - 1, trim), (trim - 1, 1 - trim), (1 - trim, 1 - trim), (1 - trim, trim))
            drawing.fill(part, *(corner(side, along + share * run, up + share * rise) for side, share in ends))
    drawing.board(face, x, z, 0.2 * height, waist, half)
    drawing.board(black, x, z, 0.17 * height, 0.27 * height, half - 0.03)
    drawing.board(drawing.part(CAR, (0.85, 0.85, 0.8), plane, -sz, 0.3 * lamps), x, z, waist - 0.4, waist - 0.28, 0.26)
    if towards_us:
        drawing.board(black, x, z, waist - 0.22, waist - 0.06, 0.5)
    colour, glow = ((1.0, 0.95, 0.82), 9 * lamps + 0.3) if towards_us else ((0.85, 0.06, 0.04), 3 * lamps + 0.1)
    lamp = drawing.part(CAR, colour, plane, -sz, glow)
    for side in (-1, 1):
        drawing.board(lamp, x + side * (half - 0.17), z, waist - 0.24, waist - 0.07, 0.13)


def draw_person(drawing: Drawing, x: float, z: float) -> None:
    """Someone walking: legs, arms, coat, head and hair."""
    rng = drawing.rng
    tall, stride, coat = rng.uniform(0.88, 1.06), rng.uniform(-0.3, 0.3), jitter(rng, rng.choice(PAINTS + WALLS), 0.08)
    legs, face, head = scale(rng.choice(PAINTS), 0.6), rng.choice(SKINS), scale(rng.choice(SKINS), 0.5)
    cloth, sleeve, trousers, skin, hair = (
        drawing.part(PERSON, colour, (0, 0, 1 / z)) for colour in (coat, scale(coat, 0.75), legs, face, head)
    )
    drawing.shadow_of_box(x, 0.2, z - 0.1, z + 0.1, 1.6)
    for side in (-1, 1):
        drawing.board(trousers, x + side * (0.08 + stride), z, 0, 0.9 * tall, 0.09, -side * stride)
        swing = side * (stride / 2 - 0.08)
        drawing.board(sleeve, x + side * 0.2 - swing, z, 0.8 * tall, 1.44 * tall, 0.06, swing)
    drawing.board(cloth, x, z, (0.82 - rng.choice((0.0, 0.0, 0.3))) * tall, 1.46 * tall, 0.21)
    drawing.oval(hair, x, 1.63 * tall, z, 0.13, 0.15)
    drawing.oval(skin, x, 1.59 * tall, z, 0.1, 0.12)


@lru_cache(maxsize=1)
def textures() -> tuple[Array, Array]:
    """Two endless patterns with mean 0 and deviation 1, 512x512: fine grain and soft clouds."""
    frequency = np.hypot(np.fft.fftfreq(512)[:, None], np.fft.rfftfreq(512)[None]) * 512 + 1
    white = np.fft.rfft2(np.random.default_rng(0).standard_normal((512, 512)))
    grain, clouds = (np.fft.irfft2(white / frequency**power) for power in (0.6, 1.7))
    return (grain / grain.std()).astype(np.float32), (clouds / clouds.std()).astype(np.float32)


def look_up(texture: Array, across: Array, along: Array) -> Array:
    """The endless `texture` at whole steps; truncation would mirror it at 0, which is moved out of sight."""
    found: Array = texture[(along + 9999).astype(np.int32) & 511, (across + 9999).astype(np.int32) & 511]
    return found


def shine(drawing: Drawing, noise: np.random.Generator) -> Array:
    """Put colour and light on every point of the drawing: linear light, float32 (3, H, W)."""
    light, street, (grain, _) = drawing.light, drawing.street, textures()
    # (16, parts): 0 class, 1:4 colour, 4:7 plane, 7 sunlit, 8 glow, 9:16 windows
    table = np.array(drawing.parts, np.float32).T
    part = np.asarray(drawing.sheet)  # (h, w), FINE times the size of the photo
    u = ((np.arange(drawing.width, dtype=np.float32) + 0.5 - drawing.centre) / drawing.focal)[None]
    v = ((np.arange(drawing.height, dtype=np.float32) + 0.5 - drawing.horizon) / drawing.focal)[:, None]
    a, b, c = (table[row][part] for row in (4, 5, 6))
    z = 1 / np.maximum(a * u + b * v + c, 1e-3)
    x, y, ground = u * z - street.bend * z * z, EYE - v * z, b != 0
    across, up = np.where(a != 0, z, x), np.where(ground, z, y)  # metres along the surface

    rough = np.array([0, 0.07, 0.07 if street.town else 0.15, 0.06, 0.20, 0.01, 0.05], np.float32)
    uneven = look_up(grain, across * 15, up * 15) + look_up(grain, across, up)
    colour = table[1:4, part] * (1 + rough[table[0].astype(int)][part] * uneven).clip(0.3, 1.7)  # (3, h, w)
    glow = table[8][part] * colour
    paint_ground(street, np.flatnonzero(ground), x, z, colour)
    paint_windows(light, np.flatnonzero(table[9][part]), part, table, across, up, colour, glow)

    shade = np.asarray(drawing.shade)
    sunny = table[7][part] * ~(ground & (shade > 0))
    open_sky = np.where(ground, 1 - np.float32(0.25) * shade, (0.65 + 0.12 * y).clip(0.55, 1))
    clear = np.exp(z * (-1 / light.visibility))
    lamps = light.lamps * lamplight(street, u, v, x, y, z) if light.lamps else np.zeros_like(z)
    linear = np.empty_like(colour)
    for channel, warm in enumerate((1.0, 0.72, 0.42)):
        falling = light.sun[channel] * sunny + light.ambient[channel] * open_sky + warm * lamps
        haze = 0.85 * light.horizon[channel]
        linear[channel] = (colour[channel] ** 2 * falling + glow[channel] - haze) * clear + haze
    paint_sky(light, np.flatnonzero(part == 0), u, v, noise, linear)
    return sum_of_points(linear * np.float32(1 / FINE**2))


def paint_ground(street: Street, spots: Indices, x: Array, z: Array, colour: Array) -> None:
    """Markings, kerbs, slabs, lawns and fields, at the flat indices `spots` of `colour` (3, h, w)."""
    x, z = x.ravel()[spots], z.ravel()[spots]
    off = np.abs(x - street.middle)
    road, beyond = off < street.half_road, off > street.half_road + street.pavement
    edge = street.half_road - (2.2 if street.half_road > 4.5 else 0.25)
    marked = (off < 0.08) & (z % 9 < 4.5) | (np.abs(off - edge) < 0.07)
    marked |= (z > street.crossing) & (z < street.crossing + 3) & (x % 1 < 0.5)
    tint = np.ones((3, len(spots)), np.float32)
    tint[:, road & marked] = 2.0
    if street.town:
        tint[:, ((x % 0.8 < 0.06) | (z % 0.8 < 0.06)) & ~road & (z < 16)] = 0.88
        tint[:, ~road & (off < street.half_road + 0.25)] = 1.18
        tint[:, beyond] = np.array(street.grass)[:, None] * 1.5
    else:
        crop = look_up(textures()[0], x[beyond] / 28, z[beyond] / 45)
        furrows = 1 + 0.07 * np.sin(x[beyond] * 5)
        tint[:, beyond] = np.stack([1 + 0.22 * crop, 1 + 0.05 * crop, 1 - 0.1 * crop]) * furrows
        tint[:, ~road & (off < street.half_road + 0.5)] = ((1.1,), (0.95,), (1.3,))
    flat = colour.reshape(3, -1)
    flat[:, spots] = (flat[:, spots] * tint).clip(0, 0.92)


def paint_windows(
    light: Light, spots: Indices, part: Indices, table: Array, across: Array, up: Array, colour: Array, glow: Array
) -> None:
    """Panes and shop windows, at the flat indices `spots`: dark with a gleam of sky by day, many lit after dusk."""
    number = part.ravel()[spots]
    bay, storey, wide, tall, start, wall, shops = table[9:16, number]
    high = up.ravel()[spots]
    column, floor = (across.ravel()[spots] - start) / bay, high / storey
    shop = (floor < 1) & (shops > 0)
    from_middle = np.abs(column % 1 - 0.5) / np.where(shop, 0.9, wide)
    from_centre = np.abs(floor % 1 - np.where(shop, 0.42, 0.55)) / np.where(shop, 0.66, tall)
    frame = (from_middle < 0.62) & (from_centre < 0.6) & (high < wall - 0.5) & (high > 0.3)
    pane = frame & (from_middle < 0.5) & (from_centre < 0.5)
    dice = look_up(textures()[0], np.floor(column) * 37 + number * 91, np.floor(floor) * 53 + number)
    lit = pane & ((dice > 0.6) | shop)
    flat, shining = colour.reshape(3, -1), glow.reshape(3, -1)
    flat[:, spots[frame]] = np.minimum(flat[:, spots[frame]] * 1.2, 0.9)
    flat[:, spots[pane]] = 0.2
    shining[:, spots[pane]] = np.array(light.horizon)[:, None] * (0.03 + 0.06 * np.abs(dice) + 0.1 * (floor % 1))[pane]
    shining[:, spots[lit]] += np.array([[1.0], [0.66], [0.32]]) * light.lamps * (0.5 + 0.25 * (dice[lit] % 2))


def lamplight(street: Street, u: Array, v: Array, x: Array, y: Array, z: Array) -> Array:
    """What our own head lamps, and in town the street lamps, throw on each point."""
    lit: Array = np.exp(-((u / 0.4) ** 2)) * 1.6 / ((1 + np.exp((-60 * (v + 0.02)).clip(max=50))) * (1 + (z / 11) ** 2))
    if street.town:
        below = np.maximum(LAMP + 0.3 - y, 0)
        ahead = (z % street.lamp_spacing - street.lamp_spacing / 2) ** 2 + below**2 + 1
        for side in (-1, 1):
            beside = x - (street.middle + side * (street.half_road - 0.75))
            lit += 55 * below / (ahead + beside**2) ** 1.5
    return lit


def paint_sky(light: Light, spots: Indices, u: Array, v: Array, noise: np.random.Generator, linear: Array) -> None:
    """A gradient, the sun or the moon and its glow, stars and clouds, at the flat indices `spots`."""
    rows, columns = np.divmod(spots, u.shape[1])
    x, y = u[0, columns], -v[rows, 0]  # the ray is (x, y, 1), y up
    sx, sy, sz = light.towards_sun
    near_sun = ((x * sx + y * sy + sz) / np.sqrt(x * x + y * y + 1)).clip(0, 1)
    glow = 0.5 * near_sun**8 + 2 * near_sun**128 + 18 * (near_sun > 0.9996)
    level, reach = np.exp(-4.5 * y), 1 / (y + 0.15)
    start_x, start_z = noise.uniform(0, 512, 2).tolist()
    density = look_up(textures()[1], x * reach * 30 + start_x, reach * 45 + start_z)
    cover = (1.3 * density + 3 * light.clouds - 1.8).clip(0, 1 if light.clouds else 0)
    stars = np.zeros_like(x)
    if light.lamps == 1:
        stars[noise.random(len(x)) < 0.0015] = 0.6
    flat = linear.reshape(3, -1)
    for channel in range(3):
        sun, zenith, horizon = light.sun[channel], light.zenith[channel], light.horizon[channel]
        clear = zenith + (horizon - zenith) * level + sun * glow + stars
        cloud = (0.45 * sun + 1.15 * light.ambient[channel]) * (0.9 - 0.1 * density) + sun * near_sun**8
        flat[channel, spots] = clear + (cloud - clear) * cover


def expose(linear: Array, noise: np.random.Generator) -> Pixels:
    """Linear light (3, H, W) -> a photo: lens glow and softness, exposure, white balance, film curve, sensor noise."""
    height, width = linear.shape[1:]
    for plane in linear:
        excess = Image.fromarray((plane - 0.8).clip(0, 4))
        small = excess.resize((max(width // 8, 4), max(height // 8, 4)), Image.Resampling.BOX)
        plane += 0.5 * np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))
    wide = np.pad(linear, ((0, 0), (1, 1), (1, 1)), mode="edge")
    soft = 0.76 * linear + 0.06 * (wide[:, 1:-1, 2:] + wide[:, 1:-1, :-2] + wide[:, 2:, 1:-1] + wide[:, :-2, 1:-1])
    corners = np.linspace(-1, 1, height)[:, None] ** 2 + np.linspace(-1, 1, width)[None] ** 2
    gain = noise.uniform(1.1, 1.7) * noise.uniform(0.95, 1.05, (3, 1, 1)) * (1 - 0.1 * corners)
    shown = np.sqrt(1 - np.exp(-soft * gain))
    shown += 0.35 * shown * (1 - shown) * (2 * shown - 1)  # film darkens the shadows and lifts the lights
    grain = noise.standard_normal((4, height, width), np.float32) * noise.uniform(0.004, 0.011)
    pixels = ((shown + grain[:3] + grain[3]) * 255).round().clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))


def vote(drawing: Drawing) -> ClassMap:
    """The class that most of each pixel's FINE x FINE points have; where two tie, the earlier in the table."""
    ones = np.array([1 << 4 * int(part[0]) for part in drawing.parts])  # four bits count the points of each class
    counts = sum_of_points(ones[np.asarray(drawing.sheet)]) >> 4 * np.arange(len(CLASSES))[:, None, None] & 15
    winners: ClassMap = counts.argmax(0).astype(np.uint8)  # (K, H, W) -> (H, W)
    return winners


def sum_of_points(values: NDArray[Any]) -> NDArray[Any]:
    """(..., H * FINE, W * FINE) -> (..., H, W)."""
    shares = [values[..., row::FINE, column::FINE] for row in range(FINE) for column in range(FINE)]
    total: NDArray[Any] = np.add.reduce(shares)
    return total


def steps(rng: Random, start: float, end: float, least: float, most: float) -> list[float]:
    """Places from `start` to `end`, each `least` to `most` beyond the one before."""
    places = []
    while start < end:
        places.append(start)
        start += rng.uniform(least, most)
    return places


def scale(values: Point, factor: float) -> Point:
    return values[0] * factor, values[1] * factor, values[2] * factor


def mix(one: Point, other: Point, share: float) -> Point:
    x, y, z = (a + (b - a) * share for a, b in zip(one, other, strict=True))
    return x, y, z


def jitter(rng: Random, colour: Colour, amount: float) -> Colour:
    red, green, blue = (min(max(value + rng.uniform(-amount, amount), 0.03), 0.95) for value in colour)
    return red, green, blue
