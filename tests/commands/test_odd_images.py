"""Training, translation and scoring of images that are not RGB of 8 bits, or not of one shape, end to end."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from conftest import CLASSES, Folders, diptych, draw_scene, palette_image, said_one_line, tiny
from diptych.bands import Header
from diptych.images import PixelFormat, open_image, read_header, read_pixels, write_pixels
from diptych.translator import Translator

COUNT = 4
NO_IDENTITY = ["--weights", "identity_a", "0", "identity_b", "0"]


def write_folder(folder: Path, channels: int, bits: int, suffix: str) -> Path:
    """The scenes' photos in that form: bands are copies, darker from band to band."""
    folder.mkdir()
    for seed in range(COUNT):
        photo = draw_scene(seed)[0].astype(np.float64)  # (H, W, 3)
        bands = [photo[..., band % 3] * (1 - band / 20) for band in range(channels)]
        pixels = np.round(np.stack(bands, axis=2) * (1 if bits == 8 else 257))
        write_pixels(folder / f"scene{seed}{suffix}", pixels.astype(np.uint8 if bits == 8 else np.uint16))
    return folder


def write_class_maps(folder: Path) -> Path:
    folder.mkdir()
    for seed in range(COUNT):
        palette_image(draw_scene(seed)[1]).save(folder / f"scene{seed}.png")
    return folder


def train(run: Path, method: str, a: Path, b: Path, *words: object) -> dict[str, Any]:
    """Train on a and b, validate on them; return what translator.json says."""
    validation = ["--val-a", a, "--val-b", b]
    assert diptych("train", method, "--a", a, "--b", b, *tiny(method), *validation, "--out", run, *words) == 0
    step = json.loads((run / "checkpoints.json").read_text())["last"]["name"]
    return json.loads((run / "checkpoints" / step / "translator.json").read_text())  # type: ignore[no-any-return]


def translate(run: Path, images: Path, out: Path, *words: object) -> list[Path]:
    assert diptych("translate", run, images, "--out", out, *words) == 0
    return sorted(out.iterdir())


def evaluate(run: Path, a: Path, b: Path, out: Path, *words: object) -> dict[str, Any]:
    flags = ["--extractor", "descriptor", "--resamples", "0"]
    assert diptych("evaluate", run, "--a", a, "--b", b, *flags, "--out", out, *words) == 0
    return json.loads((out / "metrics.json").read_text())  # type: ignore[no-any-return]


def headers(files: list[Path]) -> set[Header]:
    return {read_header(file) for file in files}


def test_deep_grey_to_rgb(tmp_path: Path) -> None:
    grey, colour = write_folder(tmp_path / "a", 1, 16, ".png"), write_folder(tmp_path / "b", 3, 8, ".png")
    run = tmp_path / "run"
    record = train(run, "supervised", grey, colour, "--a-channels", 1)
    assert record["forms"] == {"a": {"channels": 1, "bits": 16}, "b": {"channels": 3, "bits": 8}}
    assert json.loads((run / "data.json").read_text())["bits"] == {"a": 16, "b": 8}
    assert yaml.safe_load((run / "experiment.yaml").read_text())["precision"] == "fp32"
    assert headers(translate(run, grey, tmp_path / "out")) == {Header((48, 32), 3, 8, False)}
    scores = evaluate(run, grey, colour, tmp_path / "scores")
    assert "rounded to 8 bits;" in scores["protocol"]
    assert "8-bit RGB" not in scores["sets"]["images"]
    assert Translator.from_pretrained(run)(grey / "scene0.png").mode == "RGB"
    # A colour photo is what that run can take, too: its luma.
    assert headers(translate(run, colour, tmp_path / "colour")) == {Header((48, 32), 3, 8, False)}


def test_rgb_to_deep_grey_is_as_close_as_sixteen_bits_say(tmp_path: Path) -> None:
    colour, grey = write_folder(tmp_path / "a", 3, 8, ".png"), write_folder(tmp_path / "b", 1, 16, ".tif")
    run = tmp_path / "run"
    train(run, "supervised", colour, grey, "--b-channels", 1)
    files = translate(run, colour, tmp_path / "out")
    assert headers(files) == {Header((48, 32), 1, 16, False)}
    values = np.concatenate([read_pixels(file, form=PixelFormat(1, 16)).ravel() for file in files])
    assert (values % 257 != 0).mean() > 0.9  # not 8 bits in the place of 16
    assert "rounded to 16 bits, 1 channels of 16 bits" in evaluate(run, colour, grey, tmp_path / "scores")["protocol"]


