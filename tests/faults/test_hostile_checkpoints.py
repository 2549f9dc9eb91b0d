"""A stranger's checkpoint: refused with the difference, before any memory is taken for what it claims."""

import hashlib
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save, save_file

from conftest import Folders, diptych, said_one_line
from conftest import tree as everything
from diptych.errors import DiptychError
from diptych.networks import checked_architecture, make_generator
from diptych.translator import Translator, TranslatorSpec

RESNET = {"generator": "resnet", "in_channels": 3, "out_channels": 3, "ngf": 2, "blocks": 1, "norm": "instance"}
CLASSES = {"ids": [0, 7], "names": ["sky", "road"], "colours": [[1, 2, 3], [4, 5, 6]], "void": None}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    spec = TranslatorSpec({"a_to_b": RESNET}, (32, 24), "a_to_b", {"a": None, "b": None}, False)
    Translator({"a_to_b": make_generator(RESNET)}, spec).save_pretrained(tmp_path / "t")
    return tmp_path / "t"


def tree(folder: Path) -> dict[str, bytes]:
    """Every file, but for the lock, which says who held it last."""
    return {path: data for path, data in everything(folder).items() if not path.endswith(".lock")}


def refusal(folder: Path) -> str:
    with pytest.raises(DiptychError) as problem:
        Translator.from_pretrained(folder)
    line = str(problem.value)
    assert line.startswith(f"{folder}: holds no translator that can be loaded: ")
    assert line.isprintable()
    return line


