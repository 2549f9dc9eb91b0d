"""Feeds damaged and hostile files to everything that reads files, and collects whatever is not a one-line refusal.

    python tests/faults/fuzz.py --inputs 100000 --target image --engine mutate --seed 0

Three engines: `mutate` changes small valid files at random, knowing their structure (JSON trees, words of CSV and YAML,
chunks of PNG, tags of TIFF, headers of safetensors); `hypothesis` draws whole files and edits from strategies;
`atheris` is guided by coverage of our code and of the readers below it that are Python. An input that takes more than
`SECONDS` of the processor, or twelve times as long at all, or `MEMORY` more, is a finding.
"""

import argparse
import hashlib
import io
import json
import os
import pickle
import random
import re
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
SECONDS = 5
MEMORY = 512 * 2**20  # bytes
GUIDED = ("diptych", "yaml", "PIL", "tifffile", "csv", "zipfile", "tarfile", "torch._weights_only_unpickler")
"""What atheris watches."""

Read = Callable[[bytes], None]


class Hang(Exception):
    """An input took too long."""


@dataclass(frozen=True)
class Target:
    """One kind of file: small valid ones, how they are structured, and what reads them, from a folder of its own."""

    kind: str  # of structure: a name in `CHANGES`
    share: float  # of the inputs, where all targets are run
    make: Callable[[Path], tuple[list[bytes], Read]]


@dataclass
class Result:
    """What came out."""

    inputs: int = 0
    refused: int = 0
    seconds: float = 0.0
    findings: dict[str, bytes] = field(default_factory=dict)


# --- targets


def image_target(folder: Path) -> tuple[list[bytes], Read]:
    import numpy as np
    from PIL import Image

    from diptych import images

    images.MAX_PIXELS = 2**20  # as honest as the real limit, and faster
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (9, 11, 3), np.uint8)
    photo = Image.fromarray(pixels)
    palette = photo.quantize(5)
    exif = Image.Exif()
    exif[274] = 6
    seeds = []
    for image, kind, options in (
        (photo, "PNG", {}),
        (palette, "PNG", {"transparency": 0}),
        (photo.convert("LA"), "PNG", {}),
        (photo.convert("1"), "PNG", {}),
        (Image.fromarray(pixels[..., 0].astype(np.uint16) * 257), "PNG", {}),
        (photo, "JPEG", {"exif": exif}),
        (photo.convert("CMYK"), "JPEG", {}),
        (photo, "JPEG", {"progressive": True}),
        (photo, "WEBP", {}),
        (photo, "WEBP", {"lossless": True, "exif": exif}),
        (photo, "BMP", {}),
        (palette, "BMP", {}),
        (photo, "TIFF", {}),
        (photo, "TIFF", {"compression": "tiff_lzw"}),
        (palette, "TIFF", {"compression": "tiff_adobe_deflate"}),
        (photo.convert("1"), "TIFF", {"compression": "group4"}),
        (Image.fromarray(pixels[..., 0].astype(np.uint16) * 257), "TIFF", {}),
        (photo.convert("F"), "TIFF", {}),
        (photo, "PNG", {"save_all": True, "append_images": [photo.rotate(90)]}),
        (photo, "WEBP", {"save_all": True, "append_images": [photo.rotate(180)]}),
        (photo, "TIFF", {"save_all": True, "append_images": [photo.rotate(180)]}),
        (photo, "MPO", {"save_all": True, "append_images": [photo.rotate(180)]}),
        (palette, "GIF", {}),
        (photo, "PPM", {}),
    ):
        data = io.BytesIO()
        image.save(data, kind, **options)
        seeds.append(data.getvalue())
    try:
        import tifffile
    except ImportError:
        pass
    else:
        for shape, options in (
            ((9, 11, 5), {}),
            ((4, 9, 11), {"planarconfig": "separate"}),
            ((32, 32, 2), {"tile": (16, 16)}),
        ):
            for dtype in (np.uint8, np.uint16):
                data = io.BytesIO()
                values = rng.integers(0, 255, shape).astype(dtype)
                tifffile.imwrite(data, values, photometric="minisblack", **options)
                seeds.append(data.getvalue())
    seeds += [
        _png(
            [
                (b"IHDR", struct.pack(">IIBBBBB", 4, 2, 16, 2, 0, 0, 0)),
                (b"IDAT", zlib.compress(bytes(50))),
                (b"IEND", b""),
            ]
        )
    ]
    path = folder / "x.png"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        image = images.open_image(path)
        images.read_header(path) if hasattr(images, "read_header") else None
        images.pixels_of(image, (8, 8))
        images.rgb(image)

    return seeds, read


def class_map_target(folder: Path) -> tuple[list[bytes], Read]:
    import numpy as np
    from PIL import Image

    from diptych import images

    images.MAX_PIXELS = 2**20
    table = images.Classes(
        (0, 7, 255), ("sky", "road", "void"), np.array([[9, 9, 9], [255, 0, 0], [0, 0, 0]], np.uint8), 2
    )
    rows = np.random.default_rng(0).integers(0, 3, (9, 11)).astype(np.uint8)
    ids = np.array(table.ids, np.uint8)[rows]
    seeds = []
    for image in (
        table.to_image(rows),
        Image.fromarray(ids),
        Image.fromarray(table.paint(rows)),
        Image.fromarray(ids.astype(np.uint16)),
    ):
        for kind in ("PNG", "TIFF", "BMP"):
            data = io.BytesIO()
            (image.convert("L") if kind == "BMP" and image.mode.startswith("I") else image).save(data, kind)
            seeds.append(data.getvalue())
    path = folder / "x.png"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        found = images.read_class_map(path, table, (6, 5))
        assert found.max() < 3

    return seeds, read