@pytest.mark.parametrize("direction", ["a_to_b", "b_to_a"])
def test_five_deep_bands_and_class_maps(folders: Folders, tmp_path: Path, direction: str) -> None:
    bands, labels = write_folder(tmp_path / "a", 5, 16, ".tif"), write_class_maps(tmp_path / "b")
    run, words = tmp_path / "run", ["--a-channels", 5, "--b-classes", folders.classes, "--direction", direction]
    record = train(run, "shukla", bands, labels, *words, *NO_IDENTITY, "--pairs", "all")
    assert record["forms"] == {"a": {"channels": 5, "bits": 16}, "b": {"channels": 3, "bits": 8}}
    files = translate(run, bands if direction == "a_to_b" else labels, tmp_path / "out")
    assert [file.suffix for file in files] == [".png" if direction == "a_to_b" else ".tif"] * COUNT
    if direction == "a_to_b":
        ids = {id_ for name, (id_, _) in CLASSES.items() if name != "void"}
        assert set(np.unique(np.stack([np.asarray(Image.open(file)) for file in files]))) <= ids
    else:
        assert headers(files) == {Header((48, 32), 5, 16, False)}
    scores = evaluate(run, bands, labels, tmp_path / "scores")
    assert ("mean_iou" if direction == "a_to_b" else "psnr") in scores["scores"]
    assert ("seen in 8-bit RGB" in scores["sets"]["images"]) == (direction == "b_to_a")
    kept = sorted((tmp_path / "scores" / "translations").iterdir())
    assert [file.suffix for file in kept] == [file.suffix for file in files]


def test_rgba_to_rgba_keeps_its_alpha(tmp_path: Path) -> None:
    see_through = write_folder(tmp_path / "a", 4, 8, ".png")
    run = tmp_path / "run"
    channels = ["--a-channels", 4, "--b-channels", 4]
    train(run, "cyclegan", see_through, see_through, *channels)  # as many on either side: identity terms are well
    files = translate(run, see_through, tmp_path / "out")
    assert headers(files) == {Header((48, 32), 4, 8, True)}
    alpha = np.stack([np.asarray(open_image(file))[..., 3] for file in files])
    assert len(np.unique(alpha)) > 2
    assert Translator.from_pretrained(run)(see_through / "scene0.png").mode == "RGBA"


@pytest.mark.parametrize("method", ["supervised", "pix2pix", "cyclegan", "shukla", "tripathy"])
def test_every_method_takes_domains_of_other_channels(tmp_path: Path, method: str) -> None:
    a, b = write_folder(tmp_path / "a", 2, 8, ".png"), write_folder(tmp_path / "b", 5, 16, ".tif")
    words = [] if method in ("supervised", "pix2pix") else NO_IDENTITY
    pairs = ["--pairs", 2] if method in ("shukla", "tripathy") else []
    train(tmp_path / "run", method, a, b, "--a-channels", 2, "--b-channels", 5, *words, *pairs)
    assert diptych("resume", tmp_path / "run", "--steps", 5) == 0
    assert headers(translate(tmp_path / "run", a, tmp_path / "out")) == {Header((48, 32), 5, 16, False)}


def test_a_resumed_run_keeps_its_bits(tmp_path: Path) -> None:
    a, b = write_folder(tmp_path / "a", 1, 16, ".png"), write_folder(tmp_path / "b", 3, 8, ".png")
    train(tmp_path / "run", "supervised", a, b, "--a-channels", 1)
    for file in a.iterdir():  # whatever the files have become meanwhile
        write_pixels(file, np.zeros((32, 48, 1), np.uint8))
    assert diptych("resume", tmp_path / "run", "--steps", 5) == 0
    assert Translator.from_pretrained(tmp_path / "run", "last").spec.forms["a"] == PixelFormat(1, 16)


