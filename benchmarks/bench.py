"""`make bench`: how fast diptych is, as ratios against plain code in the same process; see README.md beside this file.

Prints a table with the machine's description and writes it as JSON. No figure is asserted: machines differ, and are
noisy.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

import feeding
import many
import memory
import selection
import steps
import translation
from diptych.build import device_named
from diptych.precision import precision_on
from diptych.training.compiling import why_not


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures were taken on."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "as shipped": precision_on(device, "auto"),
        "TF32": torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32
        if device.type == "cuda"
        else None,
        "compiler": "there" if why_not(device) is None else "none, so that nothing is compiled",
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def help_row() -> dict[str, Any]:
    """`diptych --help` as a whole process, and whether torch was imported."""
    script = "import sys; from diptych.cli import main; main(['--help']); print('torch' in sys.modules)"
    seconds = []
    for _ in range(7):
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        seconds.append(time.perf_counter() - began)
    return {
        "work": "diptych --help",
        "goal": None,
        "seconds": {"whole process": statistics.median(seconds)},
        "imports torch": "True" in done.stdout.splitlines()[-1:],
    }


def selection_rows(quick: bool) -> Iterator[dict[str, Any]]:
    """The choice of images by k-medoids; the goal is one of seconds and memory, so there is no ratio."""
    for found in selection.rows(quick):
        how = {"full": ", every row through scikit-learn", "faiss": ", by faiss"}.get(found["by"], "")
        how += f", seed {found['seed']}" if found["seed"] else ""
        how += f", {found['given']} given" if found["given"] else ""
        how += f", {found['memmap']} in a file" if found["memmap"] else ""
        yield {
            "work": f"{found['budget']} of {found['rows']:,} x {found['width']} features, {found['kind']}{how}",
            "goal": None,
            "seconds": {"choice": found["seconds"]},
            "mib": {"features": found["features_mib"], "peak": found["peak_mib"]},
            "cost": found["cost"],
        }


def shown(row: dict[str, Any]) -> str:
    """A row as a line of the table."""
    goal = "" if row.get("goal") is None else f"{row['goal']:g}x"
    ratio = f"{row['ratio']:.2f}x" if "ratio" in row else ""
    parts = [f"{name} {value:.4g} s" for name, value in row.get("seconds", {}).items()]
    parts += [f"{name} {value:,.0f} MiB" for name, value in row.get("mib", {}).items()]
    parts += [f"{name.removeprefix('ratio ')} {value:.2f}x" for name, value in row.items() if name.startswith("ratio ")]
    parts += [
        f"{name}: {row[name]}"
        for name in row
        if name not in ("work", "goal", "ratio", "seconds", "mib") and not name.startswith("ratio ")
    ]
    return f"| {row['work']} | {goal} | {ratio} | {', '.join(parts)} |"


def main() -> None:
    """Measure, print each line as soon as it is known, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer configurations and rounds, under three minutes")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results.json"), help="the JSON")
    parser.add_argument("--device", default="cpu", help="for the training steps: cpu or cuda")
    options = parser.parse_args()
    device, quick = device_named(options.device), options.quick
    record: dict[str, Any] = {"machine": machine(device), "rows": []}
    print("\n".join(f"{name}: {value}" for name, value in record["machine"].items() if value is not None))
    print("\n| work | goal | ratio | |\n|---|---|---|---|", flush=True)
    quickest = 0.0

    def batches() -> list[dict[str, Any]]:
        return [feeding.batches_row(quickest)]

    parts: list[Callable[[], Iterable[dict[str, Any]]]] = [
        lambda: [help_row()],
        lambda: steps.rows(quick, device),
        batches,
        lambda: memory.rows(quick),
        lambda: translation.rows(quick),
        lambda: [feeding.features_row(quick)],
        lambda: selection_rows(quick),
        lambda: many.rows(quick),
    ]
    for part in parts:
        for row in part():
            record["rows"].append(row)
            if row["work"].startswith("pix2pix"):
                quickest = row["seconds"]["as shipped"]  # the quickest step at 256 px
            print(shown(row), flush=True)
    options.out.write_text(json.dumps(record, indent=2) + "\n")
    print(f"\nWritten to {options.out}")


if __name__ == "__main__":
    main()