def pairs_target(folder: Path) -> tuple[list[bytes], Read]:
    from diptych import pairs

    path = folder / "pairs.csv"
    names = ["one.png", "two.png", " three.png", "a/b.png"]
    seeds = [
        b"a,b\none.png,one.png\ntwo.png,\n",
        b"\xef\xbb\xbfa;b\r\none.png;two.png\r\n",
        b'b,note,a\rone.png,"x\ny",two.png\r"./ three.png",,one.png\r',
        b"a\none.png\n\n../x.png\n",
        "a,b\ncafé.png,\u202eñ.png\n".encode("utf-16"),
    ]

    def read(data: bytes) -> None:
        path.write_bytes(data)
        rows = pairs.read_rows(path)
        pairs.write_pairs(folder / "again.csv", rows)
        if all(name == name.rstrip() for row in rows for name in row):  # images end in a suffix
            assert pairs.read_rows(folder / "again.csv") == rows, "what is written is not what is read back"
        pairs.read_two_columns(path, "segmenter", "class")
        pairs.read_pairs(path, (folder, names), (folder, names))

    return seeds, read


def classes_target(folder: Path) -> tuple[list[bytes], Read]:
    from diptych.images import read_classes

    path = folder / "classes.csv"
    seeds = [
        b"id,name,red,green,blue\n0,sky,70,130,180\n7,road,128,64,128\n255,void,0,0,0\n",
        b'\xef\xbb\xbfname;blue;green;red;id\r\n"a,b";1;2;3;4\r\n',
    ]

    def read(data: bytes) -> None:
        path.write_bytes(data)
        assert len(read_classes(path)) <= 256

    return seeds, read


RECIPE = b"""method: shukla
a: photos
b: labels
out: run
steps: 100
size: 64x48
ngf: 8
weights: &w {cycle_a: 10, cycle_b: 1e1}
judge: {patch: 16, ndf: 8}
optim:
  lr: 2.0e-4
pairs: 12
"""


def recipe_target(folder: Path) -> tuple[list[bytes], Read]:
    from diptych.build import resolve
    from diptych.recipes import read_recipe, settings_from

    path = folder / "recipe.yaml"
    seeds = [
        RECIPE,
        b"extends: shukla\na: x\nb: y\nout: z\n",
        b"extends: tripathy\na: x\nb: y\nout: z\nweights: {judge_b: 2}\nunpaired: all\n",
        b"\xef\xbb\xbfmethod: supervised\r\na: \"x\\ny\"\r\nb: 'y'\r\nb_classes: c.csv\r\nout: >-\r\n  z\r\n  z\r\n",
        b"a: &a [x, *b]\nb: &b {<<: *a, when: 2001-01-01, ? [k]: !!set {v}, y: !!binary aGk=, o: 0x1F, n: ~}\n",
    ]

    def read(data: bytes) -> None:
        path.write_bytes(data)
        resolve(settings_from(read_recipe(path), str(path)))

    return seeds, read


def merging_target(folder: Path) -> tuple[list[bytes], Read]:
    """Two files in one input: the first extends the second."""
    from diptych.recipes import read_recipe, settings_from
    from diptych.studies import read_study

    (folder / "recipe.yaml").touch()
    seeds = [
        b"weights: {cycle_a: 2}\njudge: {ndf: 4}\n%%%%\n" + RECIPE,
        b"optim: 3\nsteps: null\n%%%%\nextends: shukla\noptim: {lr: 1}\n",
        b"weights: [1, 2]\n%%%%\nextends: recipe.yaml\nweights: {1: 2}\n",
    ]

    def read(data: bytes) -> None:
        over, _, under = data.partition(b"%%%%\n")
        (folder / "recipe.yaml").write_bytes(b"extends: base.yaml\n" + over)
        (folder / "base.yaml").write_bytes(under)
        for reader in (read_recipe, read_study):
            values = reader(folder / "recipe.yaml")
            settings_from(values, "recipe.yaml")

    return seeds, read


def study_target(folder: Path) -> tuple[list[bytes], Read]:
    from diptych.studies import read_study
    from diptych.studies.plan import make_plan

    path = folder / "study.yaml"
    seeds = [
        b"""title: T
about: words
metrics: [mean_iou, fid]
data: {a: photos, b: labels, val_a: va, val_b: vb, b_classes: c.csv}
train: {recipe: shukla, steps: 10}
select: {features: descriptor, budget: 4}
seeds: [0, 1]
axes:
  budget: {four: {select: {budget: 4}}, none: {select: {budget: 0}, train: {recipe: cyclegan}}}
  method: {shukla: {}, tripathy: {train: {recipe: tripathy}}}
skip: [{budget: none, method: tripathy}]
rows: [{labels: {method: extra}, train: {steps: 5}}]
published: [{labels: {method: shukla}, mean_iou: 0.3}]
curve: {x: budget, y: mean_iou}
""",
        b"extends: budget-curve\ndata: {a: x, b: y, val_a: x, val_b: y}\nseeds: [1]\naxes: {budget: null}\n",
    ]

    def read(data: bytes) -> None:
        path.write_bytes(data)
        make_plan(read_study(path), str(path), folder / "out")

    return seeds, read


def dataset_target(folder: Path) -> tuple[list[bytes], Read]:
    from diptych.layouts import read_layout

    (folder / "a").mkdir()
    (folder / "b").mkdir()
    path = folder / "dataset.yaml"
    seeds = [b"about: words\na: a\nb: b\nval_a: a\nval_b: b\n", b"a: a::left\nb: a::right\nb_classes: dataset.yaml\n"]

    def read(data: bytes) -> None:
        path.write_bytes(data)
        read_layout(folder)

    return seeds, read


