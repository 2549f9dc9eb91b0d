"""Bad input gets one clear line (what, where, how to mend it) and exit code 2, and nothing is written."""

import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from conftest import Folders, diptych, draw_scene, palette_image, said_one_line, tiny, tree
from diptych.cli import main


@dataclass(frozen=True)
class World:
    """What a bad input may be made of: folders to spoil, a trained run not to be touched, a place for the output."""

    data: Folders
    run: Path
    out: Path

    def train(self, method: str, *words: object, size: str = "32x24") -> list[object]:
        data = self.data
        sides = ["--a", data.photos, "--b", data.labels, "--b-classes", data.classes]
        return ["train", method, *sides, *tiny("shukla", size), "--out", self.out, *words]

    def unet(self, *words: object) -> list[object]:
        data = self.data
        sides = ["--a", data.photos, "--b", data.labels, "--generator", "unet", "--size", "32x24"]
        return ["train", "pix2pix", *sides, "--out", self.out, *words]

    def pairs(self, *rows: str, method: str = "shukla") -> list[object]:
        file = self.data.root / "pairs.csv"
        file.write_text("\n".join(["a,b", *rows, ""]))
        return self.train(method, "--pairs", file)

    def fcn8s(self, *words: object, size: str = "32x32") -> list[object]:
        sides = ["--a", self.data.photos, "--b", self.data.labels, "--b-classes", self.data.classes]
        return ["train", "supervised", *sides, "--generator", "fcn8s", "--size", size, "--out", self.out, *words]

    def recipe(self, text: str, *words: object) -> list[object]:
        file = self.data.root / "recipe.yaml"
        file.write_text(text)
        return self.train("shukla", "--recipe", file, *words)

    def select(self, *words: object) -> list[object]:
        return ["select", self.data.photos, "--features", "descriptor", "--out", self.out, *words]

    def stored(self, features: NDArray[Any]) -> list[object]:
        np.save(self.data.root / "f.npy", features)
        return ["select", self.data.photos, "--budget", 2, "--features", self.data.root / "f.npy", "--out", self.out]

    def spoil(self, name: str, content: bytes, folder: str = "photos") -> "World":
        (self.data.root / folder / name).write_bytes(content)
        return self

    def file(self, name: str, content: str = "") -> Path:
        path = self.data.root / name
        path.write_text(content)
        return path

    def empty(self) -> Path:
        path = self.data.root / "empty"
        path.mkdir()
        return path

    def used(self, name: str) -> Path:
        """The output folder with a file `name` that must survive."""
        self.out.mkdir()
        (self.out / name).write_text("precious")
        return self.out


@pytest.fixture
def world(own_folders: Folders, trained: Path, tmp_path: Path) -> World:
    return World(own_folders, trained, tmp_path / "out")


