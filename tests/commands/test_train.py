"""`diptych train`, end to end at a tiny size."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from conftest import (
    CLASSES,
    Folders,
    assert_same_weights,
    diptych,
    log_of,
    said_one_line,
    scores_of,
    stop_before_step,
    terms_of,
    tiny,
    train_settings,
)
from diptych import commands
from diptych.scenes import write_scenes


def test_a_run_folder_holds_what_the_design_says(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert names >= {
        "run.json",
        "experiment.yaml",
        "log.jsonl",
        "previews",
        "tensorboard",
        "checkpoints",
        "report.html",
    }
    assert sorted(path.name for path in (trained / "previews").iterdir()) == ["00000002.png", "00000004.png"]
    index = json.loads((trained / "checkpoints.json").read_text())
    assert index["last"]["step"] == 4
    assert index["best"]["metric"] == "mean_iou"
    checkpoint = trained / "checkpoints" / index["best"]["name"]
    assert {path.name for path in checkpoint.iterdir()} == {"translator.json", "a_to_b", "b_to_a", "training"}
    assert [line["step"] for line in log_of(trained) if "validation" in line] == [2, 4]
    assert json.loads((trained / "run.json").read_text())["data"] == {"pairs": 4, "unpaired_a": 8, "unpaired_b": 8}
    page = (trained / "report.html").read_text()
    assert "reconstruction_b" in page
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)  # self-contained


TERMS = {
    "pix2pix": {"adversarial_b_given_a", "reconstruction_b", "judge_b_given_a"},
    "cyclegan": {f"{term}_{side}" for term in ("adversarial", "cycle", "identity", "judge") for side in "ab"},
    "supervised": {"supervised_b"},
    "tripathy": {f"{term}_{side}" for term in ("adversarial", "cycle", "identity", "judge") for side in "ab"}
    | {f"{term}_{sides}" for term in ("adversarial", "judge") for sides in ("a_given_b", "b_given_a")},
}


@pytest.mark.parametrize("method", TERMS)
def test_the_other_methods_train_and_translate(method: str, folders: Folders, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes, *tiny(method))
    assert diptych("train", method, *words, "--steps", 2, "--log-every", 1, "--out", run) == 0
    assert {step: set(terms) for step, terms in terms_of(run).items()} == dict.fromkeys((1, 2), TERMS[method])
    assert diptych("translate", run, folders.val_photos / "scene100.png", "--out", tmp_path / "out") == 0
    assert Image.open(tmp_path / "out" / "scene100.png").mode == "P"


@pytest.mark.parametrize(("method", "wanted"), [("pix2pix", (True, False)), ("shukla", (False, True))])
def test_the_mode_of_translation_is_the_papers_unless_told(
    method: str, wanted: tuple[bool, bool], folders: Folders, tmp_path: Path
) -> None:
    words = ("--a", folders.photos, "--b", folders.labels, "--pairs", 3, *tiny(method), "--steps", 1)
    modes = []
    for name, more in (("own", ()), ("told", ("--translate-in-train-mode", not wanted[0]))):
        assert diptych("train", method, *words, *more, "--out", tmp_path / name) == 0
        record = tmp_path / name / "checkpoints" / "00000001" / "translator.json"
        modes.append(json.loads(record.read_text())["train_mode"])
    assert tuple(modes) == wanted


def test_tripathy_takes_pairs_for_a_quarter_of_the_steps_unless_told(
    folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("train", "tripathy", "--a", folders.photos, "--b", folders.labels, "--out", tmp_path / "run")
    for more, steps in (((), 250), (("--paired-steps", 7), 7)):
        capsys.readouterr()
        assert diptych(*words, "--steps", 1000, *more, "--dry-run") == 0
        assert yaml.safe_load(capsys.readouterr().out)["paired_steps"] == steps


def test_longer_training_leaves_the_switch_of_phases_where_it_was(folders: Folders, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("--a", folders.photos, "--b", folders.labels, "--pairs", 3, *tiny("tripathy"), "--steps", 4)
    assert diptych("train", "tripathy", *words, "--out", run) == 0
    assert diptych("resume", run, "--steps", 8) == 0
    assert yaml.safe_load((run / "experiment.yaml").read_text())["paired_steps"] == 1


def test_supervised_on_class_maps_ends_in_logits(folders: Folders, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes, *tiny("supervised"))
    validation = ("--val-a", folders.val_photos, "--val-b", folders.val_labels)
    longer = ("--steps", 60, "--optim.lr", 0.01, "--jitter", 1)
    assert diptych("train", "supervised", *words, *longer, *validation, "--out", run) == 0
    last = json.loads((run / "checkpoints.json").read_text())["last"]["name"]
    config = json.loads((run / "checkpoints" / last / "a_to_b" / "config.json").read_text())
    assert (config["head"], config["out_channels"]) == ("logits", 3)  # sky, road, car; void is never answered
    assert diptych("translate", run, folders.val_photos, "--out", tmp_path / "ids") == 0
    ids = np.stack([np.asarray(Image.open(file)) for file in sorted((tmp_path / "ids").iterdir())])
    truth = np.stack([np.asarray(Image.open(file)) for file in sorted(folders.val_labels.iterdir())])
    seen = truth != CLASSES["void"][0]
    assert (ids == truth)[seen].mean() > 0.8  # a channel mistaken for a row would lose most of it
    assert diptych("translate", run, folders.val_photos, "--out", tmp_path / "raw", "--raw") == 0
    assert Image.open(tmp_path / "raw" / "scene100.png").mode == "RGB"
    assert diptych("evaluate", run, "--a", folders.val_photos, "--b", folders.val_labels, "--out", tmp_path / "s") == 0
    scores = scores_of(tmp_path / "s")["scores"]
    assert scores["pixel_accuracy"] == pytest.approx((ids == truth)[seen].mean(), abs=1e-6)


@pytest.mark.parametrize("loss", ["pixel", "cross_entropy"])
def test_fcn8s_learns_class_maps_and_pictures(loss: str, folders: Folders, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes, "--pairs", 4)
    small = ("--generator", "fcn8s", "--size", "32x32", "--ngf", 4, "--steps", 2, "--batch-size", 2, "--loss", loss)
    assert diptych("train", "supervised", *words, *small, "--out", run) == 0
    assert diptych("translate", run, folders.val_photos, "--out", tmp_path / "out") == 0
    assert Image.open(tmp_path / "out" / "scene100.png").mode == "P"


def test_the_direction_of_cross_entropy(folders: Folders, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("--a", folders.labels, "--b", folders.photos, "--a-classes", folders.classes, *tiny("supervised"))
    assert diptych("train", "supervised", *words, "--steps", 2, "--direction", "b_to_a", "--out", run) == 0
    assert set(terms_of(run)[2]) == {"supervised_a"}
    assert diptych("translate", run, folders.val_photos, "--out", tmp_path / "out") == 0
    assert Image.open(tmp_path / "out" / "scene100.png").mode == "P"


def test_the_encoder_of_fcn8s_starts_from_the_weights_it_is_given(folders: Folders, tmp_path: Path) -> None:
    import torch

    from diptych.networks import FCN8s
    from diptych.translator import Translator

    torch.manual_seed(4)
    donor = FCN8s(ngf=4)
    given = {name: tensor for name, tensor in donor.state_dict().items() if name.startswith("features")}
    given |= {"pre_logits.fc1.weight": donor.fc6.weight, "pre_logits.fc1.bias": donor.fc6.bias}
    given |= {"pre_logits.fc2.weight": donor.fc7.weight, "pre_logits.fc2.bias": donor.fc7.bias}
    torch.save({name: tensor.detach() for name, tensor in given.items()}, tmp_path / "vgg.pth")
    words = ("--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes, "--pairs", 4)
    small = ("--generator", "fcn8s", "--size", "32x32", "--ngf", 4, "--steps", 1, "--optim.lr", 1e-12)
    run = tmp_path / "run"
    assert diptych("train", "supervised", *words, *small, "--encoder-weights", tmp_path / "vgg.pth", "--out", run) == 0
    trained = Translator.from_pretrained(run).generators["a_to_b"].state_dict()
    torch.testing.assert_close(trained["features.28.weight"], given["features.28.weight"])
    torch.testing.assert_close(trained["fc6.weight"], donor.fc6.weight.detach())


def test_pix2pix_learns_the_direction_it_is_given(folders: Folders, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes, *tiny("pix2pix"))
    assert diptych("train", "pix2pix", *words, "--steps", 1, "--direction", "b_to_a", "--out", run) == 0
    assert set(terms_of(run)[1]) == {"adversarial_a_given_b", "reconstruction_a", "judge_a_given_b"}
    assert diptych("translate", run, folders.val_labels, "--out", tmp_path / "out") == 0
    assert Image.open(tmp_path / "out" / "scene100.png").mode == "RGB"


def test_generators_can_start_from_another_run(trained: Path, folders: Folders, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    run = tmp_path / "run"
    words = ("--a", folders.photos, "--b", folders.labels, *tiny("cyclegan"), "--seed", 5, "--optim.lr", 1e-12)
    assert diptych("train", "cyclegan", *words, "--steps", 1, "--init-from", trained, "--out", run) == 0
    index = json.loads((trained / "checkpoints.json").read_text())
    for direction in ("a_to_b", "b_to_a"):
        theirs = load_file(trained / "checkpoints" / index["best"]["name"] / direction / "model.safetensors")
        mine = load_file(run / "checkpoints" / "00000001" / direction / "model.safetensors")
        for name, weight in theirs.items():
            np.testing.assert_allclose(mine[name], weight, atol=1e-9)


@pytest.fixture
def two_sources(tmp_path: Path) -> tuple[Path, Path]:
    """Photos and labels of 4 scenes, and 7 other scenes of another size whose first 4 have the same file names."""
    write_scenes(tmp_path / "own", 4, seed=0, size=(48, 40))
    write_scenes(tmp_path / "other", 7, seed=1, size=(64, 48))
    return tmp_path / "own", tmp_path / "other"


def sides_of(own: Path) -> tuple[object, ...]:
    return ("--a", own / "photos", "--b", own / "labels", "--b-classes", own / "classes.csv", "--size", "32x32")


def first(count: int) -> list[str]:
    return [f"{n:04d}.png" for n in range(count)]


def test_unpaired_images_from_elsewhere_are_trained_on_and_resumed(
    two_sources: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, other = two_sources
    settings = train_settings(
        *("shukla", *tiny("shukla"), *sides_of(own), "--pairs", 2, "--unpaired-b", other / "labels"),
        *("--unpaired-a", own / "photos", "--balance", 1, "--steps", 6, "--log-every", 1, "--out", tmp_path / "whole"),
    )
    assert commands.train(settings) == (tmp_path / "whole", 6)
    stopped = tmp_path / "stopped"
    assert commands.train(settings.model_copy(update={"out": stopped}), stop=stop_before_step(3)) == (stopped, 3)
    data = json.loads((stopped / "data.json").read_text())
    assert (data["unpaired_a"], data["unpaired_b"]) == (first(4), first(7))
    assert json.loads((stopped / "run.json").read_text())["data"] == {"pairs": 2, "unpaired_a": 4, "unpaired_b": 7}
    assert diptych("resume", stopped) == 0
    assert "stopped: 2 pairs; unpaired: 4 of a, 7 of b" in capsys.readouterr().err
    assert_same_weights(tmp_path / "whole", stopped, 6)
    assert terms_of(tmp_path / "whole") == terms_of(stopped)

    plain = settings.model_copy(update={"out": tmp_path / "plain", "unpaired_b": None})
    commands.train(plain)
    terms, others = terms_of(tmp_path / "whole"), terms_of(tmp_path / "plain")
    assert terms[1] == others[1]  # both pairs
    assert terms[2].keys() == others[2].keys()
    assert terms[2] != others[2]  # unpaired images


def test_a_resumed_run_reads_only_what_it_uses_of_either_folder(
    two_sources: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, other = two_sources
    run = tmp_path / "run"
    words = (*tiny("shukla"), *sides_of(own), "--unpaired-b", other / "labels", "--unpaired", 3, "--steps", 1)
    assert diptych("train", "shukla", *words, "--out", run) == 0  # without pairs nothing of --b itself is in use
    used = json.loads((run / "data.json").read_text())["unpaired_b"]
    shutil.rmtree(own / "labels")
    (own / "labels").mkdir()
    for name in set(first(7)) - set(used):
        (other / "labels" / name).write_bytes(b"broken")
    assert diptych("resume", run, "--steps", 2) == 0
    capsys.readouterr()
    (other / "labels" / used[0]).unlink()
    assert diptych("resume", run, "--steps", 3) == 2
    assert f"{other / 'labels' / used[0]}: no such file" in said_one_line(capsys)
    shutil.rmtree(other / "labels")
    assert diptych("resume", run, "--steps", 3) == 2
    assert f"{other / 'labels'}: no such folder any more" in said_one_line(capsys)


def test_previews_show_unpaired_images_from_elsewhere(two_sources: tuple[Path, Path], tmp_path: Path) -> None:
    own, other = two_sources
    words = (*tiny("cyclegan"), *sides_of(own), "--unpaired-b", other / "labels", "--direction", "b_to_a", "--steps", 1)
    assert diptych("train", "cyclegan", *words, "--out", tmp_path / "run") == 0
    # Of 7 the first and the last are among the rows shown; only the folder elsewhere has a seventh.
    assert (tmp_path / "run" / "previews" / "00000001.png").exists()


def test_the_pairs_own_folder_is_not_elsewhere(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folders.labels)
    words = (*tiny("shukla"), "--pairs", 4, "--steps", 1, "--a", folders.photos, "--b", folders.labels)
    names = {}
    for name, elsewhere in (("plain", ()), ("same", ("--unpaired-b", tmp_path / "link"))):
        assert diptych("train", "shukla", *words, *elsewhere, "--unpaired", 4, "--out", tmp_path / name) == 0
        names[name] = json.loads((tmp_path / name / "data.json").read_text())
    assert names["same"] == names["plain"]
    assert sorted(right for _, right in names["same"]["pairs"]) == names["same"]["unpaired_b"]  # the pairs come first


def test_palette_images_without_a_table_are_asked_about(
    folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["--a", folders.photos, "--b", folders.labels, "--out", tmp_path / "run", *tiny("cyclegan"), "--steps", 1]
    assert diptych("train", "cyclegan", *call) == 0
    assert "--b-classes" in capsys.readouterr().err
