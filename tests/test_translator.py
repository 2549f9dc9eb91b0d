import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from diptych.errors import DiptychError, NotFiniteError
from diptych.fitting import Fit, fitted
from diptych.images import RGB, Classes, PixelFormat
from diptych.networks import make_generator
from diptych.precision import Precision, precision_on
from diptych.translator import Tiles, Translator, TranslatorSpec

RESNET = {
    "generator": "resnet",
    "in_channels": 3,
    "out_channels": 3,
    "ngf": 4,
    "blocks": 1,
    "norm": "instance",
    "dropout": False,
}
UNET = {
    "generator": "unet",
    "in_channels": 3,
    "out_channels": 3,
    "ngf": 4,
    "depth": 3,
    "norm": "batch",
    "dropout": True,
}
CLASSES = Classes((3, 7, 200), ("red", "blue", "void"), np.array([[255, 0, 0], [0, 0, 255], [0, 0, 0]], np.uint8), 2)


def translator(
    architecture: dict[str, object] = RESNET, classes: Classes | None = None, train_mode: bool = False
) -> Translator:
    torch.manual_seed(0)
    spec = TranslatorSpec(
        architectures={"a_to_b": architecture},
        size=(32, 24),
        direction="a_to_b",
        classes={"a": None, "b": classes},
        train_mode=train_mode,
    )
    return Translator({"a_to_b": make_generator(architecture)}, spec)


