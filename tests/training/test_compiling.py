"""Compiled networks do the same mathematics, and a training without a compiler says so and goes on."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from conftest import Folders, diptych, tiny
from diptych.batches import Batch
from diptych.methods import METHODS
from diptych.methods.base import Method, Options
from diptych.networks import PatchJudge, ResNetGenerator
from diptych.training.compiling import compile_networks, uncompiled, why_not
from diptych.training.step import make_optimisers, prepare, take_step
from diptych.translator import Translator

CPU = torch.device("cpu")
ROWS = torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1
needs_a_compiler = pytest.mark.skipif(why_not(CPU) is not None, reason="torch's compiler does not work here")


class Small:
    def generator(self, source: str, target: str) -> nn.Module:
        del source, target
        return ResNetGenerator(ngf=8, blocks=2)

    def judge(self, *domains: str) -> nn.Module:
        return PatchJudge(3 * len(domains), patch=16, ndf=8)


def made(name: str) -> Method:
    torch.manual_seed(0)
    kind = METHODS[name]
    weights = kind.default_weights("a_to_b")
    return kind(Small(), Options(weights=weights, adversarial=kind.defaults["adversarial"], pool_size=50))


def terms_of_two_steps(name: str, way: str) -> list[dict[str, float]]:
    """The terms of two steps on the same pairs: in float64 by plain calls, or as training takes them."""
    method = made(name)
    if way == "float64":
        for network in method.networks.values():
            network.double()
    else:
        prepare(method.networks.values(), CPU, "bf16" if "bf16" in way else "fp32")
    if "compiled" in way:
        compile_networks(method.networks.values())
    optimisers = make_optimisers(method, (0.5, 0.999))
    batch = Batch(*(ROWS if way == "float64" else ROWS.float()), n_pairs=1)
    precision = "bf16" if "bf16" in way else "fp32"
    return [take_step(method, optimisers, batch, 2e-4, precision).terms for _ in range(2)]  # type: ignore[arg-type]


@needs_a_compiler
@pytest.mark.slow
@pytest.mark.parametrize("name", ["shukla", "cyclegan", "tripathy"])
@pytest.mark.parametrize(("way", "within"), [("compiled", 1e-4), ("compiled bf16", 0.02), ("bf16", 0.02)])
def test_terms_agree_with_float64(name: str, way: str, within: float) -> None:
    for ours, exact in zip(terms_of_two_steps(name, way), terms_of_two_steps(name, "float64"), strict=True):
        assert ours == pytest.approx(exact, rel=within)


def test_only_what_gains_is_compiled() -> None:
    with_norm, without = PatchJudge(patch=16, ndf=4), PatchJudge(patch=16, ndf=4, norm="batch")
    compile_networks([with_norm, without])
    assert with_norm._compiled_call_impl is not None
    assert without._compiled_call_impl is None
    assert list(with_norm.state_dict()) == list(PatchJudge(patch=16, ndf=4).state_dict())


def test_in_the_context_nothing_is_compiled() -> None:
    compiled: list[object] = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> object:
        del inputs
        compiled.append(graph)
        return graph.forward

    network = PatchJudge(patch=16, ndf=4)
    network.compile(backend=backend)
    with uncompiled(True):
        network(torch.zeros(1, 3, 24, 24))
    assert not compiled
    network(torch.zeros(1, 3, 24, 24))
    assert compiled


@needs_a_compiler
@pytest.mark.slow
def test_a_compiled_run_is_resumed_to_the_same_bits(folders: Folders, tmp_path: Path) -> None:
    sides = ["--a", folders.photos, "--b", folders.labels, "--b-classes", folders.classes, "--pairs", 6]
    validation = ["--val-a", folders.val_photos, "--val-b", folders.val_labels, "--val-every", 4]
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    words = ["train", "shukla", *sides, *validation, *tiny("shukla"), "--steps", 8, "--compile", "--out"]
    assert diptych(*words, whole) == 0
    assert yaml.safe_load((whole / "experiment.yaml").read_text())["compile"] is True
    assert json.loads((whole / "run.json").read_text())["compiled"] is True
    shutil.copytree(whole, resumed)
    done = in_a_process("resume", resumed, "--from-step", 4)  # which compiles for itself
    assert done.returncode == 0, done.stderr
    files = sorted((whole / "checkpoints" / "00000008").rglob("*.safetensors"))
    assert len(files) == 3
    for file in files:
        assert file.read_bytes() == (resumed / file.relative_to(whole)).read_bytes(), file.name


def in_a_process(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-m", "diptych", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_without_a_compiler(folders: Folders, tmp_path: Path) -> None:
    sides = ["--a", folders.photos, "--b", folders.labels, "--pairs", 6]
    refused = in_a_process(
        "train",
        "shukla",
        *sides,
        *tiny("shukla"),
        "--steps",
        2,
        "--compile",
        "--out",
        tmp_path / "refused",
        CXX="/no/such/compiler",
    )
    assert refused.returncode == 2
    assert "--compile" in refused.stderr
    assert "C++ compiler" in refused.stderr.splitlines()[-1]
    assert not (tmp_path / "refused" / "run.json").exists()

    run = tmp_path / "run"
    assert diptych("train", "shukla", *sides, *tiny("shukla"), "--steps", 2, "--out", run) == 0
    experiment = run / "experiment.yaml"
    values = yaml.safe_load(experiment.read_text())
    assert values["compile"] is False
    experiment.write_text(yaml.safe_dump(values | {"compile": True}))  # as if begun where there was one
    resumed = in_a_process("resume", run, "--steps", 4, CXX="/no/such/compiler")
    assert resumed.returncode == 0, resumed.stderr
    assert "goes on uncompiled" in resumed.stdout + resumed.stderr
    assert yaml.safe_load(experiment.read_text())["compile"] is False
    assert Translator.from_pretrained(run, "last")
