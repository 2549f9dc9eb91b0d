"""All that changes while a run goes on, listed once: what a checkpoint must hold to continue as if never stopped.

Batches are a function of the step and need no state. Tensors go into a safetensors file, all else into JSON beside it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.errors import DiptychError, reason
from diptych.files import write_json, write_tensors
from diptych.methods.base import Method, Phase
from diptych.processes import this_process
from diptych.reading import read_json, sha256
from diptych.saved import SavedTranslator, read_record
from diptych.training.health import Health
from diptych.translator import WEIGHTS
from diptych.weights import UNREADABLE, check_fit, read_checked, tensors_in

Optimisers = dict[Phase, torch.optim.Adam]
Sums = dict[str, list[float]]
"""The values of each term since the last line of the log."""


STATE = "state"  # of the first process, with all that is common
OWN_STATE = "process-{rank}"  # of each of the others


def save_training(folder: Path, step: int, method: Method, optimisers: Optimisers, health: Health, sums: Sums) -> None:
    """Write the state after `step` steps into the checkpoint `folder`, beside the generators that stand there already:
    judges, optimisers, pools, the random generators of torch, the signs of collapse, and the terms summed since the
    last line of the log."""
    state: dict[str, Any] = {
        "step": step,
        "judges": {name: net.state_dict() for name, net in method.networks.items() if name.startswith("judge")},
        "optimisers": {phase: optimiser.state_dict() for phase, optimiser in optimisers.items()},
        "health": health.state_dict(),
        "sums": dict(sums),
        **_own_state(method),
    }
    _write_state(folder / "training", STATE, state)


def save_process(folder: Path, method: Method) -> None:
    """Write what this process remembers and the first does not: its pools and its random generators."""
    _write_state(folder / "training", OWN_STATE.format(rank=this_process().rank), _own_state(method))


def _own_state(method: Method) -> dict[str, Any]:
    """Of each process: pools, and the random generators of torch."""
    state: dict[str, Any] = {"method": method.state_dict(), "torch_rng": torch.get_rng_state()}
    device = _device(method)
    if device.type != "cpu":
        state["device_rng"] = torch.get_device_module(device).get_rng_state()
    return state


def _write_state(folder: Path, name: str, state: Mapping[str, Any]) -> None:
    tensors: dict[str, Tensor] = {}
    tree = _take_out_tensors(dict(state), "", tensors)
    write_tensors(folder / f"{name}.safetensors", tensors)
    write_json(folder / f"{name}.json", {"sha256": sha256(folder / f"{name}.safetensors"), **tree})


def _read_state(folder: Path, name: str) -> dict[str, Any]:
    tree = read_json(folder / f"{name}.json")
    tensors = _checked_tensors(folder / f"{name}.safetensors", tree.get("sha256"))
    state: dict[str, Any] = _put_back_tensors(tree, tensors)
    return state


def processes_of(folder: Path) -> int:
    """How many processes wrote the checkpoint `folder`."""
    return 1 + len(list((folder / "training").glob(OWN_STATE.format(rank="*") + ".json")))


def load_training(folder: Path, method: Method, optimisers: Optimisers, health: Health) -> tuple[int, Sums]:
    """Restore the checkpoint `folder` into the other three; return the step and the terms summed so far.

    A process that had no part in it keeps its own pools and random generators as they are.

    Raises `DiptychError` where the files are damaged or do not fit.
    """
    device = _device(method)
    try:
        state = _read_state(folder / "training", STATE)
        translator = read_record(folder / "translator.json", SavedTranslator)
        for name, network in method.networks.items():
            if name.startswith("judge"):
                weights, where = state["judges"][name], f"the judge {name}"
            else:
                where = f"{name}/{WEIGHTS}"
                weights = _checked_tensors(folder / where, translator.digest(where))
            check_fit(network, weights, where)
            network.load_state_dict(weights)
        for phase, optimiser in optimisers.items():
            _load_optimiser(optimiser, state["optimisers"][phase]["state"], phase)
        rank = this_process().rank
        if rank < processes_of(folder):
            own = state if rank == 0 else _read_state(folder / "training", OWN_STATE.format(rank=rank))
            _load_own_state(own, method, device)
        health.load_state_dict(state.get("health", Health().state_dict()), device)  # earlier versions watched for none
        return int(state["step"]), {name: list(values) for name, values in state["sums"].items()}
    except (DiptychError, *UNREADABLE) as problem:
        raise DiptychError(f"{folder}: cannot be resumed from ({reason(problem)})") from None


def _load_own_state(state: Mapping[str, Any], method: Method, device: torch.device) -> None:
    method.load_state_dict(state["method"], device)
    torch.set_rng_state(state["torch_rng"])
    if device.type != "cpu" and "device_rng" in state:
        torch.get_device_module(device).set_rng_state(state["device_rng"])


def _checked_tensors(path: Path, digest: str | None) -> dict[str, Tensor]:
    return tensors_in(read_checked(path, digest), path)


def _load_optimiser(optimiser: torch.optim.Adam, moments: dict[int, dict[str, Tensor]], phase: str) -> None:
    """Restore what Adam remembers of each parameter; its rates and betas are those of the settings.

    Raises `DiptychError` where that is of other shapes than the parameter.
    """
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    for place, moment in moments.items():
        shapes = {name: tuple(tensor.shape) for name, tensor in moment.items()}
        there = tuple(parameters[place].shape) if 0 <= place < len(parameters) else None
        if shapes != {"step": (), "exp_avg": there, "exp_avg_sq": there}:
            raise DiptychError(
                f"the optimiser of the {phase} remembers {shapes} of parameter {place}, which is {there}"
            )
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
    for parameter, state in optimiser.state.items():
        for name in ("exp_avg", "exp_avg_sq"):
            # torch's fused Adam goes through memory number by number: another layout would mix them up, unnoticed.
            state[name] = torch.empty_like(parameter).copy_(state[name])


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