class Same(nn.Module):
    """Answers with its input, and remembers the sizes that it saw."""

    size_multiple = 4

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(tuple(x.shape))
        return x


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("size", [(32, 24), (50, 31), (5, 3), (1, 1), (200, 9)])
@pytest.mark.parametrize("at", ["training", "native"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_answer_has_the_inputs_size(size: tuple[int, int], at: str, mode: str) -> None:
    for architecture in (RESNET, UNET):
        answer = translator(architecture)(noise(*size, mode), at=at)  # type: ignore[arg-type]
        assert (answer.size, answer.mode) == (size, "RGB")


def test_native_pads_by_reflection_then_crops() -> None:
    subject = translator()
    same = Same()
    subject.generators = {"a_to_b": same}
    image = noise(13, 10)
    assert np.array_equal(np.asarray(subject(image, at="native")), np.asarray(image))
    assert same.seen == [(1, 3, 12, 16)]


def test_at_training_size_the_network_sees_the_training_size() -> None:
    subject = translator()
    same = Same()
    subject.generators = {"a_to_b": same}
    subject(noise(13, 10))
    assert same.seen == [(1, 3, 24, 32)]


def test_class_maps_come_out_as_ids_of_the_nearest_colour_and_raw_as_colours() -> None:
    subject = translator(classes=CLASSES)
    subject.generators = {"a_to_b": Same()}
    pixels = np.zeros((24, 32, 3), np.uint8)
    pixels[:, :16] = (200, 30, 10)
    pixels[:, 16:] = (10, 0, 90)  # nearest of all is black, which is void
    answer = subject(Image.fromarray(pixels))
    assert answer.mode == "P"
    ids = np.asarray(answer)
    assert (ids[:, :16] == 3).all()
    assert (ids[:, 16:] == 7).all()
    assert np.array_equal(np.asarray(answer.convert("RGB"))[0, 0], (255, 0, 0))
    assert np.array_equal(np.asarray(subject(Image.fromarray(pixels), raw=True)), pixels)


def test_a_class_map_goes_in_by_its_colours() -> None:
    subject = translator()
    subject.spec = TranslatorSpec({"a_to_b": {}}, (32, 24), "a_to_b", {"a": CLASSES, "b": None}, False)
    subject.generators = {"a_to_b": Same()}
    ids = np.full((24, 32), 7, np.uint8)
    ids[0, 0] = 3
    answer = np.asarray(subject(Image.fromarray(ids)))
    assert np.array_equal(answer[0, 0], (255, 0, 0))
    assert np.array_equal(answer[1, 1], (0, 0, 255))


def test_saved_and_loaded_it_gives_the_same_pixels(tmp_path: Path) -> None:
    for name, subject in (("one", translator(classes=CLASSES)), ("two", translator(UNET, train_mode=True))):
        subject.save_pretrained(tmp_path / name)
        loaded = Translator.from_pretrained(tmp_path / name)
        image = noise(40, 30)
        assert np.array_equal(np.asarray(subject(image)), np.asarray(loaded(image)))
        assert loaded.spec.size == (32, 24)


def test_train_mode_keeps_dropout_alive_but_repeats_itself() -> None:
    image = noise(32, 24)
    alive, still = translator(UNET, train_mode=True), translator(UNET, train_mode=False)
    state = torch.get_rng_state()
    first = np.asarray(alive(image))
    assert np.array_equal(first, np.asarray(alive(image)))
    assert torch.equal(state, torch.get_rng_state())
    assert not np.array_equal(first, np.asarray(still(image)))


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(training: bool) -> None:
    subject = translator(UNET, train_mode=True)
    generator = subject.generators["a_to_b"]
    generator.train(training)
    before = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    subject(noise(32, 24))
    assert generator.training is training
    assert all(torch.equal(tensor, before[name]) for name, tensor in generator.state_dict().items())


def unchanged(fit: Fit = "stretch", a: PixelFormat = RGB, b: PixelFormat = RGB) -> tuple[Translator, Same]:
    """A translator at 32x24 whose network answers with what it sees."""
    same = Same()
    forms = {"a": a, "b": b}
    spec = TranslatorSpec({"a_to_b": {}}, (32, 24), "a_to_b", {"a": None, "b": None}, False, forms, fit)
    return Translator({"a_to_b": same}, spec), same


DEEP = PixelFormat(5, 16)


def test_bands_of_sixteen_bits_go_through_whole() -> None:
    subject, same = unchanged(a=DEEP, b=DEEP)
    pixels = np.random.default_rng(0).integers(0, 65536, (24, 32, 5)).astype(np.uint16)
    answer = subject.pixels(pixels)
    assert answer.dtype == np.uint16
    assert np.array_equal(answer, pixels)
    assert same.seen == [(1, 5, 24, 32)]
    with pytest.raises(DiptychError, match=r"no image of 5 bands of 16 bits; .*Translator\.pixels"):
        subject(pixels)


def test_an_image_becomes_what_the_domain_is_made_of() -> None:
    subject, _ = unchanged(a=PixelFormat(1, 16), b=PixelFormat(1, 16))
    photo = noise(32, 24)
    grey = np.asarray(photo.convert("L"))
    answer = subject(photo)
    assert answer.mode == "I;16"
    assert np.array_equal(np.asarray(answer), grey.astype(int) * 257)
    for channels, mode in ((1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")):
        form = PixelFormat(channels)
        assert unchanged(a=form, b=form)[0](photo).mode == mode


def test_the_answer_has_the_bits_of_the_target() -> None:
    white = np.full((24, 32, 3), 255, np.uint8)
    deep = unchanged(b=PixelFormat(3, 16))[0].pixels(white)
    assert deep.dtype == np.uint16
    assert (deep == 65535).all()
    assert (unchanged(a=PixelFormat(3, 16))[0].pixels(white) == 255).all()


def test_other_bands_are_refused_with_the_files_name(tmp_path: Path) -> None:
    noise(32, 24).save(tmp_path / "x.png")
    subject, _ = unchanged(a=DEEP)
    with pytest.raises(DiptychError, match=r"x\.png: has 3 bands where 5 are wanted"):
        subject.pixels(tmp_path / "x.png")
    with pytest.raises(DiptychError, match="the image to translate: has 3 bands where 5 are wanted"):
        subject.pixels(noise(32, 24))
    with pytest.raises(DiptychError, match="an array of float32"):
        subject.pixels(np.zeros((4, 4, 5), np.float32))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fit", "seen"),
    [("stretch", (1, 3, 24, 32)), ("crop", (1, 3, 24, 64)), ("letterbox", (1, 3, 24, 32))],
)
def test_the_network_sees_what_the_fit_says(fit: Fit, seen: tuple[int, ...]) -> None:
    subject, same = unchanged(fit)
    answer = subject(noise(160, 60))  # 8:3; the training size is 4:3
    assert answer.size == (160, 60)
    assert same.seen == [seen]


@pytest.mark.parametrize("size", [(64, 12), (12, 64), (32, 24), (31, 24), (100, 1), (3, 90)])
def test_a_letterbox_is_cut_away_again(size: tuple[int, int]) -> None:
    subject, same = unchanged("letterbox")
    shown = fitted(size, (32, 24), "letterbox")
    image = noise(*size).resize(shown.scaled)  # so that nothing has to be resized any more
    again = fitted(image.size, (32, 24), "letterbox")
    if again.scaled == image.size:
        assert np.array_equal(np.asarray(subject(image)), np.asarray(image))
    subject(noise(*size))
    assert set(same.seen) == {(1, 3, 24, 32)}


def test_the_bars_of_a_letterbox_are_the_image_mirrored() -> None:
    class Kept(Same):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.shown = x
            return x

    subject, kept = unchanged("letterbox")[0], Kept()
    subject.generators = {"a_to_b": kept}
    image = noise(32, 10)
    subject(image)
    rows = [*range(7, 0, -1), *range(10), *range(8, 1, -1)]  # seven rows of bar above and below
    expected = np.asarray(image)[rows].astype(np.float32) / 127.5 - 1
    np.testing.assert_allclose(kept.shown[0].permute(1, 2, 0).numpy(), expected, atol=1e-6)


def test_native_size_knows_no_fit() -> None:
    subject, same = unchanged("letterbox")
    subject(noise(40, 20), at="native")
    assert same.seen == [(1, 3, 20, 40)]


def test_forms_and_fit_are_saved_and_loaded(tmp_path: Path) -> None:
    architecture = RESNET | {"in_channels": 5, "out_channels": 1}
    torch.manual_seed(0)
    forms = {"a": DEEP, "b": PixelFormat(1, 8)}
    spec = TranslatorSpec(
        {"a_to_b": architecture}, (32, 24), "a_to_b", {"a": None, "b": None}, False, forms, "letterbox"
    )
    subject = Translator({"a_to_b": make_generator(architecture)}, spec)
    subject.save_pretrained(tmp_path)
    loaded = Translator.from_pretrained(tmp_path)
    assert loaded.spec.forms == forms
    assert loaded.spec.fit == "letterbox"
    pixels = np.random.default_rng(0).integers(0, 65536, (20, 50, 5)).astype(np.uint16)
    assert np.array_equal(loaded.pixels(pixels), subject.pixels(pixels))
    assert loaded.pixels(pixels).shape == (20, 50, 1)


def test_a_translator_of_the_time_before_is_rgb_of_eight_bits_and_stretches(tmp_path: Path) -> None:
    translator().save_pretrained(tmp_path)
    record = json.loads((tmp_path / "translator.json").read_text())
    del record["forms"], record["fit"]
    (tmp_path / "translator.json").write_text(json.dumps(record))
    spec = Translator.from_pretrained(tmp_path).spec
    assert spec.forms == {"a": RGB, "b": RGB}
    assert spec.fit == "stretch"


def test_an_unlearned_direction_is_refused() -> None:
    with pytest.raises(DiptychError, match="learned a_to_b only, not b_to_a"):
        translator()(noise(8, 8), "b_to_a")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "translator.json").write_text("{"),
        lambda folder: (folder / "a_to_b" / "model.safetensors").write_bytes(b"half"),
        lambda folder: (folder / "a_to_b" / "config.json").write_text(json.dumps(RESNET | {"ngf": 8})),
        lambda folder: (folder / "a_to_b" / "config.json").write_text(json.dumps(RESNET | {"generator": "magic"})),
        lambda folder: (folder / "a_to_b" / "model.safetensors").unlink(),
    ],
)
def test_a_damaged_folder_is_one_clear_line(tmp_path: Path, spoil: object) -> None:
    translator().save_pretrained(tmp_path)
    spoil(tmp_path)  # type: ignore[operator]
    with pytest.raises(DiptychError, match="no translator that can be loaded") as problem:
        Translator.from_pretrained(tmp_path)
    assert "\n" not in str(problem.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DiptychError, match="nowhere: no such folder"):
        Translator.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(DiptychError, match="holds no checkpoint"):
        Translator.from_pretrained(tmp_path)