def shards_target(folder: Path) -> tuple[list[bytes], Read]:
    from PIL import Image

    from diptych.dataset import Dataset, open_domain
    from diptych.shards.opening import open_shards
    from diptych.shards.packing import write_shards

    (folder / "a").mkdir()
    for name in ("x.png", "y.png"):
        Image.new("RGB", (9, 8)).save(folder / "a" / name)
    domain, _ = open_domain(folder / "a", None)
    write_shards(Dataset(domain, domain, ((0, 1),)), folder, 3000, 0, lambda done, total: None)
    index = folder / "shards.json"

    def load() -> None:
        said = re.search(rb'"images_sha256": "([0-9a-f]{64})"', index.read_bytes())
        if said is not None:  # the digest of images.json as it is now: what is wrong behind it is to be found
            now = hashlib.sha256((folder / "images.json").read_bytes()).hexdigest().encode()
            index.write_bytes(index.read_bytes().replace(said[1], now))
        opened = open_shards(
            str(folder), swap=False, channels={"a": 3, "b": 3}, cache_limit=2**20, note=lambda text: None
        )
        for side in opened.domains.values():
            side.file(0).open().close()

    return _one_of_several(folder, ["shards.json", "images.json"], load)


def archive_target(folder: Path) -> tuple[list[bytes], Read]:
    import shutil
    import tarfile

    from diptych.importers import archives

    files = {"a/one.txt": b"1" * 40, "two.txt": b"2", "deep/er/x": bytes(range(256))}
    seeds = []
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", compression) as opened:
            for name, content in files.items():
                opened.writestr(name, content)
        seeds.append(data.getvalue())
    for mode in ("w", "w:gz", "w:xz", "w:bz2"):
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode=mode) as tar:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            link = tarfile.TarInfo("link")
            link.type, link.linkname = tarfile.SYMTYPE, "../../x"
            tar.addfile(link)
        seeds.append(data.getvalue())
    path, out = folder / "in" / "x.zip", folder / "deep" / "out"
    path.parent.mkdir()

    def read(data: bytes) -> None:
        path.write_bytes(data)
        try:
            archives.unpack(path, out)
        finally:
            shutil.rmtree(out.parent, ignore_errors=True)
            assert [path.name for path in folder.iterdir()] == ["in"], "something was written outside"

    return seeds, read


def _run_folder(folder: Path) -> Path:
    """A run with one tiny checkpoint, of the format without hashes, so that what is changed is read at all."""
    import torch

    from diptych.networks import make_generator
    from diptych.translator import Translator, TranslatorSpec

    run = folder / "run"
    architectures = {
        "a_to_b": {
            "generator": "resnet",
            "in_channels": 3,
            "out_channels": 3,
            "ngf": 1,
            "blocks": 1,
            "norm": "batch",
            "dropout": False,
            "head": "tanh",
        },
        "b_to_a": {
            "generator": "unet",
            "in_channels": 3,
            "out_channels": 3,
            "ngf": 1,
            "depth": 2,
            "norm": "instance",
            "dropout": True,
            "skips": True,
            "leak": 0.2,
        },
    }
    torch.manual_seed(0)
    spec = TranslatorSpec(architectures, (8, 8), "a_to_b", {"a": None, "b": None}, False)
    place = run / "checkpoints" / "00000004"
    Translator({way: make_generator(found) for way, found in architectures.items()}, spec).save_pretrained(place)
    record = json.loads((place / "translator.json").read_text())
    classes = {"ids": [0, 7, 255], "names": ["x", "y", "void"], "colours": [[1, 2, 3], [4, 5, 6], [0, 0, 0]], "void": 2}
    record |= {"format": 1, "classes": {"a": None, "b": classes}}
    record.pop("sha256")
    (place / "translator.json").write_text(json.dumps(record))
    entry = {"name": "00000004", "step": 4, "metric": "mean_iou", "value": 0.5}
    (run / "checkpoints.json").write_text(json.dumps({"last": entry, "best": entry}))
    return run


def _one_of_several(run: Path, files: list[str], reader: Callable[[], None]) -> tuple[list[bytes], Read]:
    """Inputs whose first byte says which file they take the place of."""
    originals = {name: (run / name).read_bytes() for name in files}
    seeds = [bytes([place]) + originals[name] for place, name in enumerate(files)]

    def read(data: bytes) -> None:
        name = files[data[0] % len(files)] if data else files[0]
        (run / name).write_bytes(data[1:])
        try:
            reader()
        finally:
            (run / name).write_bytes(originals[name])

    return seeds, read


def checkpoint_target(folder: Path) -> tuple[list[bytes], Read]:
    import numpy as np

    from diptych.translator import Translator

    run = _run_folder(folder)
    image = np.zeros((8, 8, 3), np.uint8)

    def load() -> None:
        translator = Translator.from_pretrained(run)
        seen = max(translator.spec.size) <= 16
        if seen and all(form.bits == 8 and form.channels == 3 for form in translator.spec.forms.values()):
            translator(image)

    place = "checkpoints/00000004"
    files = [f"{place}/translator.json", f"{place}/a_to_b/config.json", f"{place}/b_to_a/config.json"]
    files += [f"{place}/a_to_b/model.safetensors", "checkpoints.json"]
    return _one_of_several(run, files, load)


def state_target(folder: Path) -> tuple[list[bytes], Read]:
    import torch

    from diptych.build import NetworkMakers, make_method, resolve
    from diptych.config import TrainSettings
    from diptych.training import resume
    from diptych.training.step import make_optimisers

    run = _run_folder(folder)
    words = {
        "method": "shukla",
        "a": folder,
        "b": folder,
        "out": run,
        "ngf": 1,
        "blocks": 1,
        "generator": "resnet",
        "size": "8x8",
        "pool_size": 2,
    }
    settings = resolve(TrainSettings(**words, judge={"patch": 1, "ndf": 1}))
    method = make_method(settings, NetworkMakers(settings, {"a": None, "b": None}), torch.device("cpu"))
    optimisers = make_optimisers(method, (0.5, 0.9))
    for optimiser in optimisers.values():
        for group in optimiser.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        optimiser.step()
    for pool in method.pools.values():  # type: ignore[attr-defined]
        pool.query(torch.zeros(2, 3, 4, 4))
    extra: list[Any] = []
    try:
        from diptych.training.health import Health
    except ImportError:
        pass
    else:
        extra.append(Health())
    place = run / "checkpoints" / "00000004"
    from safetensors.torch import save_file

    for name, network in method.networks.items():
        if not name.startswith("judge"):
            (place / name).mkdir(exist_ok=True)
            save_file(network.state_dict(), place / name / "model.safetensors")
    resume.save_training(place, 4, method, optimisers, *extra, {"cycle_a": [0.5]})
    tree = json.loads((place / "training" / "state.json").read_text())
    tree.pop("sha256", None)
    (place / "training" / "state.json").write_text(json.dumps(tree))

    def load() -> None:
        state = torch.get_rng_state()
        try:
            step, _ = resume.load_training(place, method, optimisers, *extra)
            assert isinstance(step, int)
            for optimiser in optimisers.values():
                optimiser.step()
        finally:
            torch.set_rng_state(state)

    files = ["training/state.json", "training/state.safetensors", "a_to_b/model.safetensors", "translator.json"]
    return _one_of_several(place, files, load)


