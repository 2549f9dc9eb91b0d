"""Several batches through one network."""

import pytest
import torch
from torch import Tensor, nn

from diptych.networks import PatchJudge
from diptych.networks.layers import mixes_rows, together

ONE, OTHER = torch.randn(2, 3, 24, 24), torch.randn(3, 3, 24, 24)


def calls_of(network: nn.Module) -> list[int]:
    """The rows of every later call, as they come."""
    rows: list[int] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        del module
        rows.append(len(inputs[0]))

    network.register_forward_pre_hook(note)
    return rows


@pytest.mark.parametrize(
    ("norm", "training", "calls"),
    [("instance", True, [5]), ("instance", False, [5]), ("batch", True, [2, 3]), ("batch", False, [5])],
)
def test_one_call_unless_a_row_depends_on_the_others(norm: str, training: bool, calls: list[int]) -> None:
    network = PatchJudge(patch=16, ndf=4, norm=norm).train(training)  # type: ignore[arg-type]
    with torch.no_grad():
        expected = [network(ONE), network(OTHER)]
        rows = calls_of(network)
        answers = together(network, ONE, OTHER)
    assert rows == calls
    assert mixes_rows(network) == (len(calls) == 2)
    for ours, theirs in zip(answers, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
