"""The public datasets in miniature, laid out and named exactly as their authors do, and a server for archives."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 8, 9
CLASSES_OF_VISTAS = """animal--bird animal--ground-animal construction--barrier--curb construction--barrier--fence
construction--barrier--guard-rail construction--barrier--other-barrier construction--barrier--wall
construction--flat--bike-lane construction--flat--crosswalk-plain construction--flat--curb-cut
construction--flat--parking construction--flat--pedestrian-area construction--flat--rail-track
construction--flat--road construction--flat--service-lane construction--flat--sidewalk
construction--structure--bridge construction--structure--building construction--structure--tunnel human--person
human--rider--bicyclist human--rider--motorcyclist human--rider--other-rider marking--crosswalk-zebra
marking--general nature--mountain nature--sand nature--sky nature--snow nature--terrain nature--vegetation
nature--water object--banner object--bench object--bike-rack object--billboard object--catch-basin
object--cctv-camera object--fire-hydrant object--junction-box object--mailbox object--manhole object--phone-booth
object--pothole object--street-light object--support--pole object--support--traffic-sign-frame
object--support--utility-pole object--traffic-light object--traffic-sign--back object--traffic-sign--front
object--trash-can object--vehicle--bicycle object--vehicle--boat object--vehicle--bus object--vehicle--car
object--vehicle--caravan object--vehicle--motorcycle object--vehicle--on-rails object--vehicle--other-vehicle
object--vehicle--trailer object--vehicle--truck object--vehicle--wheeled-slow void--car-mount void--ego-vehicle
void--unlabeled"""
"""The 66 classes of version 1.2, in the order of their ids."""
VISTAS = CLASSES_OF_VISTAS.split()


def photo(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT), seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def ids(path: Path, values: list[int], palette: bool = False) -> Path:
    """A class map whose columns hold `values`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = np.resize(np.array(values, np.uint8), WIDTH)
    image = Image.fromarray(np.tile(columns, (HEIGHT, 1)))
    if palette:
        image.putpalette(np.random.default_rng(1).integers(0, 256, 768, np.uint8).tobytes())
    image.save(path)
    return path


def make_cityscapes(root: Path) -> None:
    for split, city, count in (("train", "aachen", 3), ("val", "munster", 2), ("test", "berlin", 1)):
        for frame in range(count):
            stem = f"{city}_{frame:06}_000019"
            photo(root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png", seed=frame)
            for kind in ("color", "instanceIds"):
                photo(root / "gtFine" / split / city / f"{stem}_gtFine_{kind}.png")
            values = [0] if split == "test" else [7, 8, 26, 33, 3, 18, 31, 0]
            ids(root / "gtFine" / split / city / f"{stem}_gtFine_labelIds.png", values)
            (root / "gtFine" / split / city / f"{stem}_gtFine_polygons.json").write_text("{}")


def make_camvid(root: Path) -> None:
    for split, count in (("train", 3), ("val", 2), ("test", 2)):
        for frame in range(count):
            photo(root / "CamVid" / split / f"0001TP_{frame:06}.png", seed=frame)
            ids(root / "CamVid" / f"{split}annot" / f"0001TP_{frame:06}.png", [0, 3, 8, 11])
        (root / "CamVid" / f"{split}.txt").write_text("/SegNet/CamVid/...\n")


def make_gta5(root: Path) -> None:
    for frame in range(1, 6):
        photo(root / "images" / f"{frame:05}.png", seed=frame)
        ids(root / "labels" / f"{frame:05}.png", [7, 8, 26, 34, 0], palette=True)
    photo(root / "images" / "00006.png", (WIDTH + 2, HEIGHT))
    ids(root / "labels" / "00006.png", [7])


def make_synscapes(root: Path) -> None:
    for scene in range(1, 4):
        photo(root / "Synscapes" / "img" / "rgb" / f"{scene}.png", seed=scene)
        photo(root / "Synscapes" / "img" / "rgb-2k" / f"{scene}.png", (12, 8))
        ids(root / "Synscapes" / "img" / "class" / f"{scene}.png", [7, 23, 0, 34])
        (root / "Synscapes" / "meta").mkdir(exist_ok=True)
        (root / "Synscapes" / "meta" / f"{scene}.json").write_text("{}")


def make_mapillary(root: Path, version: str = "v1.2") -> None:
    labels = [{"name": name, "readable": name, "color": [0, 0, 0], "evaluate": True} for name in VISTAS]
    root.mkdir(parents=True, exist_ok=True)
    (root / (f"config_{version}.json" if version else "config.json")).write_text(json.dumps({"labels": labels}))
    values = [VISTAS.index(name) for name in ("construction--flat--road", "object--vehicle--on-rails", "nature--snow")]
    for split in ("training", "validation"):
        for name in ("-a1", "b_2"):
            photo(root / split / "images" / f"{name}.jpg")
            ids(root / split / version / "labels" / f"{name}.png", values, palette=True)
    photo(root / "testing" / "images" / "c.jpg")


def make_pix2pix(root: Path) -> None:
    for split in ("train", "val", "test"):
        for n in range(1, 4):
            photo(root / split / f"{n}.jpg", (2 * WIDTH, HEIGHT), seed=n)


def make_cyclegan(root: Path) -> None:
    for split in ("train", "test"):
        for n in range(3):
            photo(root / f"{split}A" / f"n02381460_{n}.jpg", seed=n)
            photo(root / f"{split}B" / f"n02391049_{n}.jpg", seed=n)


MINIATURES: dict[str, Callable[[Path], None]] = {
    "cityscapes": make_cityscapes,
    "camvid": make_camvid,
    "gta5": make_gta5,
    "synscapes": make_synscapes,
    "mapillary-vistas": make_mapillary,
    "facades": make_pix2pix,
    "maps": make_pix2pix,
    "edges2shoes": make_pix2pix,
    "horse2zebra": make_cyclegan,
}


@dataclass
class Behaviour:
    """What a server does with files, by path; `asked` is what it was asked for."""

    files: dict[str, bytes]
    ranges: bool = True
    etag: str | None = '"one"'
    length: bool = True
    drop_after: list[int] = field(default_factory=list)  # bytes sent before each of the first connections breaks
    status: list[int] = field(default_factory=list)  # answered first
    asked: list[str | None] = field(default_factory=list)


@contextlib.contextmanager
def serving(behaviour: Behaviour) -> Iterator[str]:
    """A server on this machine; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            behaviour.asked.append(wanted)
            if behaviour.status:
                self.send_error(behaviour.status.pop(0))
                return
            data, start = behaviour.files.get(self.path), 0
            if data is None:
                self.send_error(404)
                return
            same = self.headers.get("If-Range") in (None, behaviour.etag)
            if behaviour.ranges and wanted and same:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= len(data):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(data)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            else:
                self.send_response(200)
            if behaviour.length:
                self.send_header("Content-Length", str(len(data) - start))
            if behaviour.etag:
                self.send_header("ETag", behaviour.etag)
            self.end_headers()
            rest = data[start:]
            self.wfile.write(rest[: behaviour.drop_after.pop(0)] if behaviour.drop_after else rest)
            self.close_connection = True

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
