"""Segmenters against transformers' own answers, and the matching of classes by name."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from conftest import diptych, draw_scene, tiny
from diptych.errors import DiptychError
from diptych.evaluation.segmenters import load_segmenter, match_classes
from diptych.images import Classes
from diptych.translator import Translator

NAMES = {0: "Traffic Light", 1: "road", 2: "sky"}
COLOURS = np.array([[0, 0, 0], [70, 130, 180], [128, 64, 128], [250, 170, 30]], np.uint8)
CLASSES = Classes((255, 0, 7, 20), ("void", "sky", "road", "traffic_light"), COLOURS, 0)


@pytest.fixture(scope="module")
def segformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Segformer of three classes, saved as those of the hub are."""
    folder = tmp_path_factory.mktemp("segformer")
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 16],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=8,
        id2label=NAMES,
    )
    network = transformers.SegformerForSemanticSegmentation(config)
    torch.nn.init.normal_(network.decode_head.classifier.weight)  # else one class is the answer everywhere
    network.save_pretrained(folder)
    transformers.SegformerImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def photo(width: int = 48, height: int = 32) -> Image.Image:
    return Image.fromarray(draw_scene(3)[0]).resize((width, height))


def test_a_model_from_transformers_reads_as_transformers_itself_does(segformer: Path) -> None:
    segmenter = load_segmenter(str(segformer), "cpu")
    assert segmenter.names == ("Traffic Light", "road", "sky")
    picture = photo(50, 34)
    found = segmenter.read(picture)
    network = transformers.SegformerForSemanticSegmentation.from_pretrained(segformer).eval()
    shown = np.asarray(picture.resize((64, 64), Image.Resampling.BILINEAR), np.float32) / 255
    normal = (shown - [0.485, 0.456, 0.406]) / np.array([0.229, 0.224, 0.225])
    with torch.no_grad():
        output = network(torch.from_numpy(normal).permute(2, 0, 1)[None].float())
    processor = transformers.SegformerImageProcessorPil()
    [wanted] = processor.post_process_semantic_segmentation(output, target_sizes=[(34, 50)])
    assert found.shape == (34, 50)
    assert len(np.unique(found)) > 1
    assert (found == wanted.numpy()).mean() > 0.999


def test_grey_and_transparent_photos_are_read(segformer: Path) -> None:
    segmenter = load_segmenter(str(segformer), "cpu")
    grey = photo().convert("L")
    assert np.array_equal(segmenter.read(grey), segmenter.read(grey.convert("RGB")))
    assert np.array_equal(segmenter.read(grey.convert("LA")), segmenter.read(grey))


def test_no_part_of_the_photo_is_cut_out(tmp_path: Path) -> None:
    config = transformers.MobileNetV2Config(depth_multiplier=0.25, id2label=NAMES)
    torch.manual_seed(0)
    transformers.MobileNetV2ForSemanticSegmentation(config).save_pretrained(tmp_path)
    transformers.MobileNetV2ImageProcessorPil(
        size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}, do_center_crop=True
    ).save_pretrained(tmp_path)
    segmenter = load_segmenter(str(tmp_path), "cpu")
    seen = []
    segmenter.network.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append((args or tuple(kwargs.values()))[0].shape[2:]), with_kwargs=True
    )
    assert segmenter.read(photo(96, 48)).shape == (48, 96)
    assert seen == [(64, 128)]


def test_a_photo_that_the_network_cannot_take_is_told_in_one_line(segformer: Path, tmp_path: Path) -> None:
    config = transformers.SegformerConfig.from_pretrained(segformer, num_channels=1)
    transformers.SegformerForSemanticSegmentation(config).save_pretrained(tmp_path)
    shutil.copy(segformer / "preprocessor_config.json", tmp_path)
    with pytest.raises(DiptychError, match=r"cannot read a photo of 48x32 \(.*\); mend its") as told:
        load_segmenter(str(tmp_path), "cpu").read(photo())
    assert "\n" not in str(told.value)


def test_a_processor_of_nonsense_is_told_in_one_line(segformer: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(segformer, tmp_path / "odd")
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(settings | {"size": {"height": -5, "width": -5}}))
    with pytest.raises(DiptychError, match=r"odd: cannot read a photo of 48x32 \(.*\); mend its"):
        load_segmenter(str(folder), "cpu").read(Image.new("RGB", (48, 32)))


