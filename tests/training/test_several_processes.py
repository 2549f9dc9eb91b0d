"""P processes with B rows each do what one does with P B rows: the same terms, gradients and weights."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from conftest import make_folders
from several import CASES, SMALL, five_steps, together

SCRIPT = str(Path(__file__).parents[1] / "several.py")


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_five_steps_are_those_of_one_process(count: int, tmp_path: Path) -> None:
    folders = make_folders(tmp_path / "images", count=16).root
    done = together([SCRIPT, str(folders), str(tmp_path), *CASES], count)
    assert [code for code, _, _ in done] == [0] * count, done
    for name, case in CASES.items():
        alone = five_steps(folders, case, SMALL["batch_size"] * count)
        assert any(key.startswith("gradient 4") for key in alone)
        for rank in range(count):
            here = load_file(tmp_path / f"{name}-{rank}.safetensors")
            assert here.keys() == alone.keys()
            for key, tensor in alone.items():
                # Adam makes steps of the mere rounding of gradients that cancel, as those of biases before a norm do.
                least = 1e-9 if key.startswith("term") else 1e-7
                what = f"{name}, process {rank}: {key}"
                torch.testing.assert_close(here[key], tensor, rtol=1e-6, atol=least, msg=lambda m, w=what: f"{w}: {m}")
