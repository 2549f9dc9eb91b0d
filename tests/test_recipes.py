"""Every recipe that comes with diptych: built at full size and counted, and trained for a few steps at a small one."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image

from conftest import Folders, diptych
from diptych.build import NetworkMakers, make_method, resolve
from diptych.errors import DiptychError
from diptych.images import read_classes
from diptych.methods import METHODS
from diptych.recipes import read_recipe, recipe_file, settings_from, shipped_recipes

RECIPES = shipped_recipes()

RESNET_9 = 11_378_179  # published for the generator of CycleGAN
RESNET_9_OF_19_CLASSES = RESNET_9 + 16 * 64 * 49 + 16  # 19 logits in place of 3 colours
UNET_256 = 54_413_955  # published as 54.41 M
UNET_256_WITHOUT_SKIPS = 39_075_459  # half the input channels of 7 of its 8 transposed convolutions
PATCH_70 = 2_764_737  # published for the judge of CycleGAN
PATCH_70_GIVEN = PATCH_70 + 3 * 64 * 16  # a judge of two images has 3 more channels to see
PATCH_16_GIVEN = 6 * 64 * 16 + 64 + 64 * 128 * 16 + 2 * 128 + 128 * 16 + 1
PATCH_286_GIVEN = 6 * 64 * 16 + 64 + 16 * (64 * 128 + 128 * 256 + 256 * 512 + 2 * 512 * 512) + 16 * 512 + 1
PATCH_286_GIVEN += 2 * (128 + 256 + 512 + 512 + 512)
# BatchNorm has two parameters a channel where InstanceNorm leaves the convolution one bias.
BATCH_NORM = 128 + 256 + 512
FCN8S_19 = 134_364_569  # worked out in tests/networks

TWO_WAY = {"a_to_b": RESNET_9, "b_to_a": RESNET_9, "judge_a": PATCH_70, "judge_b": PATCH_70}
CONDITIONAL = {"judge_a_given_b": PATCH_70_GIVEN, "judge_b_given_a": PATCH_70_GIVEN}
PIX2PIX = {"a_to_b": UNET_256, "judge_b_given_a": PATCH_70_GIVEN + BATCH_NORM}
UCSD_UNPAIRED = dict.fromkeys(("a_to_b", "b_to_a"), UNET_256)
UCSD_UNPAIRED |= dict.fromkeys(("judge_a", "judge_b"), PATCH_70 + BATCH_NORM)

PARAMETERS = {
    "pix2pix": PIX2PIX,
    "pix2pix-label-to-photo": {"b_to_a": UNET_256, "judge_a_given_b": PATCH_70_GIVEN + BATCH_NORM},
    "supervised": {"a_to_b": RESNET_9_OF_19_CLASSES},
    "shukla-cross-entropy": TWO_WAY | {"a_to_b": RESNET_9_OF_19_CLASSES},
    "supervised-fcn8s": {"a_to_b": FCN8S_19},
    "ucsd-paired-patch16": PIX2PIX | {"judge_b_given_a": PATCH_16_GIVEN},
    "ucsd-paired-patch286": PIX2PIX | {"judge_b_given_a": PATCH_286_GIVEN},
    "ucsd-paired-no-skips": PIX2PIX | {"a_to_b": UNET_256_WITHOUT_SKIPS},
}
for name in RECIPES:
    if name not in PARAMETERS:
        kind = name.partition("-")[0]
        ucsd = PIX2PIX if "-paired-" in name else UCSD_UNPAIRED
        both = TWO_WAY | CONDITIONAL
        counts = {"ucsd": ucsd, "tripathy": both, "shukla": TWO_WAY, "cyclegan": TWO_WAY, "pix2pix": PIX2PIX}
        PARAMETERS[name] = counts[kind]


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """19 classes and void, as Cityscapes has them."""
    file = tmp_path_factory.mktemp("classes") / "classes.csv"
    rows = [f"{row},class{row},{row},0,{255 - row}" for row in range(19)]
    file.write_text("\n".join(["id,name,red,green,blue", *rows, "255,void,0,0,0", ""]))
    return file


@pytest.mark.parametrize("name", list(RECIPES))
def test_built_at_full_size(name: str, classes: Path) -> None:
    values = {"a": "a", "b": "b", "out": "out", "b_classes": str(classes)} | read_recipe(RECIPES[name])
    values |= {"b_classes": str(classes), "perceptual": None}
    values["weights"] = {term: w for term, w in values.get("weights", {}).items() if "perceptual" not in term}
    settings = resolve(settings_from(values, name))
    assert settings.size == "256x256"
    makers = NetworkMakers(settings, {"a": None, "b": read_classes(classes)})
    with torch.device("meta"):
        method = make_method(settings, makers, torch.device("meta"))
    counted = {key: sum(p.numel() for p in network.parameters()) for key, network in method.networks.items()}
    assert counted == PARAMETERS[name]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resnet")
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
    transformers.ResNetModel(config).save_pretrained(folder)
    transformers.ConvNextImageProcessorPil(size={"shortest_edge": 32}, crop_pct=1.0).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", list(RECIPES))
def test_trained_for_a_few_steps(
    name: str, folders: Folders, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # sel/pairs.csv of shukla-nested lies beside
    values = read_recipe(RECIPES[name])
    patch = values.get("judge", {}).get("patch", 70)
    generator = values["generator"]
    words: list[object] = ["train", "--recipe", name, "--a", folders.photos, "--b", folders.labels]
    words += ["--b-classes", folders.classes, "--out", "run", "--steps", 3, "--log-every", 1, "--ngf", 4]
    words += ["--size", "96x96" if patch == 286 else "32x32", "--device", "cpu"]
    words += ["--judge.ndf", 4] if values["method"] != "supervised" else []
    words += {"resnet": ["--blocks", 1], "unet": ["--depth", 3], "fcn8s": []}[generator]
    words += ["--unpaired-a", folders.val_photos] if "unpaired_a" in values else []
    words += ["--unpaired-b", folders.val_labels] if "unpaired_b" in values else []
    words += ["--val-a", folders.val_photos, "--val-b", folders.val_labels] if "val_a" in values else []
    words += ["--perceptual", backbone] if "perceptual" in values else []
    words += ["--paired-steps", 2] if values.get("rhythm") == "phases" else []
    if str(values.get("pairs", "")).endswith(".csv"):
        call = ["select", folders.photos, "--features", "descriptor", "--unpaired", 8, "--budget", 3]
        assert diptych(*call, "--partners", folders.labels, "--out", "sel") == 0
    elif "pairs" in METHODS[values["method"]].defaults:
        words += ["--pairs", 3]
    if patch == 286:
        enlarge(folders, tmp_path, words)
    assert diptych(*words) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    weights = read_recipe(tmp_path / "run" / "experiment.yaml")["weights"]
    seen = {term for line in lines for term in line.get("terms", {})}
    assert seen == {term for term, weight in weights.items() if weight}


def enlarge(folders: Folders, root: Path, words: list[object]) -> None:
    """Photos and labels of 96 x 96, which the largest patch needs, in place of the shared ones."""
    for flag, folder in (("--a", folders.photos), ("--b", folders.labels)):
        (root / folder.name).mkdir()
        for file in folder.iterdir():
            Image.open(file).resize((96, 96), Image.Resampling.NEAREST).save(root / folder.name / file.name)
        words[words.index(flag) + 1] = root / folder.name


def test_extends_lays_one_recipe_over_another(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\nsteps: 7\nweights: {cycle_a: 2}\nblocks: null\n")
    (tmp_path / "base.yaml").write_text("extends: shukla\nbatch_size: 3\nsteps: 5\njudge: {patch: 16}\n")
    found = read_recipe(tmp_path / "mine.yaml")
    shukla = read_recipe(RECIPES["shukla"])
    changed = {"steps": 7, "batch_size": 3, "blocks": None, "judge": {"patch": 16, "ndf": 64}}
    assert found == shukla | changed | {"weights": shukla["weights"] | {"cycle_a": 2}}
    assert "extends" not in found


def test_a_recipe_beside_comes_before_the_one_that_comes_with_diptych(tmp_path: Path) -> None:
    (tmp_path / "shukla.yaml").write_text("extends: shukla\nsteps: 7\n")
    (tmp_path / "mine.yaml").write_text("extends: shukla\nbatch_size: 3\n")
    shipped = read_recipe(recipe_file("shukla"))
    assert read_recipe(tmp_path / "mine.yaml") == shipped | {"steps": 7, "batch_size": 3}


def test_a_recipe_that_extends_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("extends: two.yaml\n")
    (tmp_path / "two.yaml").write_text("extends: one.yaml\n")
    with pytest.raises(DiptychError, match=r"one.yaml: extends itself by way of two.yaml"):
        read_recipe(tmp_path / "one.yaml")
    (tmp_path / "three.yaml").write_text("extends: shuklaa\n")
    with pytest.raises(DiptychError, match="shukla"):
        read_recipe(tmp_path / "three.yaml")


def test_the_papers_settings() -> None:
    """What makes each recipe itself, against the facts of its paper."""

    def resolved(name: str) -> dict[str, Any]:
        return read_recipe(RECIPES[name])

    for name in (name for name in RECIPES if name.startswith("ucsd")):
        recipe = resolved(name)
        assert (recipe["batch_size"], recipe["resample"], recipe["adversarial"]) == (16, "nearest", "vanilla")
        assert (recipe["leak"], recipe["norm"], recipe["generator"]) == (0, "batch", "unet")
    kinds = {"paired": "reconstruction_l2", "unpaired": "cycle_l2"}
    for kind, setting in kinds.items():
        shares = [resolved(f"ucsd-{kind}-{name}")[setting] for name in ("l1", "l1-l2", "l2")]
        assert shares == [0, 0.5, 1]
    assert [resolved(f"ucsd-paired-patch{n}")["judge"]["patch"] for n in (16, 286)] == [16, 286]
    assert len([name for name in RECIPES if name.startswith("ucsd-paired")]) == 6
    assert len([name for name in RECIPES if name.startswith("ucsd-unpaired")]) == 3
    released = resolved("shukla-as-released")
    assert (released["pool_size"], released["paired_pool_size"], released["pool_reals"]) == (50, 10, True)
    assert released["weights"]["cycle_a"] == released["weights"]["cycle_b"] == 0
    assert released["weights"]["reconstruction_b"] == 150
    assert resolved("shukla-without-identity")["weights"]["identity_a"] == 0
    assert resolved("shukla-unbalanced")["balance"] == 1
    assert resolved("tripathy")["rhythm"] == "phases"