def record_target(folder: Path) -> tuple[list[bytes], Read]:
    from diptych.errors import DiptychError
    from diptych.evaluation.record import class_scores, flat_intervals
    from diptych.saved import Checkpoints, Data, read_record
    from diptych.studies import folder as study_folder
    from diptych.studies import table

    run = folder / "run"
    run.mkdir()
    data = {"pairs": [["x.png", "y.png"]], "unpaired_a": ["x.png"], "unpaired_b": ["y.png"], "bits": {"a": 8, "b": 16}}
    entry = {"name": "00000004", "step": 4, "metric": None, "value": None}
    metrics = {
        "n": 3,
        "scores": {"mean_iou": 0.5, "per_class": {"x": {"accuracy": 1.0, "iou": None}}},
        "intervals": {"mean_iou": [0.1, 0.9]},
        "sets": {"fid": 3.5, "intervals": {}},
        "fcn_score": {"generated": {"mean_iou": 0.1}},
    }
    for name, value in (
        ("data.json", data),
        ("checkpoints.json", {"last": entry, "best": entry}),
        ("metrics.json", metrics),
    ):
        (run / name).write_text(json.dumps(value))

    def load() -> None:
        problems = []
        for reader in (
            lambda: read_record(run / "data.json", Data),
            lambda: read_record(run / "checkpoints.json", Checkpoints),
            lambda: study_folder.saved_step(run),
            lambda: table._read(run / "metrics.json"),
        ):
            try:
                reader()
            except DiptychError as problem:
                problems.append(problem)
        if problems:
            raise problems[0]

    del class_scores, flat_intervals
    return _one_of_several(run, ["data.json", "checkpoints.json", "metrics.json"], load)


def log_target(folder: Path) -> tuple[list[bytes], Read]:
    from diptych.report import read_log
    from diptych.studies.folder import logged
    from diptych.training.journal import cut_log

    path = folder / "log.jsonl"
    lines = [
        {"step": 2, "seconds": 0.5, "images_per_second": 3.5, "lr": 2e-4, "terms": {"cycle_a": 0.5, "judge_b": 1.5}},
        {"step": 2, "validation": {"mean_iou": 0.25, "per_class": {"x": {"iou": 0.5}}, "n": 3}},
        {"step": 4, "note": "words"},
    ]
    seeds = ["".join(json.dumps(line) + "\n" for line in lines).encode()]

    def read(data: bytes) -> None:
        path.write_bytes(data)
        logged(folder)
        read_log(path)
        cut_log(path, 3)

    return seeds, read


def pth_target(folder: Path) -> tuple[list[bytes], Read]:
    import torch

    from diptych.foreign import read_generator
    from diptych.networks import make_generator
    from diptych.weights import read_weights

    torch.manual_seed(0)
    generator = make_generator({"generator": "resnet", "ngf": 1, "blocks": 1})
    state = {
        name.replace("layers.", "model.").replace(".branch.", ".conv_block."): t
        for name, t in generator.state_dict().items()
    }
    seeds = []
    for value in (state, {"x": torch.arange(3), "y": torch.zeros(2, 2)[:, 1]}, generator, [1, 2]):
        for zipped in (True, False):
            data = io.BytesIO()
            torch.save(value, data, _use_new_zipfile_serialization=zipped)
            seeds.append(data.getvalue())
    path = folder / "x.pth"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        read_weights(path)
        read_generator(path)

    return seeds, read


def safetensors_target(folder: Path) -> tuple[list[bytes], Read]:
    import torch
    from safetensors.torch import save

    from diptych.weights import read_weights

    seeds = [save({"x": torch.zeros(2, 3), "y": torch.zeros((), dtype=torch.int64), "z": torch.zeros(0)}), save({})]
    path = folder / "x.safetensors"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        for tensor in read_weights(path).values():
            tensor.sum()

    return seeds, read


def features_target(folder: Path) -> tuple[list[bytes], Read]:
    import numpy as np

    from diptych.features.stored import check_numbers, names_of_rows, open_features

    seeds = []
    for array in (np.ones((3, 2), np.float16), np.eye(4, dtype=np.float32), np.zeros((2, 2)), np.array([[{}]])):
        data = io.BytesIO()
        np.save(data, array)
        seeds += [b"\0" + data.getvalue()]
    seeds += [b"\1a.png\nb.png\n", b"\1\xef\xbb\xbfc/d.png\r\na.png"]
    path = folder / "f.npy"

    def read(data: bytes) -> None:
        """The first byte says whether it is the features or the list beside them."""
        if data[:1] == b"\0":
            path.write_bytes(data[1:])
            check_numbers(path, open_features(path))
        else:
            path.with_suffix(".txt").write_bytes(data[1:])
            assert len(names_of_rows(path, 2, ["a.png", "b.png", "c/d.png"], folder)) == 2

    return seeds, read


