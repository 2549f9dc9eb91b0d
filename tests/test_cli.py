"""The command line itself: flags, recipes, --help, the lines of the README. Bad input is for test_bad_input.py."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import Folders, diptych, make_folders, scores_of, terms_of
from diptych.cli import COMMANDS
from diptych.config import setting_names
from diptych.methods import METHODS


def dry_run(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    capsys.readouterr()
    assert diptych("train", *words, "--dry-run") == 0
    resolved: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return resolved


def test_flags_lie_on_top_of_the_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "method: cyclegan\na: x\nb: y\nsteps: 7\nsize: 64\nunpaired: 20\n"
        "optim: {lr: 1e-3, beta1: 0.9}\nweights: {cycle_a: 3, identity_a: 0}\n"
    )
    words = ("--recipe", recipe, "--out", "z", "--steps", 9, "--optim.beta1", 0.25)
    found = dry_run(capsys, *words)
    assert found["method"] == "cyclegan"
    assert (found["steps"], found["size"], found["unpaired"]) == (9, "64", "20")
    assert found["optim"] == {"lr": 1e-3, "beta1": 0.25, "beta2": 0.999, "clip": None}
    assert (found["weights"]["cycle_a"], found["weights"]["identity_a"], found["weights"]["cycle_b"]) == (3, 0, 10)
    assert dry_run(capsys, "shukla", *words)["method"] == "shukla"
    assert dry_run(capsys, f"--recipe={recipe}", "--out", "z")["steps"] == 7


@pytest.mark.parametrize("method", list(METHODS))
def test_a_dry_run_is_a_recipe_for_itself(method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (method, "--a", "x", "--b", "y", "--out", tmp_path / "run", "--size", "256", "--no-flip", "--seed", 4)
    resolved = dry_run(capsys, *words)
    assert not (tmp_path / "run").exists()
    assert None not in (resolved["rhythm"], resolved["generator"], resolved["norm"])
    assert (resolved["adversarial"] is None) == (method == "supervised")
    recipe = tmp_path / "plan.yaml"
    recipe.write_text(yaml.safe_dump(resolved))
    assert dry_run(capsys, "--recipe", recipe) == resolved


def test_the_experiment_of_a_run_is_a_recipe(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = yaml.safe_load((trained / "experiment.yaml").read_text())
    again = tmp_path / "again"
    words = ("--recipe", trained / "experiment.yaml", "--out", again)
    assert dry_run(capsys, *words) == experiment | {"out": str(again)}
    assert diptych("train", *words) == 0
    assert terms_of(again) == terms_of(trained)


def test_help_lists_every_setting_with_its_line_and_needs_no_torch() -> None:
    script = """
import io, json, contextlib, sys
from diptych.cli import COMMANDS, main
texts = {}
for words in ([], *([name] for name in COMMANDS)):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            main([*words, "--help"])
        except SystemExit as stop:
            assert not stop.code
    texts[" ".join(words)] = out.getvalue()