def rewrite(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    record = json.loads(file.read_text())
    changed = change(record)
    file.write_text(json.dumps(record if changed is None else changed))


def without_hashes(folder: Path) -> None:
    """As it would be in the format before, or made by someone who means harm."""
    rewrite(folder / "translator.json", lambda record: {**record, "format": 1, "sha256": {}})


# --- hashes


def test_every_file_of_weights_and_every_configuration_has_its_hash(trained: Path) -> None:
    name = json.loads((trained / "checkpoints.json").read_text())["last"]["name"]
    checkpoint = trained / "checkpoints" / name
    record = json.loads((checkpoint / "translator.json").read_text())
    for file in ("a_to_b/config.json", "a_to_b/model.safetensors", "b_to_a/config.json", "b_to_a/model.safetensors"):
        assert record["sha256"].pop(file) == hashlib.sha256((checkpoint / file).read_bytes()).hexdigest()
    assert record["sha256"] == {}
    state = json.loads((checkpoint / "training" / "state.json").read_text())
    assert state["sha256"] == hashlib.sha256((checkpoint / "training" / "state.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_another_file_is_told_by_its_hash(folder: Path, name: str) -> None:
    file = folder / "a_to_b" / name
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    data = bytearray(file.read_bytes())
    data[-2] ^= 32  # still weights of the same shapes, or JSON all the same
    file.write_bytes(data)
    after = hashlib.sha256(data).hexdigest()
    line = refusal(folder)
    assert f"a_to_b/{name}: is not the file that was saved: its SHA-256 is {after}, expected {before}" in line
    assert "copy the folder again" in line


def test_a_hash_that_is_missing_is_no_way_around(folder: Path) -> None:
    rewrite(folder / "translator.json", lambda record: record["sha256"].pop("a_to_b/model.safetensors") and None)
    assert "names no SHA-256 of a_to_b/model.safetensors" in refusal(folder)


def test_the_format_before_had_no_hashes_and_is_still_read(folder: Path) -> None:
    expected = load_file(folder / "a_to_b" / "model.safetensors")
    without_hashes(folder)
    loaded = Translator.from_pretrained(folder).generators["a_to_b"].state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())


# --- shapes and descriptions

NAMES = {
    "another width": (
        lambda tensors: tensors | {"layers.1.weight": torch.zeros(5, 3, 7, 7)},
        "the tensor 'layers.1.weight' is 5x3x7x7, where its configuration asks for 2x3x7x7",
    ),
    "a tensor too few": (
        lambda tensors: {name: tensor for name, tensor in tensors.items() if name != "layers.1.bias"},
        "lacks the tensor 'layers.1.bias', 2",
    ),
    "a tensor too many": (
        lambda tensors: tensors | {"extra": torch.zeros(3)},
        "holds the tensor 'extra', which its configuration has not",
    ),
    "complex numbers": (
        lambda tensors: tensors | {"layers.1.bias": torch.zeros(2, dtype=torch.complex64)},
        "the tensor 'layers.1.bias' is complex 2, where",
    ),
}


@pytest.mark.parametrize("what", NAMES)
def test_shapes_that_do_not_fit_are_named_with_both(folder: Path, what: str) -> None:
    change, words = NAMES[what]
    without_hashes(folder)
    file = folder / "a_to_b" / "model.safetensors"
    save_file(change(load_file(file)), file)
    assert words in refusal(folder)


ARCHITECTURES: dict[str, tuple[Any, str]] = {
    "a billion channels": (RESNET | {"ngf": 10**9}, "ngf is 1000000000, as no resnet has it"),
    "more than any integer": (RESNET | {"ngf": 10**40}, "ngf is 1000000000"),
    "a million blocks": (RESNET | {"blocks": 10**6}, "blocks is 1000000"),
    "fewer than no blocks": (RESNET | {"blocks": -1}, "blocks is -1"),
    "half a channel": (RESNET | {"ngf": 2.5}, "ngf is 2.5"),
    "a number as text": (RESNET | {"ngf": "2"}, "ngf is '2'"),
    "yes for one": (RESNET | {"ngf": True}, "ngf is True"),
    "NaN": (RESNET | {"ngf": float("nan")}, "ngf is nan"),
    "a slope of NaN": ({"generator": "unet", "leak": float("nan")}, "leak is nan"),
    "a list": (RESNET | {"norm": ["instance"]}, "norm is ['instance']"),
    "no such norm": (RESNET | {"norm": "layer"}, "norm is 'layer'"),
    "an unknown key": (RESNET | {"nfg": 2}, "unknown 'nfg'; did you mean 'ngf'?"),
    "a word of Python": (RESNET | {"self": 1}, "unknown 'self'"),
    "the answer of a call": (RESNET | {"return": None}, "unknown 'return'"),
    "no generator": ({"ngf": 2}, "describes no generator known here (resnet, unet, fcn8s)"),
    "a generator of another kind": ({"generator": ["resnet"]}, "describes no generator"),
    "no description": ([RESNET], "describes no generator"),
    "a deep unet": ({"generator": "unet", "depth": 40}, "depth is 40"),
    "other channels": (
        RESNET | {"in_channels": 4},
        "'layers.1.weight' is 2x3x7x7, where its configuration asks for 2x4",
    ),
}


@pytest.mark.parametrize("what", ARCHITECTURES)
def test_absurd_descriptions_are_refused(folder: Path, what: str) -> None:
    architecture, words = ARCHITECTURES[what]
    without_hashes(folder)
    (folder / "a_to_b" / "config.json").write_text(json.dumps(architecture))
    assert words in refusal(folder)


def test_what_every_recipe_writes_is_no_absurd_description() -> None:
    for kind, own in (("resnet", {"blocks": 9, "norm": "batch"}), ("unet", {"depth": 8, "leak": 0, "skips": False})):
        architecture = {"generator": kind, "in_channels": 12, "out_channels": 1, "ngf": 64, "head": "logits", **own}
        assert checked_architecture(architecture) == architecture


JSON = {
    "nesting": ("[" * 200_000, "a_to_b/config.json: "),
    "no JSON": ("{", "a_to_b/config.json: "),
    "digits": ('{"ngf": ' + "9" * 100_000 + "}", "a_to_b/config.json: "),
}


@pytest.mark.parametrize("what", JSON)
def test_json_that_nobody_writes(folder: Path, what: str) -> None:
    text, words = JSON[what]
    without_hashes(folder)
    (folder / "a_to_b" / "config.json").write_text(text)
    assert words in refusal(folder)
    (folder / "translator.json").write_text(text)
    assert "translator.json: damaged" in refusal(folder)


RECORDS: dict[str, tuple[dict[str, Any], str]] = {
    "a way out": ({"directions": ["../../x"]}, "directions.0"),
    "a way twice": ({"directions": ["a_to_b", "a_to_b"]}, "directions are a_to_b, a_to_b"),
    "no way": ({"directions": []}, "directions"),
    "a way that is not there": ({"direction": "b_to_a"}, "direction is b_to_a, directions are a_to_b"),
    "a size of gigabytes": ({"size": [65536, 65536]}, "a size of 65536x65536 pixels"),
    "no size": ({"size": [0, 24]}, "size.0"),
    "three sizes": ({"size": [1, 2, 3]}, "size"),
    "a size of NaN": ({"size": [float("nan"), 24]}, "damaged"),
    "a format to come": ({"format": 3}, "format"),
    "text for yes": ({"train_mode": "yes"}, "train_mode"),
    "one domain": ({"classes": {"a": None}}, "classes and forms of a and b must both be there"),
    "ids above 255": ({"classes": {"a": None, "b": CLASSES | {"ids": [0, 256]}}}, "ids.1"),
    "colours missing": ({"classes": {"a": None, "b": CLASSES | {"colours": [[1, 2, 3]]}}}, "not as many ids as"),
    "ids twice": ({"classes": {"a": None, "b": CLASSES | {"ids": [7, 7]}}}, "stands there twice"),
    "void nowhere": ({"classes": {"a": None, "b": CLASSES | {"void": 2}}}, "void class is none of several"),
    "a billion channels": ({"forms": {"a": {"channels": 10**9}, "b": {}}}, "forms.a.channels"),
    "other channels": (
        {"forms": {"a": {"channels": 4}, "b": {}}},
        "in_channels is 3, where translator.json makes it 4",
    ),
    "12 bits": ({"forms": {"a": {"bits": 12}, "b": {}}}, "forms.a.bits"),
}


@pytest.mark.parametrize("what", RECORDS)
def test_absurd_records_are_refused(folder: Path, what: str) -> None:
    changes, words = RECORDS[what]
    rewrite(folder / "translator.json", lambda record: record | changes)
    assert words in refusal(folder)


def test_logits_of_more_classes_than_there_are(tmp_path: Path) -> None:
    architecture = RESNET | {"out_channels": 3, "head": "logits"}
    spec = TranslatorSpec({"a_to_b": architecture}, (32, 24), "a_to_b", {"a": None, "b": None}, False)
    Translator({"a_to_b": make_generator(architecture)}, spec).save_pretrained(tmp_path)
    assert "out_channels is 3, where translator.json makes it 0" in refusal(tmp_path)


def header_of(tensors: dict[str, Any], data: bytes = bytes(16), size: int | None = None) -> bytes:
    header = json.dumps(tensors).encode()
    return struct.pack("<Q", len(header) if size is None else size) + header + data


def entry(shape: list[int], start: int, end: int, kind: str = "F32") -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [start, end]}


SAFETENSORS = {
    "overlapping": header_of({"x": entry([3], 0, 12), "y": entry([3], 4, 16)}),
    "beyond the end": header_of({"x": entry([1000], 0, 4000)}),
    "shape and bytes differ": header_of({"x": entry([5], 0, 16)}),
    "a shape beyond all numbers": header_of({"x": entry([2**40, 2**40], 0, 16)}),
    "backwards": header_of({"x": entry([4], 16, 0)}),
    "an endless header": header_of({"x": entry([4], 0, 16)}, size=2**63),
    "a header of a gigabyte": header_of({"x": entry([4], 0, 16)}, size=2**30),
    "an unknown type": header_of({"x": entry([4], 0, 16, "F4096")}),
    "nesting": struct.pack("<Q", 100_000) + b"[" * 100_000,
    "nothing": b"",
    "a pickle": b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.",
}


@pytest.mark.parametrize("what", SAFETENSORS)
def test_headers_that_lie(folder: Path, what: str) -> None:
    without_hashes(folder)
    (folder / "a_to_b" / "model.safetensors").write_bytes(SAFETENSORS[what])
    assert "a_to_b/model.safetensors: damaged, or no .safetensors file" in refusal(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
@pytest.mark.parametrize("name", ["translator.json", "a_to_b/config.json", "a_to_b/model.safetensors"])
def test_a_named_pipe_is_not_waited_for(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(DiptychError):
        Translator.from_pretrained(folder)


# --- whole runs


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


INDEX: dict[str, Any] = {
    "a way out": {"name": "../../../elsewhere", "step": 4, "metric": None, "value": None},
    "an absolute name": {"name": "/tmp", "step": 4, "metric": None, "value": None},
    "a number": {"name": 4, "step": 4, "metric": None, "value": None},
    "digits without end": {"name": "4" * 5000, "step": 4, "metric": None, "value": None},
    "no step": {"name": "00000004", "metric": None, "value": None},
    "no entry": None,
}


@pytest.mark.parametrize("what", INDEX)
def test_checkpoints_json_names_nothing_outside_the_run(
    what: str, run: Path, folders: Folders, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (run / "checkpoints.json").write_text(json.dumps({"last": INDEX[what], "best": INDEX[what]}))
    before = tree(tmp_path)
    for call in (
        ("translate", run, folders.photos, "--out", tmp_path / "out"),
        ("evaluate", run, "--a", folders.photos, "--b", folders.labels),
        ("resume", run, "--steps", 6),
    ):
        capsys.readouterr()
        assert diptych(*call) == 2
        assert "checkpoints.json: damaged (" in said_one_line(capsys)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["../x.png", "/etc/passwd", "a/../../x.png", "x\0y"])
def test_data_json_names_nothing_outside_the_folders(
    name: str, run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rewrite(run / "data.json", lambda record: record | {"unpaired_a": [name]})
    before = tree(tmp_path)
    assert diptych("resume", run, "--steps", 6) == 2
    assert "leads out of its folder" in said_one_line(capsys)
    assert tree(tmp_path) == before


STATES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "another hash": (lambda tree: tree | {"sha256": "0" * 64}, f"expected {'0' * 64}"),
    "no tree": (lambda tree: [tree], "cannot be resumed from"),
    "an optimiser's state for no parameter": (
        lambda tree: optimiser_of(tree).update({"999": optimiser_of(tree)["0"]}),
        "of parameter 999, which is None",
    ),
    "an optimiser's state of another shape": (
        lambda tree: optimiser_of(tree)["0"]["by_name"].update({"exp_avg": {"tensor": "/torch_rng"}}),
        "of parameter 0, which is (4, 3, 7, 7)",
    ),
    "a judge less": (lambda tree: tree["by_name"]["judges"]["by_name"].pop("judge_a") and None, "cannot be resumed"),
    "a step of text": (lambda tree: tree["by_name"].update(step="four"), "cannot be resumed"),
    "random numbers from elsewhere": (
        lambda tree: tree["by_name"].update(torch_rng={"tensor": "/judges/judge_a/layers.0.weight"}),
        "cannot be resumed",
    ),
}


def optimiser_of(tree: dict[str, Any]) -> Any:
    state = tree["by_name"]["optimisers"]["by_name"]["generators"]["by_name"]["state"]
    return state["by_number"]


@pytest.mark.parametrize("what", STATES)
def test_a_state_that_does_not_fit_is_refused(
    what: str, run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    change, words = STATES[what]
    name = json.loads((run / "checkpoints.json").read_text())["last"]["name"]
    rewrite(run / "checkpoints" / name / "training" / "state.json", change)
    before = tree(tmp_path)
    assert diptych("resume", run, "--steps", 6) == 2
    line = said_one_line(capsys)
    assert "cannot be resumed from" in line
    assert words in line
    assert tree(tmp_path) == before


def test_weights_of_another_run_are_not_resumed_from(
    run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    name = json.loads((run / "checkpoints.json").read_text())["last"]["name"]
    weights = run / "checkpoints" / name / "a_to_b" / "model.safetensors"
    weights.write_bytes(save({key: tensor + 1 for key, tensor in load_file(weights).items()}))
    assert diptych("resume", run, "--steps", 6) == 2
    assert "is not the file that was saved" in said_one_line(capsys)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
def test_translating_reads_nothing_that_the_settings_name(run: Path, folders: Folders, tmp_path: Path) -> None:
    """experiment.yaml of a stranger may name any path; a named pipe would not come back."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    settings = yaml.safe_load((run / "experiment.yaml").read_text())
    places = ("a", "b", "a_classes", "b_classes", "val_a", "val_b", "pairs", "unpaired", "init_from", "perceptual")
    settings |= dict.fromkeys(places, str(pipe))
    (run / "experiment.yaml").write_text(yaml.safe_dump(settings))
    assert diptych("translate", run, folders.photos, "--out", tmp_path / "out") == 0
    assert diptych("evaluate", run, "--a", folders.photos, "--b", folders.labels) == 0
    (run / "experiment.yaml").write_text("{")
    assert diptych("translate", run, folders.photos, "--out", tmp_path / "out", "--overwrite") == 0
    assert Translator.from_pretrained(run).spec.size == (32, 24)


SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "no such method": ({"method": "zork"}, "unknown method 'zork'"),
    "no folder": ({"a": None}, "--a"),
    "a folder that is gone": ({"a": "/nowhere"}, "/nowhere"),
    "a term that is none": ({"weights": {"zork": 1.0}}, "no term 'zork'"),
    "a depth for a resnet": ({"depth": 3}, "resnet ignores --depth"),
    "a size that fits no network": ({"size": "30x24"}, "--size 30x24"),
}


@pytest.mark.parametrize("what", SETTINGS)
def test_a_strangers_settings_are_checked_again(
    what: str, run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    changes, words = SETTINGS[what]
    settings = yaml.safe_load((run / "experiment.yaml").read_text())
    (run / "experiment.yaml").write_text(yaml.safe_dump(settings | changes))
    before = tree(tmp_path)
    assert diptych("resume", run, "--steps", 6) == 2
    assert words in said_one_line(capsys)
    assert tree(tmp_path) == before