TARGETS: dict[str, Target] = {
    "image": Target("image", 0.05, image_target),
    "class_map": Target("image", 0.01, class_map_target),
    "pairs": Target("csv", 0.16, pairs_target),
    "classes": Target("csv", 0.18, classes_target),
    "features": Target("npy", 0.02, features_target),
    "recipe": Target("yaml", 0.03, recipe_target),
    "merging": Target("yaml", 0.05, merging_target),
    "study": Target("yaml", 0.02, study_target),
    "dataset": Target("yaml", 0.04, dataset_target),
    "shards": Target("files", 0.04, shards_target),
    "archive": Target("zip", 0.06, archive_target),
    "checkpoint": Target("files", 0.05, checkpoint_target),
    "state": Target("files", 0.03, state_target),
    "record": Target("files", 0.08, record_target),
    "log": Target("json", 0.1, log_target),
    "pth": Target("zip", 0.04, pth_target),
    "safetensors": Target("safetensors", 0.08, safetensors_target),
}


# --- changes to valid files

NUMBERS = (
    0,
    1,
    -1,
    2,
    7,
    8,
    127,
    128,
    255,
    256,
    32767,
    32768,
    65535,
    65536,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63,
    2**64 - 1,
)
ODD_VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        0.5,
        1e308,
        2**31,
        2**63,
        10**30,
        10**9,
        float("nan"),
        float("inf"),
        "",
        "x",
        "../../x",
    ),
    *("/etc/passwd", "C:\\x", "a\0b", "\ud800", "\udcff", "nan", "1e5", "\u202e", "x" * 300, [], {}, [[]], {"x": 1}),
    *(
        {"tensor": "/step"},
        {"by_name": {}},
        {"by_number": {"0": 1}},
        [1, 2, 3],
        [0.5] * 40,
        "a_to_b",
        "logits",
        "fcn8s",
    ),
)
WORDS = {
    "npy": [
        b"f2",
        b"f4",
        b"<",
        b">",
        b"O",
        b"True",
        b"(",
        b",)",
        b"-1",
        b"0",
        b"9" * 20,
        b"'shape'",
        b"1e9",
        b"\r",
        b"\n",
    ],
    "csv": [
        b",",
        b";",
        b'"',
        b'""',
        b"\n",
        b"\r",
        b"\r\n",
        b"\0",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"a",
        b"b",
        b"../",
        b"/",
        b"\\",
        b"C:",
        b"./",
        b" ",
        b"\t",
        b"\xff",
        "é".encode(),
        b"e\xcc\x81",
        b"one.png",
        b"id",
        b"-1",
        b"256",
        b"1e3",
        b"9" * 5000,
        b"=",
        b"x" * 200000,
    ],
    "yaml": [
        b": ",
        b"- ",
        b"\n",
        b"\r",
        b"\t",
        b"  ",
        b"&a ",
        b"*a",
        b"<<: *a",
        b"[",
        b"]",
        b"{",
        b"}",
        b"!!python/object:os.system ",
        b"!!binary ",
        b"!!int ",
        b"!!float ",
        b"!!timestamp ",
        b"!!bool ",
        b"!!null ",
        b"!!set ",
        b"!!omap ",
        b"!!pairs ",
        b"|",
        b">-",
        b"? ",
        b"'",
        b'"',
        b"\\0",
        b"\\ud800",
        b"\\x",
        b"%YAML 1.1\n",
        b"---\n",
        b"...\n",
        b"#",
        b"~",
        b".nan",
        b"0x",
        b"1:2:3",
        b"0b",
        b"2001-99-99",
        b"=",
        b"null",
        b"extends: ",
        b"recipe.yaml",
        b"base.yaml",
        b"weights",
        b"9" * 5000,
        b"[" * 2000,
        b"{a: " * 500,
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\0",
        b"\xff",
        "\u2028".encode(),
        b"inf",
        b"1e400",
        b"-1",
        b"True",
        b"%%%%\n",
    ],
    "json": [
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b'"',
        b"\\u",
        b"\\ud800",
        b"null",
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"9" * 5000,
        b"[" * 3000,
        b'{"a":' * 2000,
        b"\0",
        b"\xff",
        b"\n",
        b"true",
        b"step",
        b"-1",
        b"0.5",
    ],
}


