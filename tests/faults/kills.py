"""Kills trainings with SIGKILL at random instants, resumes them to the end, and compares with the run never killed.

    python tests/faults/kills.py --kills 200

Every training is a process of its own, forked from this one, which has imported everything and computed nothing: the
seconds that a start takes would otherwise be most of what is killed. Half of the kills come at an instant drawn
uniformly over the time the command takes, the others while a file or folder is half written.
"""

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

STEPS = 12
TOLERANCE = 1e-5  # of any number, relative to the largest of its tensor, on several threads; on one it is 0
CASES = {
    "shukla": ["--pairs", "2", "--generator", "resnet", "--blocks", "1", "--judge.patch", "16", "--pool-size", "2"],
    "cyclegan": ["--generator", "resnet", "--blocks", "1", "--judge.patch", "16", "--pool-size", "2"],
    "tripathy": [
        *("--pairs", "2", "--generator", "resnet", "--blocks", "1", "--judge.patch", "16", "--pool-size", "2"),
        *("--paired-steps", "5"),
    ],
    "pix2pix": [
        *("--pairs", "4", "--generator", "unet", "--depth", "3", "--judge.patch", "16", "--norm", "batch"),
        *("--dropout", "True", "--batch-size", "2"),
    ],
}
"""Every method with pools has full ones; pix2pix draws dropout masks and keeps statistics of batches."""


def make_data(folder: Path) -> None:
    """Scenes to learn from and to validate on."""
    from diptych.scenes import write_scenes

    write_scenes(folder / "train", 6, seed=0, size=(48, 40))
    write_scenes(folder / "val", 2, seed=1, size=(48, 40))


def words(method: str, data: Path, out: Path) -> list[str]:
    """The training: a checkpoint every third step, a line every second."""
    return [
        *("train", method, "--a", str(data / "train/photos"), "--b", str(data / "train/labels")),
        *("--b-classes", str(data / "train/classes.csv")),
        *("--val-a", str(data / "val/photos"), "--val-b", str(data / "val/labels")),
        *("--size", "32x32", "--ngf", "4", "--steps", str(STEPS), "--precision", "fp32", "--device", "cpu"),
        *("--val-every", "3", "--log-every", "2", "--keep", "2", "--out", str(out), *CASES[method]),
    ]


def start(command: list[str], said: Path) -> int:
    """Run `diptych COMMAND` in a forked process; its id."""
    process = os.fork()
    if process == 0:
        in_child(command, said)
    return process


def in_child(command: list[str], said: Path) -> NoReturn:
    """Run `diptych COMMAND`, which speaks into the file `said`, and end this process with its exit code."""
    from diptych.cli import main

    handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    code = 1
    try:
        code = main(command)
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended(process: int) -> int | None:
    """The exit code of a process that has ended, below 0 for a signal; None while it runs."""
    found, status = os.waitpid(process, os.WNOHANG)
    return None if found == 0 else os.waitstatus_to_exitcode(status)


def import_everything(threads: int = 1) -> None:
    """What every process needs, once, before the first is forked; nothing is computed."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    for name in (
        *("diptych.cli", "diptych.build", "diptych.commands", "diptych.report"),
        "torch.utils.tensorboard.summary",
        *("tensorboard.backend.event_processing.event_accumulator",),
    ):
        importlib.import_module(name)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a script it may be ignored


def run_whole(command: list[str], said: Path) -> float:
    """Run a command to its end; the seconds it took."""
    began = time.monotonic()
    process = start(command, said)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if code != 0:
        raise SystemExit(f"{' '.join(command)} ended with {code}:\n{said.read_text()}")
    return time.monotonic() - began


def kill_at_any_time(process: int, run: Path, seconds: float, rng: random.Random) -> int | None:
    """Wait for an instant within `seconds`; the exit code where the process ended before."""
    deadline = time.monotonic() + rng.uniform(0, seconds)
    while time.monotonic() < deadline:
        if (code := ended(process)) is not None:
            return code
        time.sleep(0.0005)
    return None


def kill_in_a_save(process: int, run: Path, seconds: float, rng: random.Random) -> int | None:
    """Wait for one of the next files or folders that are being written, and a moment more."""
    left, seen = rng.randint(1, 12), set[Path]()
    while left:
        if (code := ended(process)) is not None:
            return code
        parts = half_written(run) - seen
        seen |= parts
        left = max(0, left - len(parts))
    time.sleep(rng.choice([0, rng.uniform(0, 0.03)]))
    return ended(process)


AIMS: tuple[Callable[[int, Path, float, random.Random], int | None], ...] = (kill_at_any_time, kill_in_a_save)


def half_written(run: Path) -> set[Path]:
    """What is half written now; folders may vanish meanwhile."""
    found = set()
    for folder in (run, run / "checkpoints", run / "previews", run / "tensorboard"):
        try:
            found |= {Path(entry.path) for entry in os.scandir(folder) if entry.name.startswith(".part-")}
        except FileNotFoundError:
            continue
    return found


def state_after(run: Path) -> str:
    """In the middle of what the kill came, as far as the folder tells."""
    if not (run / "run.json").exists():
        return "before run.json"
    parts = half_written(run)
    if any(part.parent.name == "checkpoints" for part in parts):
        return "inside a checkpoint"
    if parts:
        return "inside another file"
    log = run / "log.jsonl"
    if log.exists() and (text := log.read_bytes()) and not text.endswith(b"\n"):
        return "inside a line of the log"
    index = run / "checkpoints.json"
    last = json.loads(index.read_text())["last"]["step"] if index.exists() else 0
    if any(int(path.name) > last for path in run.glob("checkpoints/[0-9]*")):
        return "between checkpoint and checkpoints.json"
    return "between saves" if last < STEPS else "after the last checkpoint"


def tensors(run: Path) -> dict[str, Any]:
    """Every tensor of the last checkpoint."""
    from safetensors.torch import load_file

    last = run / "checkpoints" / json.loads((run / "checkpoints.json").read_text())["last"]["name"]
    files = sorted(last.rglob("*.safetensors"))
    return {f"{file.parent.name}/{name}": tensor for file in files for name, tensor in load_file(file).items()}


def curves(run: Path) -> dict[str, Any]:
    """What TensorBoard reads: every point of every curve, and the steps of the previews; once by its own accumulator,
    once as the events lie in the file."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    board = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    board.Reload()
    tags = board.Tags()
    found = {name: [(point.step, point.value) for point in board.Scalars(name)] for name in tags["scalars"]}
    raw = [
        (event.step, value.tag)
        for file in sorted((run / "tensorboard").iterdir())
        for event in LegacyEventFileLoader(str(file)).Load()
        for value in event.summary.value
    ]
    images = {name: [picture.step for picture in board.Images(name)] for name in tags["images"]}
    return {"accumulated": found, "images": images, "raw": raw}