main(["--version"])
print(json.dumps({"texts": texts, "heavy": [name for name in ("torch", "transformers", "sklearn", "matplotlib")
                                            if name in sys.modules]}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    version, answer = done.stdout.splitlines()
    assert re.fullmatch(r"diptych \d+\.\d+\.\d+", version)
    found = json.loads(answer)
    assert found["heavy"] == []
    for name, model in COMMANDS.items():
        assert name in found["texts"][""]
        text = " ".join(re.sub("[│─╭╮╰╯]", " ", found["texts"][name]).split())
        for setting in setting_names(model):
            *groups, last = setting.split(".")
            owner: Any = model
            for group in groups:
                owner = owner.model_fields[group].annotation
            field = owner.model_fields[last]
            flag = f"--{setting.replace('_', '-')}"
            if any(getattr(item, "metavar", None) for item in field.metadata):
                flag = next(item.metavar for item in field.metadata if getattr(item, "metavar", None))
            assert re.search(rf"(?<!\S){re.escape(flag)}(?![\w.-])", text), flag
            assert field.description, f"{name} {setting} has no help"
            assert " ".join(field.description.split())[:40] in text, f"{name} {setting}"


@pytest.mark.slow
def test_the_lines_of_the_readme(folders: Folders, tmp_path: Path) -> None:
    """As written in the README, but for the sizes; PHOTOS, LABELS and VAL are the folders."""
    lines = """
select PHOTOS --budget 4 --features descriptor --selector kmedoids --seed 0 --partners LABELS --out sel
train shukla --a PHOTOS --b LABELS --b-classes CLASSES --pairs sel/pairs.csv --unpaired 8 --size 32x24 --steps 4 \
    --batch-size 2 --generator resnet --blocks 1 --ngf 4 --judge.patch 16 --seed 0 --val-a VAL_PHOTOS \
    --val-b VAL_LABELS --val-every 2 --out runs/x
resume runs/x --steps 6
translate runs/x PHOTOS/scene001.png --out one
translate runs/x VAL_PHOTOS --out out
evaluate runs/x --a VAL_PHOTOS --b VAL_LABELS --out scores
evaluate --generated out --b VAL_LABELS --b-classes CLASSES --out again
"""
    places = {
        "VAL_PHOTOS": folders.val_photos,
        "VAL_LABELS": folders.val_labels,
        "PHOTOS": folders.photos,
        "LABELS": folders.labels,
        "CLASSES": folders.classes,
    }
    for word, place in places.items():
        lines = lines.replace(word, str(place))
    said = []
    for line in lines.replace("\\\n", " ").strip().splitlines():
        done = subprocess.run(
            [sys.executable, "-m", "diptych", *line.split()], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        said.append(done.stdout)
    assert said[0].startswith("4 images chosen")
    assert ": diptych train shukla --a" in said[0]
    assert "Trained to step 4" in said[1]
    assert "Trained to step 6" in said[2]
    assert "1 translated" in said[3]
    assert "4 translated" in said[4]
    assert "mean iou" in said[5]
    assert scores_of(tmp_path / "scores")["scores"] == scores_of(tmp_path / "again")["scores"]
    assert scores_of(tmp_path / "scores")["n"] == 4


def test_folders_differ_from_one_another(tmp_path: Path) -> None:
    """The fixtures themselves: scenes that were all alike would let a mixed-up pairing pass."""
    data = make_folders(tmp_path / "d", count=6, val_count=0)
    assert len({path.read_bytes() for path in data.photos.iterdir()}) == 6
    assert len({path.read_bytes() for path in data.labels.iterdir()}) == 6


@pytest.mark.parametrize("recipe", ["shukla", "cyclegan"])
def test_weights_lie_on_top_of_a_shipped_recipe(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    call = [
        "--recipe",
        recipe,
        "--a",
        "x",
        "--b",
        "y",
        "--out",
        "z",
        "--dry-run",
        "--weights",
        "cycle_a",
        0,
        "cycle_b",
        3,
    ]
    assert diptych("train", *call) == 0
    plan = yaml.safe_load(capsys.readouterr().out)
    assert plan["method"] == recipe
    assert (plan["weights"]["cycle_a"], plan["weights"]["cycle_b"]) == (0, 3)
    assert plan["weights"]["identity_a"] == {"shukla": 10, "cyclegan": 5}[recipe]


@pytest.mark.slow
def test_a_wheel_runs_outside_the_checkout(tmp_path: Path) -> None:
    checkout = Path(__file__).parents[1]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = [*pip, "wheel", str(checkout), "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    subprocess.run(build, check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("diptych-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)], check=True)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    code = "import diptych, sys; from diptych.cli import main; print(diptych.__file__); sys.exit(main(sys.argv[1:]))"
    call = ["train", "--recipe", "shukla", "--a", "x", "--b", "y", "--out", "z", "--dry-run"]
    done = subprocess.run(
        [sys.executable, "-c", code, *call], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(str(tmp_path / "site"))
    assert yaml.safe_load(done.stdout.partition("\n")[2])["steps"] == 80000
    assert (tmp_path / "site" / "diptych" / "py.typed").exists()
