"""P processes with B rows each do what one does with P B rows: the same terms, gradients and weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from conftest import CLASSES, make_folders, palette_image
from several import CASES, SMALL, five_steps, together

SCRIPT = str(Path(__file__).parents[1] / "several.py")


def folders_with_void(root: Path) -> Path:
    """16 scenes, of each of which another share is void; none is of one colour, whose norm would amplify rounding."""
    folders = make_folders(root, count=16)
    for rows, file in enumerate(sorted(folders.labels.iterdir()), start=1):
        ids = np.array(Image.open(file))
        ids[:rows] = CLASSES["void"][0]
        palette_image(ids).save(file)
    return folders.root


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_five_steps_are_those_of_one_process(count: int, tmp_path: Path) -> None:
    folders = folders_with_void(tmp_path / "images")
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
