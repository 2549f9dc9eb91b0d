"""Several processes: how they meet, what they share, and what becomes of the others when one ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from conftest import Folders
from diptych.errors import DiptychError
from diptych.features import extract
from diptych.processes import Process, launched, shared_out
from several import free_port, start, together

MEETING = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


def test_without_a_launcher_there_is_one() -> None:
    assert launched({}) == Process(0, 1, 0)
    assert launched({"WORLD_SIZE": "1", "RANK": "0"}) == Process(0, 1, 0)


def test_a_process_is_told_which_it_is() -> None:
    assert launched({"WORLD_SIZE": "8", "RANK": "5", "LOCAL_RANK": "1", **MEETING}) == Process(5, 8, 1)
    assert launched({"WORLD_SIZE": "2", "RANK": "1", **MEETING}) == Process(1, 2, 1)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "OMPI_COMM_WORLD_SIZE is 4"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "WORLD_SIZE is 2, but MASTER_ADDR and MASTER_PORT"),
        ({"WORLD_SIZE": "2", **MEETING}, "RANK does not say"),
        ({"WORLD_SIZE": "2", "RANK": "2", **MEETING}, "RANK is 2 of 2"),
    ],
)
def test_processes_that_do_not_see_each_other_are_refused(environment: dict[str, str], words: str) -> None:
    with pytest.raises(DiptychError, match=words):
        launched(environment)


def test_one_process_does_all_in_order() -> None:
    told: list[tuple[int, int]] = []
    assert shared_out([3, 1, 2], lambda x: x * x, lambda done, total: told.append((done, total))) == [9, 1, 4]
    assert told == [(1, 3), (2, 3), (3, 3)]


SHARED_OUT = """
import sys
from diptych.processes import by_first, gathered, joined, shared_out
with joined("test") as here:
    done = []
    def work(x):
        done.append(x)
        return x * x
    print(shared_out(list(range(7)), work), done, gathered(here.rank), by_first(lambda: here.rank))
"""


def test_work_is_shared_out(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SHARED_OUT)
    squares = [0, 1, 4, 9, 16, 25, 36]
    said = [out for _, out, _ in together([str(script)], 3)]
    mine = ["[0, 3, 6]", "[1, 4]", "[2, 5]"]
    assert said == [f"{squares} {done} [0, 1, 2] 0\n" for done in mine]


EXTRACTED = """
import sys
from pathlib import Path
import numpy as np
from diptych import features
from diptych.processes import joined
features.BATCH = 2
files = sorted(Path(sys.argv[1]).iterdir())
out = Path(sys.argv[2])
with joined("test") as here:
    told = []
    cache = out / f"cache-{here.rank % 2}"
    found = features.extract("descriptor", files, cache=cache, progress=lambda *done: told.append(done))
    np.save(out / f"{here.rank}.npy", found)
    print(told)
"""


def test_features_are_those_of_one_process(folders: Folders, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(EXTRACTED)
    files = sorted(folders.photos.iterdir())
    alone = extract("descriptor", files, cache=tmp_path / "cache")
    extract("descriptor", files[3:6], cache=tmp_path / "cache-1")  # the second process, on another machine, knows some
    done = together([str(script), str(folders.photos), str(tmp_path)], 3)
    assert [out for _, out, _ in done] == ["[(6, 12), (12, 12)]\n"] * 3, done
    for rank in range(3):
        assert np.array_equal(np.load(tmp_path / f"{rank}.npy"), alone)
    told: list[tuple[int, int]] = []
    extract("descriptor", files, cache=tmp_path / "cache-0", progress=lambda *done: told.append(done))
    assert told == []  # nothing is left to compute


def recipe(folders: Folders, **changes: Any) -> dict[str, Any]:
    return {
        "method": "shukla",
        "a": str(folders.photos),
        "b": str(folders.labels),
        "b_classes": str(folders.classes),
        "val_a": str(folders.val_photos),
        "val_b": str(folders.val_labels),
        "size": "16x16",
        "batch_size": 1,
        "generator": "resnet",
        "blocks": 1,
        "ngf": 4,
        "judge": {"patch": 16},
        "pairs": "4",
        "pool_size": 2,
        "dropout": True,
        "steps": 12,
        "val_every": 4,
        "log_every": 2,
        "precision": "fp32",
        **changes,
    }


def write(tmp_path: Path, values: dict[str, Any], name: str = "recipe.yaml") -> str:
    file = tmp_path / name
    file.write_text(yaml.safe_dump(values))
    return str(file)


def train(tmp_path: Path, values: dict[str, Any], run: str) -> list[str]:
    return ["-m", "diptych", "train", "--recipe", write(tmp_path, values, f"{run}.yaml"), "--out", str(tmp_path / run)]


def torchrun(words: list[str], *flags: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *flags, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def ended(*agents: subprocess.Popen[str], seconds: float = 300) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of what torchrun has started; all of it is gone afterwards, whatever happens."""
    try:
        said = [agent.communicate(timeout=seconds) for agent in agents]
    finally:
        for agent in agents:
            if agent.poll() is None:
                os.killpg(agent.pid, signal.SIGTERM)  # torchrun ends its processes
    return [(agent.returncode, out, err) for agent, (out, err) in zip(agents, said, strict=True)]