def test_pixels_are_taken_as_they_are_files() -> None:
    subject = translator()
    image = noise(20, 12)
    assert np.array_equal(np.asarray(subject(np.asarray(image))), np.asarray(subject(image)))


def test_wrong_words_are_named(tmp_path: Path) -> None:
    translator().save_pretrained(tmp_path)
    with pytest.raises(DiptychError, match="no checkpoint 'lst'"):
        Translator.from_pretrained(tmp_path, checkpoint="lst")
    with pytest.raises(DiptychError, match="'training' or 'native'"):
        translator()(noise(8, 8), at="nativ")  # type: ignore[arg-type]
    with pytest.raises(DiptychError, match="a_to_b or b_to_a, not 'b-to-a'"):
        translator()(noise(8, 8), "b-to-a")


class Logits(nn.Module):
    """Three logits that only the pixel's red decides: (0, 4 red, 0)."""

    size_multiple = 4

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        red = x[:, :1]
        return torch.cat([0 * red, 4 * red, 0 * red - 1], dim=1)


def ends_in_logits() -> Translator:
    """The classes' void stands first, so that channels and rows are not the same numbers."""
    colours = np.array([[9, 9, 9], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    classes = Classes((200, 3, 7, 5), ("void", "red", "green", "blue"), colours, 0)
    architecture = {"generator": "resnet", "head": "logits"}
    spec = TranslatorSpec({"a_to_b": architecture}, (4, 4), "a_to_b", {"a": None, "b": classes}, False)
    return Translator({"a_to_b": Logits()}, spec)


def test_the_largest_logit_decides_the_class() -> None:
    half = np.zeros((4, 4, 3), np.uint8)
    half[:, 2:] = 255
    answer = ends_in_logits()(Image.fromarray(half))
    assert answer.mode == "P"
    assert np.asarray(answer).tolist() == [[3, 3, 7, 7]] * 4  # logits (0, -4, -1) and (0, 4, -1)


def test_raw_logits_are_the_colour_to_be_expected() -> None:
    white = Image.fromarray(np.full((4, 4, 3), 255, np.uint8))
    shares = np.exp([0.0, 4.0, -1.0]) / np.exp([0.0, 4.0, -1.0]).sum()
    raw = np.asarray(ends_in_logits()(white, raw=True))
    assert raw[0, 0].tolist() == np.round(255 * shares).tolist()


def test_a_head_of_logits_is_saved_and_loaded(tmp_path: Path) -> None:
    architecture = RESNET | {"out_channels": 2, "head": "logits"}
    one = translator(architecture, classes=CLASSES)
    one.save_pretrained(tmp_path)
    two = Translator.from_pretrained(tmp_path)
    picture = noise(32, 24)
    output = one.output(picture, "a_to_b")
    assert output.shape == (2, 24, 32)
    assert np.array_equal(two.output(picture, "a_to_b"), output)
    assert np.array_equal(np.asarray(two(picture)), np.asarray(one(picture)))


@pytest.mark.parametrize("tiles", [None, Tiles(32)])
def test_an_answer_that_is_not_finite_is_no_black_picture(trained: Path, tiles: Tiles | None) -> None:
    translator = Translator.from_pretrained(trained)
    next(translator.generators["a_to_b"].parameters()).data.fill_(float("nan"))
    with pytest.raises(NotFiniteError, match="the generator a_to_b answers with NaN or infinity"):
        translator(Image.new("RGB", (48, 40)), "a_to_b", at="native", tiles=tiles)


needs_bf16 = pytest.mark.skipif(
    precision_on(torch.device("cpu"), "auto") != "bf16", reason="this processor does not compute in bf16"
)


def trained_in(precision: Precision, forms: dict[str, PixelFormat] | None = None) -> Translator:
    whole = translator(RESNET | {"ngf": 16})
    spec = replace(whole.spec, precision=precision, forms=forms or whole.spec.forms)
    return Translator(whole.generators, spec)


@needs_bf16
def test_it_computes_in_what_it_was_trained_in_unless_told(tmp_path: Path) -> None:
    for precision in ("fp32", "bf16"):
        trained_in(precision).save_pretrained(tmp_path / precision)
        assert Translator.from_pretrained(tmp_path / precision).precision == precision
    assert Translator.from_pretrained(tmp_path / "bf16", precision="fp32").precision == "fp32"
    exact = Translator.from_pretrained(tmp_path / "fp32").output(noise(32, 24), "a_to_b")
    rounded = Translator.from_pretrained(tmp_path / "bf16").output(noise(32, 24), "a_to_b")
    assert rounded.dtype == np.float32
    assert 0 < np.abs(rounded - exact).max() < 0.1
    told = Translator.from_pretrained(tmp_path / "bf16", precision="fp32").output(noise(32, 24), "a_to_b")
    np.testing.assert_array_equal(told, exact)


@needs_bf16
def test_images_at_their_own_size_are_computed_in_fp32(tmp_path: Path) -> None:
    trained_in("bf16").save_pretrained(tmp_path)
    exact = Translator.from_pretrained(tmp_path, precision="fp32").output(noise(40, 28), "a_to_b", at="native")
    ours = Translator.from_pretrained(tmp_path).output(noise(40, 28), "a_to_b", at="native")
    np.testing.assert_allclose(ours, exact, atol=1e-5)  # the layout in memory differs


def test_sixteen_bits_are_never_computed_in_bf16(tmp_path: Path) -> None:
    trained_in("fp32", {"a": PixelFormat(3, 16), "b": RGB}).save_pretrained(tmp_path)
    assert Translator.from_pretrained(tmp_path).precision == "fp32"
    with pytest.raises(DiptychError, match="--precision bf16 keeps 8 bits"):
        Translator.from_pretrained(tmp_path, precision="bf16")