def test_identity_is_that_of_the_weights(segformer: Path, tmp_path: Path) -> None:
    before = load_segmenter(str(segformer), "cpu").identity
    assert before.startswith("SegformerForSemanticSegmentation ")
    copy = shutil.copytree(segformer, tmp_path / "copy")
    assert load_segmenter(str(copy), "cpu").identity == before
    network = transformers.SegformerForSemanticSegmentation.from_pretrained(copy)
    torch.nn.init.zeros_(network.decode_head.classifier.bias)
    network.decode_head.classifier.bias.data += 1
    network.save_pretrained(copy)
    assert load_segmenter(str(copy), "cpu").identity != before


def test_a_classifier_is_no_segmenter(segformer: Path, tmp_path: Path) -> None:
    resnet = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic")
    transformers.ResNetForImageClassification(resnet).save_pretrained(tmp_path)
    shutil.copy(segformer / "preprocessor_config.json", tmp_path)
    with pytest.raises(DiptychError, match="cannot be loaded as a semantic segmenter") as told:
        load_segmenter(str(tmp_path), "cpu")
    assert "\n" not in str(told.value)


def test_an_untrained_head_is_refused(segformer: Path, tmp_path: Path) -> None:
    config = transformers.SegformerConfig.from_pretrained(segformer)
    transformers.SegformerForImageClassification(config).save_pretrained(tmp_path)
    shutil.copy(segformer / "preprocessor_config.json", tmp_path)
    with pytest.raises(DiptychError, match=r"its weights do not fit its config\.json \(decode_head"):
        load_segmenter(str(tmp_path), "cpu")