def ordinary_and_odd(folder: Path) -> Path:
    """The same photos in every guise that means RGB of 8 bits."""
    folder.mkdir()
    photos = [Image.fromarray(draw_scene(seed)[0]) for seed in range(COUNT)]
    photos[0].convert("CMYK").save(folder / "scene0.jpg", quality=95)
    tags = Image.Exif()
    tags[0x0112] = 6  # stored on its side
    photos[1].transpose(Image.Transpose.ROTATE_90).save(folder / "scene1.jpg", quality=95, exif=tags)
    photos[2].convert("P", palette=Image.Palette.ADAPTIVE).save(folder / "scene2.png")
    photos[3].convert("1").save(folder / "scene3.tif")
    return folder


def test_cmyk_turned_palette_and_one_bit_images_in_one_folder(tmp_path: Path) -> None:
    odd, plain = ordinary_and_odd(tmp_path / "a"), write_folder(tmp_path / "b", 3, 8, ".png")
    run = tmp_path / "run"
    assert train(run, "supervised", odd, plain)["forms"]["a"] == {"channels": 3, "bits": 8}
    assert headers(translate(run, odd, tmp_path / "out")) == {Header((48, 32), 3, 8, False)}
    for seed in (0, 1):
        file = next(odd.glob(f"scene{seed}.*"))
        difference = np.abs(read_pixels(file).astype(int) - draw_scene(seed)[0])
        assert np.median(difference) < 12  # JPEG is not exact; a photo on its side would be off by far more


def mixed_shapes(root: Path) -> tuple[Path, Path]:
    """Photos and class maps, pair by pair of another shape and size."""
    photos, labels = root / "photos", root / "labels"
    photos.mkdir()
    labels.mkdir()
    for seed, size in enumerate([(48, 32), (90, 30), (32, 64), (40, 40)]):
        photo, ids = draw_scene(seed)
        Image.fromarray(photo).resize(size).save(photos / f"scene{seed}.png")
        palette_image(ids).resize(size, Image.Resampling.NEAREST).save(labels / f"scene{seed}.png")
    return photos, labels


@pytest.mark.parametrize("fit", ["stretch", "crop", "letterbox"])
def test_mixed_shapes(folders: Folders, tmp_path: Path, fit: str) -> None:
    photos, labels = mixed_shapes(tmp_path)
    run, words = tmp_path / "run", ["--fit", fit, "--b-classes", folders.classes]
    assert train(run, "supervised", photos, labels, *words)["fit"] == fit
    for file in translate(run, photos, tmp_path / "out"):
        with Image.open(file) as answer, Image.open(photos / file.name) as photo:
            assert answer.size == photo.size
    scores = evaluate(run, photos, labels, tmp_path / "scores")
    words_of = {"stretch": "bicubic to 32x24", "crop": "to cover 32x24", "letterbox": "to lie within 32x24"}
    assert words_of[fit] in scores["filter"]
    preview = Image.open(next((run / "previews").glob("*.png")))
    assert preview.size[0] > 3 * 32


