"""Draw 200 of diptych's scenes, class maps in the colours of CamVid's classes: `draw_scenes.py CLASSES_CSV OUT`."""

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from diptych.scenes import CLASSES, draw_scene

IN_CAMVID = {"person": "pedestrian"}  # the others have the same name there

table, out = Path(sys.argv[1]), Path(sys.argv[2])
with table.open(newline="") as file:
    colours = {row["name"]: [int(row[band]) for band in ("red", "green", "blue")] for row in csv.DictReader(file)}
palette = np.array([colours[IN_CAMVID.get(name, name)] for name in CLASSES.names], np.uint8)
for side in ("photos", "labels"):
    (out / side).mkdir(parents=True)
for index in range(200):
    scene = draw_scene(0, index, (64, 48))
    Image.fromarray(scene.photo).save(out / "photos" / f"{index:03}.png")
    Image.fromarray(palette[scene.classes]).save(out / "labels" / f"{index:03}.png")
