"""All that changes while a run goes on, listed once: what a checkpoint must hold to continue as if never stopped.

Batches are a function of the step and need no state. Tensors go into a safetensors file, all else into JSON beside it.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from diptych.errors import DiptychError
from diptych.files import write_json
from diptych.methods.base import Method, Phase

Optimisers = dict[Phase, torch.optim.Adam]
Sums = dict[str, list[float]]
"""The values of each term since the last line of the log."""


def save_training(folder: Path, step: int, method: Method, optimisers: Optimisers, sums: Sums) -> None:
    """Write the state after `step` steps into the checkpoint `folder`, beside the generators that stand there already:
    judges, optimisers, pools, the random generators of torch, and the terms summed since the last line of the log."""
    state: dict[str, Any] = {
        "step": step,
        "judges": {name: net.state_dict() for name, net in method.networks.items() if name.startswith("judge")},
        "optimisers": {phase: optimiser.state_dict() for phase, optimiser in optimisers.items()},
        "method": method.state_dict(),
        "sums": dict(sums),
        "torch_rng": torch.get_rng_state(),
    }
    device = _device(method)
    if device.type != "cpu":
        state["device_rng"] = torch.get_device_module(device).get_rng_state()
    tensors: dict[str, Tensor] = {}
    tree = _take_out_tensors(state, "", tensors)
    (folder / "training").mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "training" / "state.safetensors")
    write_json(folder / "training" / "state.json", tree)


def load_training(folder: Path, method: Method, optimisers: Optimisers) -> tuple[int, Sums]:
    """Restore the checkpoint `folder` into `method` and `optimisers`; return the step and the terms summed so far.

    Raises `DiptychError` where the files are damaged or do not fit.
    """
    device = _device(method)
    try:
        tensors = load_file(folder / "training" / "state.safetensors")
        state = _put_back_tensors(json.loads((folder / "training" / "state.json").read_text()), tensors)
        for name, network in method.networks.items():
            if name in state["judges"]:
                network.load_state_dict(state["judges"][name])
            else:
                network.load_state_dict(load_file(folder / name / "model.safetensors"))
        for phase, optimiser in optimisers.items():
            optimiser.load_state_dict(state["optimisers"][phase])
        method.load_state_dict(state["method"], device)
        torch.set_rng_state(state["torch_rng"])
        if device.type != "cpu" and "device_rng" in state:
            torch.get_device_module(device).set_rng_state(state["device_rng"])
        return int(state["step"]), {name: list(values) for name, values in state["sums"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as problem:
        why = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise DiptychError(f"{folder}: cannot be resumed from ({why}); start again with diptych train") from None


def _device(method: Method) -> torch.device:
    return next(parameter.device for network in method.networks.values() for parameter in network.parameters())


def _take_out_tensors(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON, its tensors replaced by their names in `tensors`; integer keys are marked, as JSON has none."""
    if isinstance(value, Tensor):
        tensors[path] = value.detach().cpu().contiguous()
        return {"tensor": path}
    if isinstance(value, dict):
        entries = {str(key): _take_out_tensors(item, f"{path}/{key}", tensors) for key, item in value.items()}
        return {"by_number" if any(isinstance(key, int) for key in value) else "by_name": entries}
    if isinstance(value, (list, tuple)):
        return [_take_out_tensors(item, f"{path}/{place}", tensors) for place, item in enumerate(value)]
    return value


def _put_back_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_put_back_tensors(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "by_number" in value:
        return {int(key): _put_back_tensors(item, tensors) for key, item in value["by_number"].items()}
    return {key: _put_back_tensors(item, tensors) for key, item in value["by_name"].items()}