def test_weights_of_other_classes_are_refused(segformer: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(segformer, tmp_path / "copy")
    config = transformers.SegformerConfig.from_pretrained(copy, id2label={0: "road", 1: "sky"})
    config.save_pretrained(copy)
    with pytest.raises(DiptychError, match=r"its weights do not fit its config\.json \(decode_head\.classifier"):
        load_segmenter(str(copy), "cpu")


def test_a_run_that_was_trained_both_ways_reads_on_its_way_to_the_classes(trained: Path) -> None:
    segmenter = load_segmenter(str(trained), "cpu")
    assert segmenter.names == ("sky", "road", "car", "void")
    picture = photo(40, 30)
    answer = Translator.from_pretrained(trained)(picture, "a_to_b")  # a palette image of ids
    ids = np.array([0, 7, 20, 255])
    assert np.array_equal(ids[segmenter.read(picture)], np.asarray(answer))


def test_a_run_from_labels_to_photos_learned_nothing_to_read_with(folders, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run = tmp_path / "run"
    sides = ["--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes]
    words = ["train", "pix2pix", *sides, "--direction", "b_to_a", "--pairs", "4", *tiny("pix2pix"), "--out", run]
    assert diptych(*words) == 0
    with pytest.raises(DiptychError, match="has not learned to turn photos into a class map"):
        load_segmenter(str(run), "cpu")


def test_a_run_identity_is_that_of_its_weights(trained: Path, tmp_path: Path) -> None:
    before = load_segmenter(str(trained), "cpu").identity
    translator = Translator.from_pretrained(trained)
    translator.save_pretrained(tmp_path)
    assert load_segmenter(str(tmp_path), "cpu").identity == before
    next(translator.generators["a_to_b"].parameters()).data += 1
    translator.save_pretrained(tmp_path)
    assert load_segmenter(str(tmp_path), "cpu").identity != before


def test_names_match_but_for_case_spaces_underscores_and_hyphens() -> None:
    match = match_classes(["Sky", "ROAD", "Traffic-Light", "traffic  light", "bear"], CLASSES, None)
    assert match.classes.names == ("sky", "road", "traffic_light", "void")
    assert match.classes.void == 3
    assert match.of_truth.tolist() == [3, 0, 1, 2]  # the truth's void stands first
    assert match.of_segmenter.tolist() == [0, 1, 2, 2, 3]
    assert match.outside == ("bear",)
    assert match.left_out == ()


def test_a_truth_without_void_gets_one_for_answers_outside_its_classes() -> None:
    match = match_classes(["b", "c", "a"], Classes((0, 1), ("a", "b"), COLOURS[:2], None), None)
    assert match.of_truth.tolist() == [0, 1]
    assert match.of_segmenter.tolist() == [1, 2, 0]
    assert len(set(match.classes.ids)) == 3


def test_the_voids_of_both_are_a_match() -> None:
    match = match_classes(["void", "sky", "road", "traffic light"], CLASSES, None)
    assert match.of_segmenter.tolist() == [3, 0, 1, 2]
    assert match.outside == ()


def test_a_class_without_a_match_is_told_with_the_way_out() -> None:
    with pytest.raises(DiptychError, match="no class called road, traffic_light;") as told:
        match_classes(["sky", "street", "lamp"], CLASSES, None)
    assert "--mapping CSV with the columns segmenter,class" in str(told.value)
    assert str(told.value).endswith(": sky, street, lamp")
    assert "\n" not in str(told.value)


def test_a_name_that_may_be_two_classes_is_told() -> None:
    alike = Classes((0, 1), ("traffic light", "traffic_light"), COLOURS[:2], None)
    with pytest.raises(
        DiptychError, match="'Traffic Light' may be any of the classes 'traffic light', 'traffic_light'"
    ):
        match_classes(["Traffic Light"], alike, None)
    exact = match_classes(["traffic_light", "traffic light"], alike, None)
    assert exact.of_segmenter.tolist() == [1, 0]


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["segmenter,class", *lines, ""]))
    return path


def test_a_mapping_goes_before_the_names(tmp_path: Path) -> None:
    file = write(tmp_path / "mapping.csv", "street,road", "path,Road", "lamp,traffic light", "SKY,", "heaven,sky")
    match = match_classes(["sky", "street", "path", "lamp", "heaven", "bear"], CLASSES, file)
    assert match.of_segmenter.tolist() == [3, 1, 1, 2, 0, 3]
    assert match.outside == ("sky", "bear")


def test_a_mapping_of_a_spreadsheet(tmp_path: Path) -> None:
    file = tmp_path / "mapping.csv"
    file.write_text("\ufeffsegmenter;class;note\nstreet;road;x\nlamp;traffic_light;y\n", encoding="utf-8")
    assert match_classes(["sky", "street", "lamp"], CLASSES, file).of_segmenter.tolist() == [0, 1, 2]


def test_a_class_that_no_segmenter_class_stands_for_can_be_left_out(tmp_path: Path) -> None:
    file = write(tmp_path / "mapping.csv", ",traffic_light")
    match = match_classes(["road", "sky", "traffic light"], CLASSES, file)
    assert match.classes.names == ("sky", "road", "void")
    assert match.of_truth.tolist() == [2, 0, 1, 2]
    assert match.of_segmenter.tolist() == [1, 0, 2]
    assert (match.left_out, match.outside) == (("traffic_light",), ("traffic light",))


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["streat,road"], r"the segmenter has no class 'streat'; did you mean 'street'"),
        (["zzz,road"], r"the segmenter has no class 'zzz'; it knows sky, street, lamp"),
        (["street,rode"], r"the truth has no class 'rode'; did you mean 'road'"),
        (["street,road", "Street,sky"], r"'Street' is mapped to two classes"),
        (["street,", "street,road"], r"'street' is mapped to two classes"),
        (["street,road"], r"no class called traffic_light;"),
        ([",sky", ",road", ",traffic light"], r"leaves no class to score"),
    ],
)
def test_a_wrong_mapping_is_told_in_one_line(lines: list[str], told: str, tmp_path: Path) -> None:
    file = write(tmp_path / "mapping.csv", *lines)
    with pytest.raises(DiptychError, match=told) as raised:
        match_classes(["sky", "street", "lamp"], CLASSES, file)
    assert "\n" not in str(raised.value)


def test_a_mapping_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(DiptychError, match=r"none\.csv: cannot be read"):
        match_classes(["sky"], CLASSES, tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("a,b\nsky,sky\n")
    with pytest.raises(DiptychError, match=r"other\.csv: lacks a column; its first line must be segmenter,class"):
        match_classes(["sky"], CLASSES, tmp_path / "other.csv")