def truncated_jpeg() -> bytes:
    data = io.BytesIO()
    Image.fromarray(draw_scene(3)[0]).save(data, "JPEG")
    return data.getvalue()[: len(data.getvalue()) // 2]


def bomb() -> bytes:
    """A PNG of a few bytes whose header promises 30000x30000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


def png(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def stray(value: int) -> Image.Image:
    """A grey class map with one pixel of `value`."""
    ids = draw_scene(3)[1]
    ids[5, 5] = value
    return Image.fromarray(ids)


def stray_in_palette(value: int) -> Image.Image:
    """The same as a palette image, whose palette shows the stray value black, as void is."""
    ids = draw_scene(3)[1]
    ids[5, 5] = value
    return palette_image(ids)


def in_colour(colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", (48, 32), colour)


Bad = Callable[[World], Sequence[object]]


def bad(name: str, words: Bad, *mentions: str) -> Any:
    """A call that must be refused; its one line names the culprit and the way out: all of `mentions`."""
    return pytest.param(words, mentions, id=name)


FOLDERS_AND_IMAGES = [
    bad("missing", lambda w: w.train("shukla", "--a", "nowhere"), "nowhere: no such folder", "give the folder"),
    bad(
        "select missing", lambda w: ["select", "nowhere", "--out", w.out], "nowhere: no such folder", "give the folder"
    ),
    bad("no images", lambda w: w.train("shukla", "--b", w.empty()), "empty: holds no images", "give the folder"),
    bad("file as folder", lambda w: w.train("shukla", "--a", w.data.classes), "classes.csv: is a file", "give the"),
    bad(
        "text as png",
        lambda w: w.spoil("scene003.png", b"hello").train("shukla"),
        "photos/scene003.png",
        "not an image",
        "repair it or take it out",
        "--skip-unreadable",
    ),
    bad(
        "text as png among the class maps",
        lambda w: w.spoil("scene003.png", b"hello", "labels").train("shukla"),
        "labels/scene003.png",
        "--skip-unreadable",
    ),
    bad(
        "text as png in validation",
        lambda w: w.spoil("scene100.png", b"hello", "val_photos").train(
            "shukla", "--val-a", w.data.val_photos, "--val-b", w.data.val_labels, "--skip-unreadable"
        ),
        "val_photos/scene100.png",
        "repair it or take it out of the folder\n",  # what is scored is never skipped in silence
    ),
    bad(
        "truncated jpeg",
        lambda w: w.spoil("cut.jpg", truncated_jpeg()).train("shukla"),
        "photos/cut.jpg",
        "repair it or take it out",
        "--skip-unreadable",
    ),
    bad(
        "decompression bomb",
        lambda w: w.spoil("bomb.png", bomb()).train("shukla"),
        "photos/bomb.png",
        "decompression bomb",
        "take it out",
        "--skip-unreadable",
    ),
    bad("bomb in select", lambda w: w.spoil("bomb.png", bomb()).select("--budget", 2), "bomb.png", "take it out"),
    bad("text in select", lambda w: w.spoil("t.png", b"x").select("--budget", 2), "t.png", "repair it or take it out"),
    bad(
        "smaller than the crop",
        lambda w: w.train("shukla", size="64x48"),
        "photos: smaller than the crop of 64x48",
        "scene000.png (48x32)",
        "give a smaller --size",
    ),
    bad(
        "one smaller than the crop",
        lambda w: w.spoil("tiny.png", png(in_colour((1, 2, 3)).resize((31, 24)))).train("shukla"),
        "tiny.png (31x24)",
        "give a smaller --size",
    ),
    bad(
        "id not in classes.csv",
        lambda w: w.spoil("scene003.png", png(stray(99)), "labels").train("shukla"),
        "labels/scene003.png: holds the ids 99",
        "classes file",
        "mend the class map",
    ),
    bad(
        "id not in classes.csv, in a palette",
        lambda w: w.spoil("scene003.png", png(stray_in_palette(99)), "labels").train("shukla"),
        "labels/scene003.png: holds the ids 99",
        "mend the class map",
    ),
    bad(
        "colour not in classes.csv",
        lambda w: w.spoil("scene003.png", png(in_colour((1, 2, 3))), "labels").train("shukla"),
        "labels/scene003.png: holds the colours (1, 2, 3)",
        "mend the class map",
    ),
    bad(
        "missing classes.csv",
        lambda w: w.train("shukla", "--b-classes", "nowhere.csv"),
        "nowhere.csv: cannot be read",
        "id,name,red,green,blue",
    ),
    bad(
        "unpaired from nowhere", lambda w: w.train("shukla", "--unpaired-b", "nowhere"), "nowhere: no such", "give the"
    ),
    bad(
        "text as png among unpaired images from elsewhere",
        lambda w: w.spoil("scene100.png", b"hello", "val_photos").train("shukla", "--unpaired-a", w.data.val_photos),
        "val_photos/scene100.png",
        "--skip-unreadable",
    ),
    bad(
        "unpaired from elsewhere with a stray id",
        lambda w: w.spoil("scene100.png", png(stray(99)), "val_labels").train(
            "shukla", "--unpaired-b", w.data.val_labels
        ),
        "val_labels/scene100.png: holds the ids 99",
        "mend the class map",
    ),
    bad(
        "unpaired from elsewhere smaller than the crop",
        lambda w: w.spoil("tiny.png", png(in_colour((1, 2, 3)).resize((31, 24))), "val_photos").train(
            "shukla", "--unpaired-a", w.data.val_photos
        ),
        "val_photos: smaller than the crop of 32x24",
        "tiny.png (31x24)",
        "give a smaller --size",
    ),
]

PAIRS = [
    bad("absent a", lambda w: w.pairs("scene01.png,scene001.png"), "pairs.csv: scene01.png is not in", "scene001.png"),
    bad("absent b", lambda w: w.pairs("scene001.png,xyz.jpg"), "pairs.csv: xyz.jpg is not in", "add the file"),
    bad("empty partner", lambda w: w.pairs("scene001.png,"), "pairs.csv: no partner for scene001.png", "fill column b"),
    bad(
        "twice with different partners",
        lambda w: w.pairs("scene001.png,scene001.png", "scene001.png,scene002.png"),
        "pairs.csv: scene001.png is listed with different partners (scene001.png, scene002.png)",
        "keep one",
    ),
    bad(
        "one partner of two",
        lambda w: w.pairs("scene001.png,scene005.png", "scene002.png,scene005.png"),
        "pairs.csv: scene005.png is listed with different partners (scene001.png, scene002.png)",
        "keep one",
    ),
    bad("nothing in it", lambda w: w.pairs(), "pairs.csv: lists no pair", "complete it"),
    bad("leads out", lambda w: w.pairs("../x.png,scene001.png"), "'../x.png' leads out", "relative"),
    bad(
        "no column a",
        lambda w: w.train("shukla", "--pairs", w.file("p.csv", "x,y\n1,2\n")),
        "p.csv: has no column a",
        "first line must be a,b",
    ),
    bad("missing file", lambda w: w.train("shukla", "--pairs", "p.csv"), "p.csv: cannot be read", "columns a,b"),
    bad("more than there are", lambda w: w.train("shukla", "--pairs", 7), "--pairs 7", "only 6", "smaller number"),
    bad("pix2pix without pairs", lambda w: w.train("pix2pix", "--pairs", "none"), "has none", "give --pairs"),
    bad(
        "unpaired not elsewhere",
        lambda w: w.train(
            *("shukla", "--unpaired-b", w.data.val_labels),
            *("--unpaired", w.file("u.csv", "a,b\nscene000.png,nowhere.png\n")),
        ),
        "u.csv: nowhere.png is not in",
        "val_labels; mend the names",
    ),
    bad("nothing at all", lambda w: w.train("shukla", "--unpaired", 0), "nothing to train on", "give --pairs or"),
    bad(
        "different shapes",
        lambda w: w.spoil("scene003.png", png(stray(0).resize((60, 40), Image.Resampling.NEAREST)), "labels").train(
            "shukla", "--pairs", "all"
        ),
        "photos/scene003.png (48x32)",
        "labels/scene003.png (60x40)",
        "different shapes",
        "mend one",
    ),
]

SELECT = [
    bad("budget 0", lambda w: w.select("--budget", 0), "--budget 0", "at least 1"),
    bad("budget above", lambda w: w.select("--budget", 7), "--budget 7", "only 6 images", "give at most"),
    bad("budget no number", lambda w: w.select("--budget", "few"), "--budget", "'few' is no whole number"),
    bad(
        "pairs.csv there",
        lambda w: ["select", w.data.photos, "--features", "descriptor", "--budget", 2, "--out", w.used("pairs.csv")],
        "pairs.csv",
        "choose another --out",
    ),
    bad("out is a file", lambda w: w.select("--out", w.file("x"), "--budget", 2), "x: is a file", "another --out"),
    bad(
        "out below a file",
        lambda w: w.select("--out", w.file("x") / "y" / "z", "--budget", 2),
        "x: is a file",
        "another --out",
    ),
    bad(
        "within an absent image",
        lambda w: w.select("--budget", 1, "--within", w.file("w.csv", "a\nnone.png\n")),
        "w.csv: none.png is not in",
        "mend the names",
    ),
    bad(
        "budget below the given",
        lambda w: w.select("--budget", 1, "--given", w.file("g.csv", "a,b\nscene001.png,\nscene002.png,\n")),
        "--budget 1",
        "g.csv holds 2",
    ),
    bad("unpaired above", lambda w: w.select("--budget", 2, "--unpaired", 7), "--unpaired 7", "only 6", "give at most"),
    bad(
        "unpaired above what it is within",
        lambda w: w.select("--budget", 1, "--unpaired", 2, "--within", w.file("w.csv", "a\nscene000.png\n")),
        "--unpaired 2",
        "only 1 images",
    ),
    bad("unpaired below the budget", lambda w: w.select("--budget", 4, "--unpaired", 3), "--budget 4", "--unpaired;"),
    bad("unpaired 0", lambda w: w.select("--budget", 2, "--unpaired", 0), "unpaired", "greater than or equal to 1"),
    bad(
        "unpaired.csv there",
        lambda w: w.select("--budget", 2, "--unpaired", 3, "--out", w.used("unpaired.csv")),
        "unpaired.csv exists",
        "choose another --out",
    ),
    bad("no folder", lambda _: ["select", "--budget", 2], "select needs PHOTOS, --out", "select --help"),
    bad(
        "features of fewer images",
        lambda w: w.stored(np.zeros((5, 2), np.float16)),
        "f.npy: has 5 rows for the 6 images",
        "f.txt",
    ),
    bad("features of doubles", lambda w: w.stored(np.zeros((6, 2))), "f.npy: holds float64", "float16 or float32"),
    bad("features in a pickle", lambda w: w.stored(np.array([[{}]] * 6)), "f.npy: holds object", "float16 or float32"),
    bad(
        "features that are no number at the end",
        lambda w: w.stored(np.array([[0, 0]] * 5 + [[0, np.nan]], np.float16)),
        "f.npy: row 5 (counted from 0) holds NaN",
        "compute it again",
    ),
    bad(
        "features with a list of strangers",
        lambda w: [w.file("f.txt", "a.png\nb.png\n"), *w.stored(np.zeros((2, 2), np.float16))][1:],
        "f.txt: a.png, b.png is not in",
        "as seen from that folder",
    ),
    bad("no file of features", lambda w: w.select("--budget", 2, "--features", "none.npy"), "none.npy: cannot be read"),
]

SETTINGS = [
    bad("unknown flag", lambda w: w.train("shukla", "--step", 3), "unknown flag --step;", "'--steps'", "--help"),
    bad("unknown flag before METHOD", lambda w: ["train", "--stepz", 3, "shukla"], "--stepz", "'--steps'"),
    bad("unknown flag=", lambda w: w.train("shukla", "--batch=3"), "unknown flag --batch;", "'--batch-size'"),
    bad("without its group", lambda w: w.train("shukla", "--lr", 1), "unknown flag --lr;", "'--optim.lr'"),
    bad("flag of another command", lambda w: w.select("--steps", 3), "unknown flag --steps", "select --help"),
    bad("nothing like it", lambda w: w.train("shukla", "-q"), "unknown flag -q;", "train --help"),
    bad("unknown command", lambda _: ["trian", "shukla"], "unknown command 'trian'", "'train'"),
    bad(
        "scores among the photos",
        lambda w: ["evaluate", w.run, "--a", w.data.photos, "--b", w.data.labels, "--out", w.data.photos / "x"],
        "lies among the images of",
    ),
    bad("no command", lambda _: [], "select, train, resume, translate, evaluate, study, demo", "--help"),
    bad("a word too many", lambda w: w.train("shukla", "--flip", "yes"), "'yes'", "train --help"),
    bad("a value too few", lambda w: w.train("shukla", "--seed"), "--seed needs a value", "train --help"),
    bad("missing flags", lambda w: ["train", "shukla", "--a", w.data.photos], "train needs --out;", "train --help"),
    bad(
        "missing domain",
        lambda w: ["train", "shukla", "--a", w.data.photos, "--out", w.out],
        "train needs --b,",
        "--data",
    ),
    bad("missing METHOD", lambda w: ["train", "--a", "x", "--b", "y", "--out", w.out], "train needs METHOD;"),
    bad("unknown method", lambda w: w.train("shukle"), "unknown method 'shukle'", "'shukla'", "pix2pix, cyclegan"),
    bad("no whole number", lambda w: w.train("shukla", "--steps", "1.5"), "--steps", "'1.5' is no whole number"),
    bad("no number", lambda w: w.train("shukla", "--jitter", "x"), "--jitter", "'x' is no number"),
    bad("too small", lambda w: w.train("shukla", "--steps", 0), "steps", "greater than or equal to 1"),
    bad("too small in a group", lambda w: w.train("shukla", "--optim.lr", -1), "optim.lr", "greater than 0"),
    bad("infinite", lambda w: w.train("shukla", "--optim.lr", "inf"), "optim.lr", "finite"),
    bad("no choice", lambda w: w.train("shukla", "--generator", "vgg"), "--generator vgg", "unet", "resnet"),
    bad("no patch", lambda w: w.train("shukla", "--judge.patch", 71), "--judge.patch 71", "1, 16, 34, 70, 142, 286"),
    bad("no size", lambda w: w.train("shukla", size="big"), "size", "'big'", "such as 128x96"),
    bad(
        "unpaired with pix2pix", lambda w: w.train("pix2pix", "--unpaired", 3), "pix2pix ignores --unpaired;", "take it"
    ),
    bad(
        "unpaired-a with pix2pix",
        lambda w: w.train("pix2pix", "--unpaired-a", w.data.val_photos),
        "pix2pix ignores --unpaired-a; take it out",
    ),
    bad(
        "unpaired-b with supervised",
        lambda w: w.train("supervised", "--unpaired-b", w.data.val_labels),
        "supervised ignores --unpaired-b; take it out",
    ),
    bad(
        "pool with pix2pix",
        lambda w: w.train("pix2pix", "--pool-size", 3),
        "pix2pix ignores --pool-size",
        "take it out",
    ),
    bad(
        "pairs with cyclegan",
        lambda w: w.train("cyclegan", "--pairs", "all"),
        "cyclegan ignores --pairs",
        "take it out",
    ),
    bad("depth with resnet", lambda w: w.train("shukla", "--depth", 3), "resnet ignores --depth", "take it out"),
    bad("blocks with unet", lambda w: w.unet("--blocks", 3), "unet ignores --blocks", "take it out"),
    bad("skips with resnet", lambda w: w.train("shukla", "--skips", "False"), "resnet ignores --skips", "take it out"),
    bad("leak with resnet", lambda w: w.train("shukla", "--leak", 0), "resnet ignores --leak", "take it out"),
    bad("encoder weights", lambda w: w.train("shukla", "--encoder-weights", "x"), "resnet ignores --encoder-weights"),
    bad(
        "no VGG", lambda w: w.fcn8s("--encoder-weights", w.file("vgg.pth", "no weights")), "vgg.pth", "is no .pth file"
    ),
    bad("norm of fcn8s", lambda w: w.fcn8s("--norm", "batch"), "fcn8s has no normalisation", "take --norm out"),
    bad("size of fcn8s", lambda w: w.fcn8s(size="48x32"), "--size 48x32", "multiples of 32"),
    bad("judge of supervised", lambda w: w.train("supervised", "--judge.patch", 16), "supervised has no judge"),
    bad("objective of supervised", lambda w: w.train("supervised", "--adversarial", "hinge"), "ignores --adversarial"),
    bad("no classes", lambda w: w.fcn8s("--loss", "cross_entropy", "--direction", "b_to_a"), "needs the classes of a"),
    bad(
        "no classes at all",
        lambda w: [
            "train",
            "shukla",
            "--a",
            w.data.photos,
            "--b",
            w.data.photos,
            "--loss",
            "cross_entropy",
            "--out",
            "x",
        ],
        "needs the classes of a side",
        "--b-classes",
    ),
    bad("loss of cyclegan", lambda w: w.train("cyclegan", "--loss", "cross_entropy"), "cyclegan ignores --loss"),
    bad(
        "distance of classes",
        lambda w: w.fcn8s("--loss", "cross_entropy", "--reconstruction-l2", 1),
        "cross_entropy ignores --reconstruction-l2",
        "--loss pixel",
    ),
    bad("share", lambda w: w.train("shukla", "--cycle-l2", 1.5), "cycle_l2", "less than or equal to 1"),
    bad("cycle of pix2pix", lambda w: w.train("pix2pix", "--cycle-l2", 1), "pix2pix ignores --cycle-l2"),
    bad("reconstruction of cyclegan", lambda w: w.train("cyclegan", "--reconstruction-l2", 1), "cyclegan ignores"),
    bad("pooled reals", lambda w: w.train("shukla", "--pool-reals", "--adversarial", "lsgan"), "sees no real image"),
    bad("pooled reals elsewhere", lambda w: w.train("tripathy", "--pool-reals"), "tripathy ignores --pool-reals"),
    bad(
        "mixed of one",
        lambda w: w.train("shukla", "--rhythm", "mixed", "--batch-size", 1),
        "--rhythm mixed",
        "--batch-size 2 or more",
    ),
    bad("balance", lambda w: w.train("tripathy", "--balance", 1), "--balance belongs to the rhythm passes", "phases"),
    bad("no balance", lambda w: w.train("shukla", "--balance", 0), "balance", "greater than 0"),
    bad("phases", lambda w: w.train("shukla", "--paired-steps", 3), "--paired-steps belongs to the rhythm phases"),
    bad("no backbone", lambda w: w.train("tripathy", "--weights", "perceptual_a", 1), "give --perceptual BACKBONE"),
    bad(
        "backbone",
        lambda w: w.train("tripathy", "--perceptual", w.data.photos),
        "cannot be loaded as a vision backbone",
    ),
    bad("backbone of shukla", lambda w: w.train("shukla", "--perceptual", "resnet50"), "shukla ignores --perceptual"),
    bad("itself", lambda w: w.recipe("extends: recipe.yaml"), "recipe.yaml: extends itself"),
    bad("extends nothing", lambda w: w.recipe("extends: shukl"), "--recipe shukl", "'shukla'"),
    bad("another's rhythm", lambda w: w.train("shukla", "--rhythm", "pairs"), "no rhythm 'pairs'", "choose passes"),
    bad("unet too deep", lambda w: w.unet("--depth", 4), "depth 4 needs multiples of 16", "--depth 3 or less"),
    bad("unet too deep by default", lambda w: w.unet(), "depth 8 needs multiples of 256", "--depth 3 or less"),
    bad("size not of four", lambda w: w.train("shukla", size="30x24"), "--size 30x24", "multiples of 4"),
    bad("judge too large", lambda w: w.train("shukla", "--judge.patch", 142), "patch 142", "--judge.patch 70 or"),
    bad(
        "unknown term",
        lambda w: w.train("shukla", "--weights", "cycl_a", 1),
        "no term 'cycl_a'",
        "'cycle_a'",
        "judge_b",
    ),
    bad("negative weight", lambda w: w.train("shukla", "--weights", "cycle_a", -1), "cycle_a is -1", "0 or more"),
    bad(
        "weight without number", lambda w: w.train("shukla", "--weights", "cycle_a"), "--weights", "such as cycle_a 10"
    ),
    bad("val-a alone", lambda w: w.train("shukla", "--val-a", w.data.val_photos), "go together", "give --val-b"),
    bad("val-b alone", lambda w: w.train("shukla", "--val-b", w.data.val_labels), "go together", "give --val-a"),
    bad(
        "validation without truth",
        lambda w: w.train("shukla", "--val-a", w.data.val_photos, "--val-b", w.data.labels),
        "val_photos: no file of the same stem",
        "scene100.png",
        "add it or take these out",
    ),
    bad("init from nothing", lambda w: w.train("shukla", "--init-from", "no"), "no: no such folder", "folder of a run"),
    bad(
        "init from another shape",
        lambda w: w.train("shukla", "--init-from", w.run, "--ngf", 8),
        "'ngf': 4",
        "same settings",
    ),
    bad("out is a file", lambda w: w.train("shukla", "--out", w.file("x")), "x: is a file", "another --out"),
    bad(
        "out holds a run",
        lambda w: w.train("shukla", "--out", w.run),
        "holds a run already",
        "another --out",
        "diptych resume",
    ),
]

RECIPES = [
    bad("unknown key", lambda w: w.recipe("step: 3"), "recipe.yaml: unknown setting 'step'", "'steps'"),
    bad("unknown key in a group", lambda w: w.recipe("optim: {lrr: 3}"), "recipe.yaml", "'optim.lrr'", "'optim.lr'"),
    bad("key without its group", lambda w: w.recipe("lr: 3"), "recipe.yaml: unknown setting 'lr'", "'optim.lr'"),
    bad("wrong type", lambda w: w.recipe("steps: many"), "recipe.yaml: steps", "integer", "'many'"),
    bad("out of range", lambda w: w.recipe("optim: {lr: -1}"), "recipe.yaml: optim.lr", "greater than 0"),
    bad("no YAML", lambda w: w.recipe("optim: ["), "recipe.yaml: is no valid YAML", "line 1"),
    bad("no settings", lambda w: w.recipe("- 1"), "recipe.yaml: must hold settings", "'name: value'"),
    bad("empty", lambda w: w.recipe(""), "recipe.yaml: must hold settings", "'name: value'"),
    bad("missing", lambda w: w.train("shukla", "--recipe", "shukl"), "no such file", "'shukla'"),
    bad("unknown flag on top", lambda w: w.recipe("steps: 3", "--stepz", 3), "unknown flag --stepz", "'--steps'"),
    bad("not of training", lambda w: w.select("--recipe", "r.yaml"), "unknown flag --recipe", "select --help"),
    bad(
        "leaves open what is required",
        lambda w: ["train", "shukla", "--recipe", w.file("r.yaml", "steps: 3"), "--a", w.data.photos],
        "train needs --out;",
    ),
]

RUNS = [
    bad("resume nothing", lambda w: ["resume", w.data.photos], "photos: holds no run", "give the folder"),
    bad(
        "resume a finished run", lambda w: ["resume", w.run], "has finished its 4 steps", "--steps with a larger number"
    ),
    bad(
        "resume to the same end", lambda w: ["resume", w.run, "--steps", 4], "has finished its 4 steps", "larger number"
    ),
    bad(
        "translate a missing file",
        lambda w: ["translate", w.run, "no.png", "--out", w.out],
        "no.png: no such file",
        "give",
    ),
    bad(
        "translate no image",
        lambda w: ["translate", w.run, w.file("x", "x"), "--out", w.out],
        "x: not an image",
        "repair",
    ),
    bad(
        "translate an empty folder",
        lambda w: ["translate", w.run, w.empty(), "--out", w.out],
        "holds no images",
        "give",
    ),
    bad(
        "translate with no run",
        lambda w: ["translate", "no", w.data.photos, "--out", w.out],
        "no: no such folder",
        "run",
    ),
    bad(
        "translate onto files",
        lambda w: ["translate", w.run, w.data.photos, "--out", w.used("scene003.png")],
        "out/scene003.png: there already",
        "--overwrite",
    ),
    bad(
        "two inputs for one output",
        lambda w: ["translate", w.run, w.spoil("scene003.jpg", b"").data.photos, "--out", w.out],
        "out/scene003.png: two inputs",
        "rename one",
    ),
    bad("evaluate nothing", lambda _: ["evaluate"], "either a run or --generated"),
    bad("evaluate both", lambda w: ["evaluate", w.run, "--generated", w.data.photos], "either a run or --generated"),
    bad("evaluate without b", lambda w: ["evaluate", w.run, "--a", w.data.photos], "give --a and --b"),
    bad(
        "evaluate without truth",
        lambda w: ["evaluate", w.run, "--a", w.data.photos, "--b", w.data.val_labels, "--out", w.out],
        "photos: no file of the same stem in",
        "scene000.png",
        "add it or take these out",
    ),
    bad(
        "evaluate with a mapping of nothing",
        lambda w: ["evaluate", w.run, "--a", w.data.photos, "--b", w.data.labels, "--mapping", w.data.classes],
        "--mapping is about the classes of --segmenter",
    ),
    bad(
        "evaluate files with a segmenter",
        lambda w: ["evaluate", "--generated", w.data.photos, "--b", w.data.photos, "--segmenter", w.run],
        "give a run, or take --segmenter out",
    ),
    bad(
        "evaluate class maps with a segmenter",
        lambda w: ["evaluate", w.run, "--a", w.data.photos, "--b", w.data.labels, "--segmenter", w.run, "--out", w.out],
        "a_to_b does not make",
        "take --segmenter out",
    ),
    bad(
        "evaluate with an extractor that is none",
        lambda w: [
            *("evaluate", w.run, "--a", w.data.photos, "--b", w.data.labels, "--out", w.out),
            *("--extractor", w.data.photos),
        ],
        "photos: cannot be loaded",
        "--extractor descriptor",
    ),
    bad(
        "evaluate with a backbone that is none",
        lambda w: [
            *("evaluate", w.run, "--a", w.data.photos, "--b", w.data.labels, "--out", w.out),
            *("--perceptual", w.data.photos),
        ],
        "photos: cannot be loaded as a vision backbone",
    ),
    bad(
        "evaluate with fewer than no resamples",
        lambda w: ["evaluate", w.run, "--a", w.data.photos, "--b", w.data.labels, "--resamples", "-1"],
        "resamples",
        "greater than or equal to 0",
    ),
    bad(
        "evaluate onto scores",
        lambda w: ["evaluate", w.run, "--a", w.data.photos, "--b", w.data.labels, "--out", w.used("metrics.json")],
        "metrics.json exists",
        "--overwrite",
    ),
    bad(
        "evaluate class maps with a stray id",
        lambda w: [
            *("evaluate", w.run, "--a", w.data.photos, "--out", w.out),
            *("--b", w.spoil("scene003.png", png(stray(99)), "labels").data.labels),
        ],
        "scene003.png: holds the ids 99",
        "mend the class map",
    ),
]

LAUGHS = "\n".join(["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 20)}]" for n in range(1, 9))])
RGBA_GIF = b"GIF89a\x01\0\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x01\0\0;"


def piped(world: World, name: str) -> Path:
    path = world.data.root / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


def crossed(world: World) -> World:
    """A run whose generators stand in each other's place."""
    run = world.data.root / "run"
    shutil.copytree(world.run, run)
    for checkpoint in (run / "checkpoints").iterdir():
        (checkpoint / "a_to_b").rename(checkpoint / "x")
        (checkpoint / "b_to_a").rename(checkpoint / "a_to_b")
        (checkpoint / "x").rename(checkpoint / "b_to_a")
    return replace(world, run=run)


HOSTILE = [
    bad(
        "GIF as png", lambda w: w.spoil("x.png", RGBA_GIF).train("shukla"), "photos/x.png: not an image", "take it out"
    ),
    bad("pipe as png", lambda w: [piped(w, "photos/x.png"), *w.train("shukla")][1:], "photos/x.png", "is no file"),
    bad(
        "pipe to select",
        lambda w: [piped(w, "photos/x.png"), *w.select("--budget", 2)][1:],
        "photos/x.png",
        "take it out",
    ),
    bad(
        "pipe to translate",
        lambda w: ["translate", w.run, piped(w, "photos/x.png"), "--out", w.out],
        "photos/x.png: no such file",
    ),
    bad(
        "pipe to evaluate",
        lambda w: [
            *("evaluate", "--generated", w.data.photos, "--b", w.data.photos),
            *("--b-classes", piped(w, "classes.csv")),
        ],
        "classes.csv: cannot be read (classes.csv: is no file)",
    ),
    bad("pipe of pairs", lambda w: w.train("shukla", "--pairs", piped(w, "p.csv")), "p.csv: cannot be read (", "a,b"),
    bad("pipe of names", lambda w: w.select("--within", piped(w, "p.csv")), "p.csv: cannot be read ("),
    bad("pipe of settings", lambda w: w.train("shukla", "--recipe", piped(w, "r.yaml")), "r.yaml: no such file"),
    bad("pipe of a study", lambda w: ["study", piped(w, "s.yaml"), "--out", w.out], "s.yaml: no such file"),
    bad(
        "pipe of weights",
        lambda w: ["import-weights", "--a-to-b", piped(w, "g.pth"), "--out", w.out],
        "g.pth: cannot be read (g.pth: is no file)",
    ),
    bad("laughs", lambda w: w.recipe(LAUGHS), "recipe.yaml: is no valid YAML", "more than a million parts"),
    bad("laughs in a dry run", lambda w: w.recipe(LAUGHS, "--dry-run"), "more than a million parts"),
    bad("laughs in a study", lambda w: ["study", w.file("s.yaml", LAUGHS), "--out", w.out, "--dry-run"], "a million"),
    bad("a nest", lambda w: w.recipe("a: " + "[" * 9999), "recipe.yaml: is no valid YAML (nested too deeply)"),
    bad("half a name", lambda w: w.recipe('a: "\\ud800"'), "recipe.yaml: is no valid YAML (half a character"),
    bad("a NUL", lambda w: w.recipe('a: "\\0"'), "recipe.yaml: is no valid YAML (a NUL in"),
    bad("a name without end", lambda w: w.train("shukla", "--a", "x" * 5000), "File name too long"),
    bad("a recipe without end", lambda w: w.train("shukla", "--recipe", "x" * 5000), "--recipe xxx", " ... "),
    bad("lines in a name", lambda w: w.train("shukla", "--a", "x\ny\x1b[2J"), r"x\ny\x1b[2J: no such folder"),
    bad("lines in a command", lambda _: ["x\ny"], r"unknown command 'x"),
    bad("names that reach out", lambda w: w.pairs("../photos/scene001.png,scene001.png"), "leads out of its folder"),
    bad("lines in a pair", lambda w: w.pairs('"one\ntwo",scene001.png'), r"pairs.csv: one\ntwo is not in"),
    bad(
        "classes without end",
        lambda w: w.train("shukla", "--b-classes", w.file("c.csv", "id,name,red,green,blue\n" + "1,x,1,1,1\n" * 10**5)),
        "c.csv: names 100000 classes",
    ),
    bad("class in one line", lambda w: w.train("shukla", "--b-classes", w.file("c.csv", "x" * 10**6)), "c.csv: cannot"),
    bad(
        "generators exchanged and translated by",
        lambda w: ["translate", crossed(w).run, w.data.photos, "--out", w.out],
        "a_to_b/model.safetensors: is not the file that was saved",
    ),
    bad(
        "generators exchanged",
        lambda w: ["evaluate", crossed(w).run, "--a", w.data.photos, "--b", w.data.labels, "--out", w.out],
        "its SHA-256 is",
    ),
    bad("generators exchanged and resumed", lambda w: ["resume", crossed(w).run, "--steps", 6], "its SHA-256 is"),
    bad(
        "generators exchanged and begun from",
        lambda w: w.train("shukla", "--init-from", crossed(w).run),
        "its SHA-256 is",
        "copy the folder again",
    ),
    bad(
        "a picture for weights",
        lambda w: ["import-weights", "--a-to-b", w.data.photos / "scene000.png", "--out", w.out],
        "scene000.png: holds more than weights, such as a whole module, or is no .pth file",
    ),
    bad(
        "more channels than any machine has",
        lambda w: w.train("shukla", "--ngf", 10**9),
        "ngf",
        "less than or equal to",
    ),
    bad("more blocks", lambda w: w.train("shukla", "--blocks", 10**9), "blocks", "less than or equal to"),
]


@pytest.mark.parametrize(
    ("words", "mentions"), [*FOLDERS_AND_IMAGES, *PAIRS, *SELECT, *SETTINGS, *RECIPES, *RUNS, *HOSTILE]
)
def test_bad_input_gets_one_line_and_nothing_is_written(
    words: Bad,
    mentions: tuple[str, ...],
    world: World,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    call = [str(word) for word in words(world)]
    monkeypatch.chdir(world.data.root)
    before, run_before = tree(tmp_path), tree(world.run)
    assert main(call) == 2
    line = said_one_line(capsys)
    for mention in mentions:
        assert mention in line
    assert tree(tmp_path) == before
    assert tree(world.run) == run_before


def test_weights_that_cannot_be_fetched(world: World, tmp_path: Path) -> None:
    before = tree(tmp_path)
    call = ["select", world.data.photos, "--features", "some/unavailable-model", "--budget", "2", "--out", world.out]
    done = subprocess.run(
        [sys.executable, "-m", "diptych", *map(str, call)],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert re.fullmatch(r"diptych: error: some/unavailable-model: [^\n]+\n", done.stderr)
    assert "cannot be fetched" in done.stderr
    assert "local folder" in done.stderr
    assert "--features descriptor" in done.stderr
    assert tree(tmp_path) == before


def test_a_one_way_run_refuses_the_other_way(world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = world.data
    words = ("--a", data.photos, "--b", data.labels, *tiny("pix2pix"), "--steps", 1, "--out", world.out)
    assert diptych("train", "pix2pix", *words) == 0
    before = tree(tmp_path)
    capsys.readouterr()
    for call in (
        ("translate", world.out, data.labels, "--out", tmp_path / "t", "--direction", "b_to_a"),
        ("evaluate", world.out, "--a", data.photos, "--b", data.labels, "--direction", "b_to_a"),
    ):
        assert diptych(*call) == 2
        line = said_one_line(capsys)
        assert "learned a_to_b only, not b_to_a" in line
        assert "trained with --direction b_to_a" in line
    assert tree(tmp_path) == before


def test_runs_that_cannot_be_compared(world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = world.data
    sides = ("--a", data.photos, "--b", data.labels)
    backwards, other = tmp_path / "backwards", tmp_path / "other"
    back = ("--b-classes", data.classes, "--direction", "b_to_a", *tiny("pix2pix"), "--steps", 1, "--out", backwards)
    assert diptych("train", "pix2pix", *sides, *back) == 0
    renamed = world.file("renamed.csv", data.classes.read_text().replace("car,", "lorry,"))
    ids = ("--b-classes", renamed, *tiny("shukla"), "--pairs", 2, "--steps", 1, "--out", other)
    assert diptych("train", "shukla", *sides, *ids) == 0
    before = tree(tmp_path)
    for run, mention in ((backwards, "translates b_to_a"), (other, "its classes are not those of")):
        capsys.readouterr()
        assert diptych("evaluate", world.run, run, *sides, "--out", tmp_path / "scores") == 2
        line = said_one_line(capsys)
        assert f"{run}: " in line
        assert mention in line
        assert str(world.run) in line
    assert tree(tmp_path) == before


def test_unreadable_files_are_named_and_skipped_when_asked(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.spoil("scene003.png", b"hello").spoil("bomb.png", bomb())
    assert diptych(*world.train("shukla", "--steps", 1, "--skip-unreadable")) == 0
    said = capsys.readouterr().err
    assert re.search("skipped .*photos/scene003.png", said)
    assert re.search("skipped .*photos/bomb.png", said)
    assert json.loads((world.out / "data.json").read_text())["unpaired_a"] == [
        f"scene00{i}.png" for i in (0, 1, 2, 4, 5)
    ]

    translations = world.out / "t"
    assert diptych("translate", world.out, world.data.photos, "--out", translations, "--skip-unreadable") == 0
    assert sorted(tree(translations)) == [f"scene00{i}.png" for i in (0, 1, 2, 4, 5)]


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = world.out
    assert diptych(*world.train("shukla", "--steps", 2)) == 0
    experiment = yaml.safe_load((run / "experiment.yaml").read_text())
    experiment["optim"]["lr"] = 1e30
    (run / "experiment.yaml").write_text(yaml.safe_dump(experiment))
    kept = tree(run / "checkpoints")
    capsys.readouterr()

    assert diptych("resume", run, "--steps", 9) == 2
    line = said_one_line(capsys)
    assert re.search(r"step \d: the (term|gradient) .*(adversarial|judge)_[ab]", line)
    assert f"diptych resume {run} --lr-scale 0.5 goes on from the checkpoint of step 2" in line
    assert tree(run / "checkpoints") == kept
    assert diptych("translate", run, world.data.photos, "--out", tmp_path / "t", "--checkpoint", "last") == 0

    experiment["optim"]["lr"] = 1e-4  # the way out that the line names
    (run / "experiment.yaml").write_text(yaml.safe_dump(experiment | {"steps": 3}))
    assert diptych("resume", run) == 0
    assert json.loads((run / "checkpoints.json").read_text())["last"]["step"] == 3


def test_a_loss_that_is_not_finite_at_once(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert diptych(*world.train("shukla", "--optim.lr", 1e30, "--steps", 4)) == 2
    line = said_one_line(capsys)
    assert "the term adversarial_a became" in line
    assert "--lr-scale 0.5 starts again, as no checkpoint was saved yet" in line


def test_the_line_is_plain_on_a_terminal_too(world: World) -> None:
    pty = pytest.importorskip("pty")
    master, terminal = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "diptych", "train", "shukla", "--a", "x"],
        env=os.environ | {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"},
        stdout=terminal,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(terminal)
    os.close(master)
    assert done.returncode == 2
    assert done.stderr == "diptych: error: train needs --out; see diptych train --help\n"
