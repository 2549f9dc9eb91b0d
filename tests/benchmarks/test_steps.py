"""What `make bench` compares is the same mathematics: the textbook's terms are diptych's, step by step."""

import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"
pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("method", "size"), [("cyclegan", 32), ("shukla", 32), ("pix2pix", 256)])
def test_the_terms_are_the_textbooks(method: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(torch.nn.functional, "dropout", lambda x, *_, **__: x)  # either side would draw its own
    for name in ("steps", "textbook"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import steps

    torch.set_default_dtype(torch.float64)  # in float32 rounding would decide signs of the first Adam step
    try:
        a, b = torch.rand(2, 1, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
        plain, networks = steps.textbook_step(method, torch.device("cpu"))
        ours = steps.diptych_step(method, size, 1, torch.device("cpu"), False, networks, "fp32")
        for _ in range(3):
            assert ours(a, b) == pytest.approx(plain(a, b), rel=1e-6)
    finally:
        torch.set_default_dtype(torch.float32)