def test_the_smallest_image_depends_on_the_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "wide"
    folder.mkdir()
    for seed in range(2):
        Image.fromarray(draw_scene(seed)[0]).resize((64, 12)).save(folder / f"{seed}.png")
    train_it = ["train", "cyclegan", "--a", folder, "--b", folder, *tiny("cyclegan")]  # at 32x24
    for fit in ("stretch", "crop"):
        assert diptych(*train_it, "--fit", fit, "--out", tmp_path / fit) == 2
        assert "smaller than the crop of 32x24: 0.png (64x12)" in said_one_line(capsys)
    assert diptych(*train_it, "--fit", "letterbox", "--out", tmp_path / "letterbox") == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["shukla", "--a-channels", 1], "channels differ: 1 of a, 3 of b; give --weights identity_a 0 identity_b 0"),
        (["cyclegan", "--b-channels", 4], "channels differ: 3 of a, 4 of b"),
        (["tripathy", "--a-channels", 1, *NO_IDENTITY, "--perceptual", "resnet50"], "give --weights perceptual_a 0"),
        (["supervised", "--b-channels", 1, "--b-classes", "CLASSES"], "--b-channels: class maps are shown in colours"),
        (
            ["supervised", "--a-channels", 1, "--generator", "fcn8s", "--encoder-weights", "x.pth"],
            "--encoder-weights look at three channels",
        ),
    ],
)
def test_settings_that_no_channels_allow(
    folders: Folders, tmp_path: Path, words: list[object], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [folders.classes if word == "CLASSES" else word for word in words]
    sides = ["--a", folders.photos, "--b", folders.labels, "--size", "64", "--out", tmp_path / "run"]
    assert diptych("train", *words, *sides, "--dry-run") == 2
    assert said in said_one_line(capsys)


def test_weights_of_zero_are_the_way_out(folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--a", folders.photos, "--b", folders.labels, "--a-channels", 1, "--out", tmp_path / "run"]
    assert diptych("train", "shukla", *words, *NO_IDENTITY, "--dry-run") == 0
    assert yaml.safe_load(capsys.readouterr().out)["a_channels"] == 1


def test_bf16_is_refused_above_eight_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grey = write_folder(tmp_path / "a", 1, 16, ".png")
    words = ["train", "supervised", "--a", grey, "--b", grey, *tiny("supervised"), "--out", tmp_path / "run"]
    assert diptych(*words, "--precision", "bf16") == 2
    assert "--precision bf16 keeps 8 bits, these images have 16; give --precision fp32" in said_one_line(capsys)
    assert not (tmp_path / "run").exists()


def test_bands_that_do_not_fit_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bands, plain = write_folder(tmp_path / "a", 5, 16, ".tif"), write_folder(tmp_path / "b", 3, 8, ".png")
    sides = ["--a", bands, "--b", plain, *tiny("supervised")]
    assert diptych("train", "supervised", *sides, "--out", tmp_path / "run") == 2
    assert "scene0.tif: has 5 bands where 3 are wanted" in said_one_line(capsys)
    assert diptych("train", "supervised", *sides, "--a-channels", 5, "--out", tmp_path / "run") == 0
    capsys.readouterr()
    assert diptych("translate", tmp_path / "run", plain, "--out", tmp_path / "out") == 2
    assert "scene0.png: has 3 bands where 5 are wanted" in said_one_line(capsys)
    assert not (tmp_path / "out").exists()


def test_one_deep_file_makes_the_whole_side_deep(tmp_path: Path) -> None:
    grey, colour = write_folder(tmp_path / "a", 1, 8, ".png"), write_folder(tmp_path / "b", 3, 8, ".png")
    values: NDArray[np.uint8] = read_pixels(grey / "scene2.png", form=PixelFormat(1))  # type: ignore[assignment]
    write_pixels(grey / "scene2.png", values.astype(np.uint16) * np.uint16(257))
    record = train(tmp_path / "run", "supervised", colour, grey, "--b-channels", 1)
    assert record["forms"]["b"] == {"channels": 1, "bits": 16}


def test_selection_looks_at_the_first_three_bands(tmp_path: Path) -> None:
    bands, colour = write_folder(tmp_path / "a", 5, 16, ".tif"), tmp_path / "b"
    colour.mkdir()
    for file in bands.iterdir():
        write_pixels(
            colour / f"{file.stem}.png", (read_pixels(file, form=PixelFormat(5, 16)) // 257)[..., :3].astype(np.uint8)
        )
    for folder in (bands, colour):
        words = ["--features", "descriptor", "--budget", 2, "--out", tmp_path / f"{folder.name} chosen"]
        assert diptych("select", folder, *words) == 0
    chosen = [(tmp_path / f"{name} chosen" / "pairs.csv").read_text() for name in ("a", "b")]
    assert chosen[0].replace(".tif", "") == chosen[1].replace(".png", "")


def test_sets_without_pairs_are_kept_in_the_bits_of_the_target(tmp_path: Path) -> None:
    colour, grey = write_folder(tmp_path / "a", 3, 8, ".png"), write_folder(tmp_path / "b", 1, 16, ".png")
    train(tmp_path / "run", "supervised", colour, grey, "--b-channels", 1)
    scores = evaluate(tmp_path / "run", colour, grey, tmp_path / "scores", "--unpaired")
    assert "seen in 8-bit RGB" in scores["sets"]["images"]
    assert headers(sorted((tmp_path / "scores" / "translations").iterdir())) == {Header((48, 32), 1, 16, False)}
