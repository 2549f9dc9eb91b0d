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


def save_training(folder: Path, step: int, method: Method, optimisers: Optimisers) -> None:
    """Write the state after `step` steps: judges, optimisers, pools and the random generators of torch."""
    state: dict[str, Any] = {
        "step": step,
        "networks": {name: network.state_dict() for name, network in method.networks.items()},
        "optimisers": {phase: optimiser.state_dict() for phase, optimiser in optimisers.items()},
        "method": method.state_dict(),
        "torch_rng": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda_rng"] = torch.cuda.get_rng_state()
    tensors: dict[str, Tensor] = {}
    tree = _take_out_tensors(state, "", tensors)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "state.safetensors")
    write_json(folder / "state.json", tree)


def load_training(folder: Path, method: Method, optimisers: Optimisers, device: torch.device) -> int:
    """Restore what `save_training` wrote into `method` and `optimisers`; return the step.

    Raises `DiptychError` where the files are damaged or do not fit.
    """
    try:
        tensors = load_file(folder / "state.safetensors")
        state = _put_back_tensors(json.loads((folder / "state.json").read_text()), tensors)
        for name, network in method.networks.items():
            network.load_state_dict(state["networks"][name])
        for phase, optimiser in optimisers.items():
            optimiser.load_state_dict(state["optimisers"][phase])
        method.load_state_dict(state["method"], device)
        torch.set_rng_state(state["torch_rng"])
        if device.type == "cuda" and "cuda_rng" in state:
            torch.cuda.set_rng_state(state["cuda_rng"])
        return int(state["step"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as problem:
        why = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise DiptychError(f"{folder}: cannot be resumed from ({why})") from None


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
