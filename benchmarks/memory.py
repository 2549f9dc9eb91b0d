"""Peak memory of a Shukla step: the process's own peak less what it held before the networks were made.

Each way runs in a process of its own, three steps of 256 px and batch 1, since memory that was freed is not given back.
Run by itself, with a way and a size, it is that process.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

WAYS = ("textbook", "as shipped", "compiled")


def peak_mib() -> float:
    """Of this program alone: what getrusage says may be of the process that it was forked from."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def one(way: str, size: int) -> float:
    """MiB that three steps take in this process. Linux only."""
    import torch

    from diptych.training.compiling import why_not
    from steps import diptych_step, textbook_step

    device = torch.device("cpu")
    if way == "compiled":
        why_not(device)  # the compiler itself is loaded before anything is counted
    a, b = torch.rand(2, 1, 3, size, size) * 2 - 1
    before = peak_mib()
    step, networks = textbook_step("shukla", device)
    if way != "textbook":
        step = diptych_step("shukla", size, 1, device, way == "compiled", networks)
        networks.clear()
    for _ in range(3):
        step(a, b)
    return peak_mib() - before


def rows(quick: bool) -> list[dict[str, Any]]:
    """One line: MiB of each way, and the textbook's over the shipped one's."""
    size = 128 if quick else 256
    mib = {}
    for way in WAYS[:2] if quick else WAYS:
        done = subprocess.run(
            [sys.executable, __file__, way, str(size)],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent,
        )
        mib[way] = float(json.loads(done.stdout.splitlines()[-1]))
    ratio = mib["textbook"] / mib["as shipped"]
    return [
        {
            "work": f"memory of a shukla step, {size} px, batch 1",
            "goal": 1.0,
            "mib": mib,
            "ratio": ratio,
            **({} if quick else {"ratio compiled": mib["textbook"] / mib["compiled"]}),
        }
    ]


if __name__ == "__main__":
    print(json.dumps(one(sys.argv[1], int(sys.argv[2]))))
