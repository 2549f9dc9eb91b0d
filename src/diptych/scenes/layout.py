"""What stands where and what shines on it: the plan of a scene, before anything is drawn."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import hypot
from random import Random

Colour = tuple[float, float, float]  # 0..1; of things as displayed, of light linear
Point = tuple[float, float, float]  # x, y, z in metres
Range = tuple[float, float]

LAMP_HEIGHT = 5.5  # height of a street lamp in metres
# fmt: off
SEASONS: tuple[tuple[Colour, tuple[Colour, ...]], ...] = (  # grass, leaves
    ((0.38, 0.50, 0.24), ((0.34, 0.54, 0.16), (0.22, 0.44, 0.17), (0.46, 0.58, 0.20))),
    ((0.60, 0.56, 0.28), ((0.26, 0.42, 0.16), (0.17, 0.34, 0.18), (0.36, 0.44, 0.18))),
    ((0.50, 0.48, 0.26), ((0.80, 0.45, 0.12), (0.68, 0.27, 0.12), (0.78, 0.64, 0.18), (0.38, 0.42, 0.16))),
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

    def kerb(self, side: int) -> float:
        """x where the pavement begins, on the left (side -1) or the right (1)."""
        return self.middle + side * self.half_road

    def front(self, side: int) -> float:
        """x where the pavement ends."""
        return self.kerb(side) + side * self.pavement


def choose_street(rng: Random, place: str) -> Street:
    """A straight street in "town" or a winding road in the "country", with the camera on its right half."""
    grass, leaves = rng.choice(SEASONS)
    lane, spacing, town = rng.uniform(2.9, 3.6), rng.uniform(20, 30), place == "town"
    half_road = lane + (rng.choice((0.3, 2.3, 2.3)) if town else 0.3)  # with room to park, or without
    crossing = rng.uniform(8, 28) if town and rng.random() < 0.45 else -99.0
    bend = 0.0 if town else rng.uniform(-0.0024, 0.0024)
    return Street(town, -lane / 2, half_road, rng.uniform(2.0, 5.0), bend, crossing, spacing, grass, leaves)


@dataclass(frozen=True)
class House:
    """A house beside the road, whose wall along it stands at x = `front`."""

    side: int  # -1 left of the road, 1 right of it
    front: float
    near: float  # z
    far: float  # z
    storeys: int


@dataclass(frozen=True)
class Tree:
    x: float
    z: float
    height: float
    shape: str  # "round", "poplar", "conifer" or "bush"


@dataclass(frozen=True)
class Lamp:
    side: int
    x: float
    z: float


@dataclass(frozen=True)
class Car:
    x: float
    z: float  # its near end
    towards_us: bool


@dataclass(frozen=True)
class Person:
    x: float
    z: float


Thing = House | Tree | Lamp | Car | Person


def lay_out(street: Street, rng: Random) -> list[Thing]:
    """Everything that stands on the ground, far to near.

    Houses in a row face the road, so what stands between the rows hides them and is never hidden by them: going by the
    far end of a house puts it before everything that can stand in front of it.
    """
    things: list[Thing] = []
    for side in (-1, 1):
        things += town_side(street, side, rng) if street.town else country_side(street, side, rng)
        things += traffic(street, side, rng)
    for _ in range(rng.randint(0, 4) if street.crossing > 0 else 0):
        x, z = street.middle + rng.uniform(-1, 1) * street.half_road, street.crossing + rng.uniform(0.3, 2.6)
        things.append(Person(x, z))
    return sorted(things, key=lambda thing: -(thing.far if isinstance(thing, House) else thing.z))


def town_side(street: Street, side: int, rng: Random) -> Iterator[Thing]:
    """A row of houses with gaps, trees, lamps and parked cars."""
    kerb, front = street.kerb(side), street.front(side)
    storeys, far = rng.choice((2, 2, 3, 3, 4, 6)), rng.uniform(2, 14)
    for end in steps(rng, far, 190, 8, 22):
        near, far = far, end
        if rng.random() < 0.84:
            yield House(side, front, near, far, max(1, storeys + rng.randint(-1, 2)))
        else:  # a garden
            z = rng.uniform(near, far) + 3
            yield Tree(front + side * rng.uniform(1.5, 10), z, rng.uniform(4, 9), "round")
    spacing, shape = rng.choice((8.0, 12.0, 16.0, 99.0)), rng.choice(("round", "round", "poplar"))
    for z in steps(rng, rng.uniform(6, 14), 95, spacing, spacing):
        yield Tree(kerb + side * 0.9, z, rng.uniform(3.8, 6.5), shape)
    for z in steps(rng, street.lamp_spacing / 2, 95, street.lamp_spacing, street.lamp_spacing):
        yield Lamp(side, kerb + side * 0.35, z)
    parked = rng.uniform(0.2, 0.9) if street.half_road > 4.5 else 0.0
    for z in steps(rng, rng.uniform(4, 12), 80, 5.6, 8):
        if rng.random() < parked:
            yield Car(kerb - side * 1.1, z, side < 0)


def country_side(street: Street, side: int, rng: Random) -> Iterator[Thing]:
    """Perhaps a hedge or a row of trees, scattered trees and bushes, perhaps farmhouses."""
    front = street.front(side)
    edge, tall = rng.choice(("bush", "round", "poplar", "conifer", "", "", "")), rng.uniform(0.8, 1.4)
    gap = 1.6 if edge == "bush" else 11
    for z in steps(rng, rng.uniform(4, 9), 110 if edge else 0, gap * 0.8, gap * 1.2):
        height = tall * (rng.uniform(0.85, 1.15) if edge == "bush" else rng.uniform(5, 8))
        yield Tree(front + side * 1.5, z, height, edge)
    for _ in range(rng.randint(3, 12)):
        x, z, shape = front + side * rng.uniform(4, 60), rng.uniform(14, 140), rng.choice(("round", "conifer", "bush"))
        yield Tree(x, z, rng.uniform(1, 2.5) if shape == "bush" else rng.uniform(5, 12), shape)
    for _ in range(rng.choice((0, 0, 1, 2))):
        x, z = front + side * rng.uniform(3, 16), rng.uniform(20, 70)
        yield House(side, x, z, z + 10, rng.choice((1, 1, 2)))


def traffic(street: Street, side: int, rng: Random) -> Iterator[Thing]:
    """Cars on this side's lane, coming towards us on the left, and people on its pavement."""
    kerb, lane = street.kerb(side), street.middle + side * min(street.half_road, 3.6) * 0.5
    for z in steps(rng, rng.uniform(7, 24), 90, 9, 26):
        if rng.random() < (0.6 if street.town else 0.4):
            yield Car(lane + rng.uniform(-0.3, 0.3), z, side < 0)
    for z in steps(rng, rng.uniform(5.5, 9), 50, 0.5, 6):
        if rng.random() < (0.75 if street.town else 0.07):
            yield Person(rng.uniform(kerb + side * 0.5, kerb + side * min(street.pavement - 0.3, 3.5)), z)


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