def change_bytes(rng: random.Random, data: bytes, words: list[bytes] | None = None) -> bytes:
    """A few random changes, whatever the structure."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        place = rng.randrange(len(out) + 1)
        if rng.random() < 0.3:
            place = min(place, rng.randrange(40))  # heads decide most
        match rng.randrange(10 if words else 8):
            case 0 if out:
                out[place % len(out)] ^= 1 << rng.randrange(8)
            case 1 if out:
                out[place % len(out)] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
            case 2:
                del out[place : place + rng.choice((1, 1, 2, 4, 16, 200))]
            case 3:
                out[place:place] = rng.randbytes(rng.choice((1, 2, 4, 16)))
            case 4:
                del out[place:]
            case 5:
                end = place + rng.randrange(1, 40)
                out[place:place] = out[place:end] * rng.choice((1, 2, 30))
            case 6:
                size = rng.choice((1, 2, 4, 8))
                number = rng.choice(NUMBERS) % 2 ** (8 * size)
                out[place : place + size] = number.to_bytes(size, rng.choice(("big", "little")))
            case 7:
                end = rng.randrange(len(out) + 1)
                out[place:place] = out[min(place, end) : max(place, end)][:300]
            case 8 | 9:
                assert words
                word = rng.choice(words)
                out[place : place + (len(word) if rng.random() < 0.3 else 0)] = word
    return bytes(out)


def change_json(rng: random.Random, data: bytes) -> bytes:
    """A change to the tree that a JSON file holds."""
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        return change_bytes(rng, data, WORDS["json"])
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, inner in entries:
            places.append((value, key))
            walk(inner)

    walk(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not places:
            break
        holder, key = rng.choice(places)
        try:
            match rng.randrange(6):
                case 0:
                    del holder[key]
                case 1 if isinstance(holder, dict):
                    holder[
                        rng.choice(("x", "", "../x", "generator", "return", "self", "0", "-1", "tensor", "sha256"))
                    ] = rng.choice(ODD_VALUES)
                case 2:
                    other, name = rng.choice(places)
                    holder[key] = json.loads(json.dumps(other[name]))
                case 3 if isinstance(holder[key], (int, float)):
                    holder[key] = rng.choice(
                        (-holder[key], holder[key] + 1, holder[key] * 1000, str(holder[key]), float(holder[key]))
                    )
                case _:
                    holder[key] = rng.choice(ODD_VALUES)
        except (LookupError, TypeError, ValueError, OverflowError):
            continue
    text = json.dumps(tree)
    if rng.random() < 0.02:
        text = "[" * 100_000 + text
    return text.encode()


def change_lines(rng: random.Random, data: bytes) -> bytes:
    """A change to one line of JSON."""
    lines = data.splitlines() or [b""]
    place = rng.randrange(len(lines))
    lines[place] = (
        change_json(rng, lines[place]) if rng.random() < 0.7 else change_bytes(rng, lines[place], WORDS["json"])
    )
    return b"\n".join(lines) + b"\n" * rng.randrange(2)


def _png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    written = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def change_image(rng: random.Random, data: bytes) -> bytes:
    """A change to a chunk of a PNG, whose checksum is mended; to the tags of a TIFF; to any bytes of the others."""
    if data[:2] in (b"II", b"MM") and rng.random() < 0.6 and len(data) > 60:
        return _change_tiff(rng, data)
    if not data.startswith(b"\x89PNG") or rng.random() < 0.3:
        return change_bytes(rng, data)
    chunks, place = [], 8
    while place + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, place)
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + size]))
        place += 12 + size
    for _ in range(rng.choice((1, 1, 2, 3))):
        if not chunks:
            break
        chosen = rng.randrange(len(chunks))
        kind, body = chunks[chosen]
        match rng.randrange(7):
            case 0:
                del chunks[chosen]
            case 1:
                chunks.insert(rng.randrange(len(chunks) + 1), (kind, body))
            case 2:
                bomb = zlib.compress(bytes(rng.choice((0, 10, 2**21, 2**26))))
                kinds = (
                    b"zTXt",
                    b"iTXt",
                    b"iCCP",
                    b"tEXt",
                    b"eXIf",
                    b"PLTE",
                    b"tRNS",
                    b"acTL",
                    b"fcTL",
                    b"fdAT",
                    b"gAMA",
                    b"cHRM",
                    b"pHYs",
                    b"IDAT",
                    b"sRGB",
                )
                chunks.insert(
                    rng.randrange(len(chunks) + 1),
                    (
                        rng.choice(kinds),
                        rng.choice((b"k\0\0" + bomb, bomb, b"", rng.randbytes(9), b"k\0\1\0\0\0" + bomb)),
                    ),
                )
            case 3 if kind == b"IDAT":
                try:
                    chunks[chosen] = kind, zlib.compress(change_bytes(rng, zlib.decompress(body)))
                except zlib.error:
                    chunks[chosen] = kind, change_bytes(rng, body)
            case 4 if kind == b"IHDR" and len(body) == 13:
                wide, high = (rng.choice((*NUMBERS, 5, 9, 11, 1000)) % 2**32 for _ in range(2))
                chunks[chosen] = kind, struct.pack(">II", wide, high) + body[8:]
            case 5 if kind == b"IHDR" and len(body) == 13:
                rest = bytes(rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255)) for _ in range(5))
                chunks[chosen] = kind, body[:8] + rest
            case _:
                chunks[chosen] = kind, change_bytes(rng, body)
    return _png(chunks)


def _change_tiff(rng: random.Random, data: bytes) -> bytes:
    """Other values in the directory of the first page."""
    out = bytearray(data)
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    if start + 2 > len(data):
        return change_bytes(rng, data)
    (count,) = struct.unpack_from(order + "H", data, start)
    for _ in range(rng.choice((1, 1, 2))):
        entry = start + 2 + 12 * rng.randrange(max(min(count, 64), 1))
        if entry + 12 > len(out):
            break
        match rng.randrange(4):
            case 0:
                tags = (
                    256,
                    257,
                    258,
                    259,
                    262,
                    266,
                    273,
                    274,
                    277,
                    278,
                    279,
                    284,
                    317,
                    320,
                    322,
                    323,
                    324,
                    325,
                    338,
                    339,
                    347,
                    34665,
                    700,
                )
                struct.pack_into(order + "H", out, entry, rng.choice(tags))
            case 1:
                struct.pack_into(order + "H", out, entry + 2, rng.randrange(0, 19))
            case 2:
                struct.pack_into(order + "I", out, entry + 4, rng.choice(NUMBERS) % 2**32)
            case _:
                number = rng.choice((*NUMBERS, 3, 4, 5, 6, 9, 16, 32773, 34712, 50000, 34925, len(data)))
                struct.pack_into(order + "I", out, entry + 8, number % 2**32)
    return bytes(out)


def change_safetensors(rng: random.Random, data: bytes) -> bytes:
    """A change to the header, whose length is mended or not."""
    if len(data) < 8 or rng.random() < 0.2:
        return change_bytes(rng, data)
    (size,) = struct.unpack_from("<Q", data)
    header, rest = data[8 : 8 + size], data[8 + size :]
    header = change_json(rng, header) if rng.random() < 0.8 else change_bytes(rng, header, WORDS["json"])
    for name in (b"F32", b"I64"):
        if rng.random() < 0.1:
            header = header.replace(
                name, rng.choice((b"F16", b"BF16", b"BOOL", b"U8", b"F8_E4M3", b"F64", b"C64", b"F4", b"U16", b"X"))
            )
    rest = rest if rng.random() < 0.7 else change_bytes(rng, rest)
    size = len(header) if rng.random() < 0.9 else rng.choice(NUMBERS) % 2**64
    return struct.pack("<Q", size) + header + rest


def change_zip(rng: random.Random, data: bytes) -> bytes:
    """A change within an entry of a zip, which is packed again with right checksums; else to any bytes."""
    if not data.startswith(b"PK") or rng.random() < 0.4:
        return change_bytes(rng, data)
    out = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as old, warnings.catch_warnings(), zipfile.ZipFile(out, "w") as new:
            warnings.simplefilter("ignore")
            entries = [(info, old.read(info)) for info in old.infolist()]
            if not entries:
                return change_bytes(rng, data)
            chosen = rng.randrange(len(entries))
            if rng.random() < 0.5:
                chosen = next((p for p, (info, _) in enumerate(entries) if info.filename.endswith(".pkl")), chosen)
            for place, (info, content) in enumerate(entries):
                name = info.filename
                if place == chosen:
                    match rng.randrange(5):
                        case 0:
                            name = rng.choice(
                                ("../x", "/x", "a/../../x", "C:\\x", "x\0y", "x/", "é", "x" * 300, "a:b", ".", "")
                            )
                        case 1:
                            info.external_attr = rng.choice((0o120777, 0o10644, 0o20644, 0o40755)) << 16
                        case _:
                            content = change_bytes(rng, content, [pickle.dumps(v)[2:-1] for v in (1, "x", {}, 2**70)])
                compression = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
                entry = zipfile.ZipInfo(name or "x")
                entry.external_attr, entry.compress_type = info.external_attr, compression
                new.writestr(entry, content)
                if rng.random() < 0.02:
                    new.writestr(entry, content)
    except (
        zipfile.BadZipFile,
        OSError,
        ValueError,
        RuntimeError,
        NotImplementedError,
        struct.error,
        EOFError,
        zlib.error,
        LookupError,
    ):
        return change_bytes(rng, data)
    except Exception as problem:  # noqa: BLE001 - lzma and whatever else a damaged seed raises in the reader used here
        del problem
        return change_bytes(rng, data)
    return out.getvalue()


def change_file(rng: random.Random, data: bytes) -> bytes:
    """The first byte says which file it is; its content says of what kind."""
    head, rest = data[:1], data[1:]
    if rest.lstrip()[:1] in (b"{", b"["):
        return head + (change_json(rng, rest) if rng.random() < 0.8 else change_bytes(rng, rest, WORDS["json"]))
    return head + change_safetensors(rng, rest)


CHANGES: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "image": change_image,
    "csv": lambda rng, data: change_bytes(rng, data, WORDS["csv"]),
    "yaml": lambda rng, data: change_bytes(rng, data, WORDS["yaml"]),
    "json": change_lines,
    "zip": change_zip,
    "safetensors": change_safetensors,
    "npy": lambda rng, data: change_bytes(rng, data, WORDS["npy"]),
    "files": change_file,
}


# --- engines


class Trial:
    """Gives inputs to a target and keeps what goes wrong, once for each place."""

    def __init__(self, name: str, folder: Path, keep: Path | None) -> None:
        from diptych.errors import DiptychError

        self.name, self.keep, self.seconds = name, keep, float(SECONDS)
        self.refusal = DiptychError
        self.seeds, self.read = TARGETS[name].make(folder)
        self.result = Result()
        signal.signal(signal.SIGPROF, self._too_long)
        signal.signal(signal.SIGALRM, self._too_long)
        for seed in self.seeds:  # imports what is imported late
            self.give(seed)
        self.result = Result(findings=self.result.findings)
        self.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def _too_long(self, *_: object) -> None:
        raise Hang(f"more than {self.seconds} s")

    def give(self, data: bytes) -> None:
        """One input."""
        signal.setitimer(signal.ITIMER_PROF, self.seconds)
        signal.setitimer(signal.ITIMER_REAL, 12 * self.seconds)
        try:
            self.read(data)
        except self.refusal as problem:
            self.result.refused += 1
            if not str(problem) or not str(problem).isprintable() or len(str(problem)) > 2000:
                self._found(data, problem)
        except Exception as problem:  # noqa: BLE001 - whatever it is, it is what we are looking for
            self._found(data, problem)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
        self.result.inputs += 1
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if hasattr(self, "peak") and (peak - self.peak) * 1024 > MEMORY:
            self._found(data, MemoryError(f"{(peak - self.peak) / 1024:.0f} MB more"))
            self.peak = peak

    def _found(self, data: bytes, problem: BaseException) -> None:
        frames = traceback.extract_tb(problem.__traceback__)
        ours = [frame for frame in frames if "/diptych/" in frame.filename] or frames
        place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
        key = f"{type(problem).__name__} at {place}"
        if key in self.result.findings:
            return
        self.result.findings[key] = data
        print(f"FINDING {self.name}: {key}: {str(problem)[:300]!r} ({len(data)} bytes)", flush=True)
        if self.keep is not None:
            self.keep.mkdir(parents=True, exist_ok=True)
            (self.keep / f"{self.name}-{hashlib.sha256(data).hexdigest()[:12]}").write_bytes(data)


def run_mutate(trial: Trial, inputs: int, seed: int) -> None:
    """Valid files, changed once or several times over."""
    rng = random.Random(f"{trial.name} {seed}")
    change = CHANGES[TARGETS[trial.name].kind]
    while trial.result.inputs < inputs:
        data = rng.choice(trial.seeds)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            data = change(rng, data)[: 2**22]
        trial.give(data)


def run_hypothesis(trial: Trial, inputs: int, seed: int) -> None:
    """Files drawn from strategies, some out of nothing and some by edits of valid ones."""
    import hypothesis
    from hypothesis import HealthCheck, Phase
    from hypothesis import strategies as st

    kind = TARGETS[trial.name].kind
    places = st.integers(0, 400)
    edits = st.lists(
        st.tuples(places, st.integers(0, 8), st.binary(max_size=6) | st.sampled_from(WORDS.get(kind, [b"\0"]))),
        max_size=5,
    )

    def edited(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
        for place, length, word in changes:
            data = data[:place] + word + data[place + length :]
        return data

    changed = st.builds(edited, st.sampled_from(trial.seeds), edits)
    leaves = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=8)
        | st.sampled_from(["a_to_b", "resnet", "x.png"])
    )
    trees = st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.text(max_size=8) | st.sampled_from(["a", "step", "last", "best", "method", "weights", "scores"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
    texts = st.lists(
        st.sampled_from(WORDS.get(kind, [b"\0", b"\xff"]))
        | st.binary(max_size=5)
        | st.text(max_size=6).map(lambda t: t.encode(errors="replace")),
        max_size=25,
    ).map(b"".join)
    dumped = st.tuples(st.integers(0, 4), trees).map(
        lambda pair: bytes(pair[:1]) * (kind == "files") + json.dumps(pair[1]).encode()
    )
    chunks = st.lists(
        st.tuples(st.sampled_from([b"IHDR", b"IDAT", b"PLTE", b"tRNS", b"eXIf", b"IEND"]), st.binary(max_size=30)),
        max_size=6,
    ).map(_png)
    seeded = st.tuples(st.sampled_from(trial.seeds), st.integers(0, 2**32)).map(
        lambda pair: CHANGES[kind](random.Random(pair[1]), pair[0])[: 2**22]
    )
    drawn = {"image": chunks, "csv": texts, "yaml": texts | dumped, "json": dumped, "files": dumped}.get(kind, texts)

    while trial.result.inputs < inputs:
        left = inputs - trial.result.inputs

        @hypothesis.seed(f"{trial.name} {seed} {left}")
        @hypothesis.settings(
            max_examples=min(left, 5000),
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(changed | drawn | seeded)
        def feed(data: bytes) -> None:
            if trial.result.inputs < inputs:
                trial.give(data)

        feed()


def run_atheris(trial: Trial, inputs: int, seed: int, report: Callable[[], None]) -> None:
    """Guided by coverage. Does not come back: libFuzzer ends the process."""
    import atheris

    change = CHANGES[TARGETS[trial.name].kind]
    trial.seconds *= 4  # to be watched takes time

    def mutate(data: bytes, max_size: int, number: int) -> bytes:
        rng = random.Random(number)
        if rng.random() < 0.5:
            return atheris.Mutate(data, max_size)
        return change(rng, data or rng.choice(trial.seeds))[:max_size]

    def feed(data: bytes) -> None:
        trial.give(data)
        if trial.result.inputs == inputs:
            report()

    corpus = Path(tempfile.mkdtemp(dir=_scratch_root(), prefix="corpus-"))
    for place, data in enumerate(trial.seeds):
        (corpus / str(place)).write_bytes(data)
    options = [
        f"-runs={inputs}",
        f"-seed={seed + 1}",
        "-max_len=70000",
        "-verbosity=0",
        "-timeout=60",
        "-rss_limit_mb=6000",
        "-detect_leaks=0",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], feed, custom_mutator=mutate)
    atheris.Fuzz()


ENGINES = ("mutate", "hypothesis", "atheris")


def _scratch_root() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@contextmanager
def trial_of(name: str, keep: Path | None = None) -> Iterator[Trial]:
    """A trial of a target in a scratch folder of its own."""
    with tempfile.TemporaryDirectory(dir=_scratch_root(), prefix="fuzz-") as scratch:
        yield Trial(name, Path(scratch), keep)


def row(name: str, engine: str, result: Result) -> str:
    """A line of the table."""
    speed = result.inputs / max(result.seconds, 1e-9)
    return f"{name:12} {engine:11} {result.inputs:>9} {result.refused:>9} {speed:>9.0f}/s {len(result.findings):>4}"


def main() -> int:
    """Exit code 1 where anything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000, help="for one target, or for all together")
    parser.add_argument("--target", choices=TARGETS)
    parser.add_argument("--engine", choices=ENGINES, default="mutate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the inputs that found something")
    wanted = parser.parse_args()
    if wanted.target is None:
        print(f"{'target':12} {'engine':11} {'inputs':>9} {'refused':>9} {'speed':>11} findings", flush=True)
        worst = 0
        for name, target in TARGETS.items():
            inputs = max(1, round(wanted.inputs * target.share))
            words = ["--target", name, "--inputs", str(inputs), "--engine", wanted.engine, "--seed", str(wanted.seed)]
            words += ["--keep", str(wanted.keep)] if wanted.keep else []
            done = subprocess.run([sys.executable, __file__, *words], check=False)
            if done.returncode:
                print(f"{name}: ended with {done.returncode}", flush=True)
            worst = max(worst, abs(done.returncode))
        return min(worst, 1)
    warnings.simplefilter("ignore")
    if wanted.engine == "atheris":
        import atheris
        import hypothesis  # noqa: F401 - large, and not to be looked at while it is imported
        import imagecodecs  # noqa: F401
        import pydantic  # noqa: F401
        import torch  # noqa: F401
        import tyro  # noqa: F401

        with atheris.instrument_imports(include=list(GUIDED), enable_loader_override=False):
            import diptych.build
            import diptych.studies.plan  # noqa: F401
    with trial_of(wanted.target, wanted.keep) as trial:
        began = time.monotonic()

        def report() -> None:
            trial.result.seconds = time.monotonic() - began
            print(row(wanted.target, wanted.engine, trial.result), flush=True)

        if wanted.engine == "atheris":
            run_atheris(trial, wanted.inputs, wanted.seed, report)
        elif wanted.engine == "hypothesis":
            run_hypothesis(trial, wanted.inputs, wanted.seed)
            report()
        else:
            run_mutate(trial, wanted.inputs, wanted.seed)
            report()
        return 1 if trial.result.findings else 0


if __name__ == "__main__":
    sys.exit(main())
