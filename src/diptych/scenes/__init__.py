"""Street scenes drawn by formula: a photo and its exact class map, as many as wanted, with nothing to download.

The world is in metres as seen from a car: x to the right of the camera, y above the road, z ahead. First everything is
laid out (`layout`); then it is drawn far to near (`things`) as polygons that hold nothing but *part numbers*
(`drawing`), from which both the photo and the class map are looked up, so that they share every edge; then comes the
light, and last the sensor (`light`).

Six kinds of scene have markedly unequal shares, so that it matters which scenes are chosen to be paired.
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from diptych.errors import DiptychError
from diptych.files import write_png, write_text
from diptych.images import ClassMap, Pixels
from diptych.scenes.drawing import CLASSES, Drawing, vote
from diptych.scenes.layout import choose_light, choose_street, lay_out
from diptych.scenes.light import expose, shine
from diptych.scenes.things import draw_far_away, draw_thing

__all__ = ["CLASSES", "KINDS", "SHARES", "Scene", "draw_scene", "write_scenes"]

SHARES = {
    "day-town": 0.34,
    "day-country": 0.22,
    "dusk-town": 0.16,
    "night-town": 0.12,
    "dusk-country": 0.10,
    "night-country": 0.06,
}
KINDS: tuple[str, ...] = tuple(SHARES)


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
    for thing in lay_out(street, rng):
        draw_thing(drawing, thing)
    noise = np.random.default_rng(rng.getrandbits(64))
    return Scene(expose(shine(drawing, noise), noise), vote(drawing), kind)


def write_scenes(folder: Path, count: int, seed: int, size: tuple[int, int] = (96, 64)) -> None:
    """Write scenes 0 .. count-1 of `seed` as `photos/0000.png` and `labels/0000.png` (palette PNG of class ids).

    Beside them stand `classes.csv` (id,name,red,green,blue) and `kinds.csv` (file,kind).
    """
    kinds: list[tuple[Any, ...]] = [("file", "kind")]
    for index in range(count):
        scene, name = draw_scene(seed, index, size), f"{index:04d}.png"
        write_png(folder / "photos" / name, Image.fromarray(scene.photo))
        write_png(folder / "labels" / name, CLASSES.to_image(scene.classes))
        kinds.append((name, scene.kind))
    rows = zip(CLASSES.ids, CLASSES.names, *CLASSES.colours.T.tolist(), strict=True)
    for name, table in (("classes.csv", [("id", "name", "red", "green", "blue"), *rows]), ("kinds.csv", kinds)):
        text = io.StringIO()
        csv.writer(text).writerows(table)
        write_text(folder / name, text.getvalue())