def lines(run: Path) -> list[dict[str, Any]]:
    """The log without what the clock says."""
    found = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in line if key not in ("seconds", "images_per_second")} for line in found]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def differences(whole: Path, killed: Path, *, exact: bool = True) -> list[str]:
    """What differs between the two runs; without `exact`, only what does not come of arithmetic is compared."""
    found = []

    def compare(what: str, read: Callable[[Path], Any]) -> None:
        if read(whole) != read(killed):
            found.append(what)

    def board_without_values(run: Path) -> Any:
        board = curves(run)
        return {**board, "accumulated": {name: [s for s, _ in points] for name, points in board["accumulated"].items()}}

    if exact:
        compare("checkpoints", lambda run: files(run / "checkpoints"))
        compare("checkpoints.json", lambda run: (run / "checkpoints.json").read_bytes())
        compare("log.jsonl", lines)
        compare("TensorBoard", curves)
        compare("previews", lambda run: files(run / "previews"))
    else:
        compare("log.jsonl", lambda run: [line["step"] for line in lines(run)])
        compare("TensorBoard", board_without_values)
        compare("previews", lambda run: sorted(files(run / "previews")))
    compare("data.json", lambda run: (run / "data.json").read_bytes())
    compare("names", lambda run: sorted(path.name for path in run.iterdir()))
    if left := [path.name for path in killed.rglob(".part-*")]:
        found.append(f"{left} is left")
    return found


def largest_difference(whole: Path, killed: Path) -> float:
    """Between all floating numbers of the last checkpoints, relative to the largest number of each tensor."""
    one, two = tensors(whole), tensors(killed)
    shares = [
        ((one[name] - two[name]).abs().max() / one[name].abs().max().clamp(min=1e-12)).item()
        for name in one
        if one[name].is_floating_point()
    ]
    return max(shares)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    import_everything(options.threads)
    rng = random.Random(options.seed)
    root = Path(tempfile.mkdtemp(prefix="diptych-kills-"))
    make_data(root / "data")
    said = root / "said.txt"
    seconds = {name: run_whole(words(name, root / "data", root / "whole" / name), said) for name in CASES}
    print(f"never killed: {', '.join(f'{name} {took:.1f} s' for name, took in seconds.items())}", flush=True)

    kills, runs, wrong, worst = Counter[str](), Counter[str](), list[str](), 0.0
    while kills.total() < options.kills or runs.total() % len(CASES):
        method = list(CASES)[runs.total() % len(CASES)]
        run = root / "killed" / method
        shutil.rmtree(run, ignore_errors=True)
        mine = 0
        while True:
            fresh = not (run / "run.json").exists()
            process = start(words(method, root / "data", run) if fresh else ["resume", str(run)], said)
            enough = kills.total() >= options.kills
            code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) if enough else None
            if code is None:
                code = rng.choice(AIMS)(process, run, seconds[method], rng)
            if code is None:
                os.kill(process, signal.SIGKILL)
                code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            if code == -signal.SIGKILL:
                kills[state_after(run)] += 1
                mine += 1
                continue
            if code == 0 or (code == 2 and "has finished its" in said.read_text().splitlines()[-1]):
                break
            wrong.append(f"{method}: ended with {code}: {said.read_text().splitlines()[-1]}")
            break
        runs[method] += 1
        found = differences(root / "whole" / method, run, exact=options.threads == 1)
        worst = max(worst, largest_difference(root / "whole" / method, run))
        if worst > TOLERANCE:
            found.append(f"weights ({worst:g})")
        if found:
            wrong.append(f"{method}, killed {mine} times: {', '.join(found)} differ")
            shutil.copytree(run, root / "wrong" / f"{len(wrong)}-{method}")
        print(f"{kills.total()} kills: {method} killed {mine} times, {found or 'the same'}", flush=True)

    print(f"{kills.total()} kills, {runs.total()} runs resumed to the end: {dict(runs)}")
    for state, count in kills.most_common():
        print(f"  {count:4d} {state}")
    print(f"largest relative difference of any number in the last checkpoint: {worst:g}")
    for line in wrong:
        print(f"WRONG {line}")
    if wrong:
        print(f"Look at {root}")
        return 1
    shutil.rmtree(root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