def weights(run: Path) -> dict[str, torch.Tensor]:
    last = run / "checkpoints" / json.loads((run / "checkpoints.json").read_text())["last"]["name"]
    return {
        f"{file.relative_to(last)} {name}": tensor
        for file in sorted(last.rglob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def assert_same(one: Path, other: Path) -> None:
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []


@pytest.mark.slow
def test_different_commands_are_refused(folders: Folders, tmp_path: Path) -> None:
    words = train(tmp_path, recipe(folders), "run")
    script = tmp_path / "differs.py"
    script.write_text(
        "import os, sys\nfrom diptych.cli import main\n"
        f"sys.exit(main({words[2:]!r} + ['--seed', os.environ['RANK']]))\n"
    )
    done = together([str(script)], 2)
    assert [code for code, _, _ in done] == [2, 2]
    assert all("differ in their settings" in err for _, _, err in done)
    assert not (tmp_path / "run").exists()


def test_other_commands_are_refused(tmp_path: Path) -> None:
    done = together(["-m", "diptych", "demo", "--out", str(tmp_path / "demo")], 2)
    assert [code for code, _, _ in done] == [2, 2]
    assert "demo is the work of one process" in done[0][2]


@pytest.mark.slow
def test_a_wrong_flag_is_told_once(tmp_path: Path) -> None:
    for words in (["train", "shukla", "--sise", "3"], ["demo", "--out", str(tmp_path / "demo")]):
        ((code, out, err),) = ended(torchrun(["-m", "diptych", *words], "--nproc-per-node", "2"))
        assert code == 1
        assert err.count("diptych: error: ") == 1
    ((code, out, _),) = ended(torchrun(["-m", "diptych", "--version"], "--nproc-per-node", "2"))
    assert (code, out.count("diptych ")) == (0, 1)


@pytest.mark.slow
def test_a_mixed_batch_must_be_even(folders: Folders, tmp_path: Path) -> None:
    done = together(train(tmp_path, recipe(folders, rhythm="mixed", batch_size=3), "run"), 2)
    assert [code for code, _, _ in done] == [2, 2]
    assert [err.count("give an even number") for _, _, err in done] == [1, 0]


@pytest.mark.slow
def test_a_run_of_two_processes_stops_resumes_and_changes_their_number(folders: Folders, tmp_path: Path) -> None:
    whole = together(train(tmp_path, recipe(folders), "whole"), 2)
    assert [code for code, _, _ in whole] == [0, 0]
    assert whole[1][1] == ""  # the first alone speaks
    assert "Trained to step 12" in whole[0][1]
    own = {name.split()[0]: state for name, state in weights(tmp_path / "whole").items() if name.endswith("/torch_rng")}
    training = tmp_path / "whole" / "checkpoints" / "00000012" / "training"
    pools = [
        json.loads((training / f"{name}.json").read_text())["by_name"]["method"] for name in ("state", "process-1")
    ]
    assert pools[0] != pools[1]
    assert not torch.equal(own["training/state.safetensors"], own["training/process-1.safetensors"])
    assert len((tmp_path / "whole" / "log.jsonl").read_text().splitlines()) == 6 + 3  # terms and validations

    assert [code for code, _, _ in together(train(tmp_path, recipe(folders), "half"), 2)] == [0, 0]
    again = together(["-m", "diptych", "resume", str(tmp_path / "half"), "--from-step", "8"], 2)
    assert [code for code, _, _ in again] == [0, 0], again
    assert_same(tmp_path / "whole", tmp_path / "half")

    alone = together(["-m", "diptych", "resume", str(tmp_path / "half"), "--steps", "14"], 1)
    assert alone[0][0] == 0
    assert "the checkpoint is of 2 processes, now there are 1" in alone[0][2]
    three = together(["-m", "diptych", "resume", str(tmp_path / "half"), "--steps", "16"], 3)
    assert [code for code, _, _ in three] == [0, 0, 0]
    assert "the checkpoint is of 1 processes, now there are 3" in three[0][2]


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_at_the_same_step(folders: Folders, tmp_path: Path) -> None:
    values = recipe(folders, steps=60, val_every=60)
    assert [code for code, _, _ in together(train(tmp_path, values, "whole"), 2)] == [0, 0]
    processes = start(train(tmp_path, values, "stopped"), 2)
    wait_for(tmp_path / "stopped" / "log.jsonl")
    while not (tmp_path / "stopped" / "log.jsonl").read_text():
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGTERM)
    said = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [130, 130], said
    assert "Stopped and saved at step" in said[0][0]
    again = together(["-m", "diptych", "resume", str(tmp_path / "stopped")], 2)
    assert [code for code, _, _ in again] == [0, 0], again
    assert_same(tmp_path / "whole", tmp_path / "stopped")


def process_of_rank(rank: int, words: str) -> int:
    """The id of the process that torchrun has started as `rank` with `words` in its command line."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_text()
            environment = (path / "environ").read_text().split("\0")
        except OSError:
            continue
        if words in command and "torch.distributed" not in command and f"RANK={rank}" in environment:
            return int(path.name)
    raise AssertionError(f"no process of rank {rank} runs {words}")


def wait_for(path: Path, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"{path} never came"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_a_killed_process_ends_the_others_and_torchrun_goes_on(folders: Folders, tmp_path: Path) -> None:
    values = recipe(folders, steps=60, val_every=10)
    whole = together(train(tmp_path, values, "whole"), 2)
    assert [code for code, _, _ in whole] == [0, 0]

    agent = torchrun(train(tmp_path, values, "killed"), "--nproc-per-node", "2", "--max-restarts", "1")
    kill_after(tmp_path / "killed", 10, rank=1)
    ((code, _, said),) = ended(agent)
    assert code == 0, said
    assert "another one has ended or cannot be reached" in said
    assert "diptych resume" in said
    assert len(json.loads((tmp_path / "killed" / "run.json").read_text())["resumed"]) == 1
    assert_same(tmp_path / "whole", tmp_path / "killed")

    # What a resumption was asked to change is changed once, and a launch goes on with no run but its own.
    words = ["-m", "diptych", "resume", str(tmp_path / "killed"), "--from-step", "50", "--lr-scale", "0.5"]
    agent = torchrun([*words, "--steps", "100"], "--nproc-per-node", "2", "--max-restarts", "1")
    kill_after(tmp_path / "killed", 80, rank=0)
    ((code, _, said),) = ended(agent)
    assert code == 0, said
    assert yaml.safe_load((tmp_path / "killed" / "experiment.yaml").read_text())["optim"]["lr"] == 1e-4
    resumed = json.loads((tmp_path / "killed" / "run.json").read_text())["resumed"]
    assert [entry["step"] == 50 for entry in resumed] == [False, True, False]
    other = recipe(folders, method="cyclegan", pairs=None, seed=7)
    words = [*train(tmp_path, other, "other")[:-1], str(tmp_path / "killed")]
    ((code, _, said),) = ended(torchrun(words, "--nproc-per-node", "2", "--max-restarts", "1"))
    assert code == 1
    assert "holds a run already" in said
    assert "Trained" not in said
    assert len(json.loads((tmp_path / "killed" / "run.json").read_text())["resumed"]) == 3


def kill_after(run: Path, step: int, rank: int) -> None:
    wait_for(run / "checkpoints" / f"{step:08d}")
    os.kill(process_of_rank(rank, str(run)), signal.SIGKILL)


@pytest.mark.slow
def test_two_machines_go_on_after_a_kill(folders: Folders, tmp_path: Path) -> None:
    values = recipe(folders, steps=60, val_every=10)
    whole = together(train(tmp_path, values, "whole"), 2)
    assert [code for code, _, _ in whole] == [0, 0]
    flags = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", tmp_path.name]
    flags = [*flags, "--rdzv-endpoint", f"127.0.0.1:{free_port()}", "--max-restarts", "1"]
    agents = [torchrun(train(tmp_path, values, "machines"), *flags) for _ in range(2)]
    kill_after(tmp_path / "machines", 10, rank=1)
    done = ended(*agents)
    assert [code for code, _, _ in done] == [0, 0], done
    assert_same(tmp_path / "whole", tmp_path / "machines")


@pytest.mark.slow
def test_scores_translations_and_choices_are_those_of_one_process(
    trained: Path, folders: Folders, tmp_path: Path
) -> None:
    sides = ["--a", str(folders.val_photos), "--b", str(folders.val_labels)]
    found = {}
    for count in (1, 3):
        out = tmp_path / f"scores-{count}"
        words = ["-m", "diptych", "evaluate", str(trained), *sides, "--extractor", "descriptor", "--out", str(out)]
        cache = str(tmp_path / f"cache-{count}")
        done = together(words, count, DIPTYCH_CACHE=cache)
        assert [code for code, _, _ in done] == [0] * count, done
        assert [bool(text) for _, text, _ in done] == [True] + [False] * (count - 1)
        found[count] = (out / "metrics.json").read_text(), sorted(p.name for p in out.rglob("*"))
        pictures = tmp_path / f"pictures-{count}"
        words = ["-m", "diptych", "translate", str(trained), str(folders.val_photos), "--out", str(pictures)]
        assert [code for code, _, _ in together(words, count)] == [0] * count
        chosen = tmp_path / f"chosen-{count}"
        words = ["-m", "diptych", "select", str(folders.photos), "--budget", "4", "--features", "descriptor"]
        done = together([*words, "--out", str(chosen)], count, DIPTYCH_CACHE=cache)
        assert [code for code, _, _ in done] == [0] * count, done
        files = [*pictures.iterdir(), *chosen.iterdir()]
        found[count] += ({path.name: path.read_bytes() for path in files},)
    assert found[3] == found[1]
