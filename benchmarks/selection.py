"""How long the choice of images by k-medoids takes, how much memory, and how good it is, on made-up features.

    python benchmarks/selection.py                                    every row, about ten minutes
    python benchmarks/selection.py --quick                            small ones, about half a minute
    python benchmarks/selection.py --rows 100000 --width 2048 --budget 200 --kind gaussian --seed 0

Each row is a process of its own. It makes the features a thousand rows at a time, or opens them as a memory-mapped file
that another process wrote; then it takes the time of one choice, which includes the import of scikit-learn; then it
reads its own peak memory, before it works out the cost. The peak is that of the whole process (`VmHWM`, Linux):
the interpreter and the features too, and those pages of the mapped file that were in memory. `peak_ratio` divides it by
the features' own size. `cost` is the sum over all rows of the distance to the nearest chosen one.

Kinds of features: `clustered`, 500 overlapping clusters that differ in 32 dimensions, with a little noise in all;
`gaussian`, one round cloud, nothing to be found; `skewed`, half of the rows in one of the 500 clusters; `unequal`, the
k-th of the 500 in proportion to 1 / k; `tight`, half of the rows almost equal, like blank pictures, and so one cluster
whatever the budget.

By `full` all rows go through scikit-learn's k-means, `restarts` times, and each medoid is exact: the reference of cost.
`faiss` is the choice with `--kmeans faiss`.
Give the processor to it alone, and do not compare times of different machines. `elsewhere` is the processor time, in
seconds, that all other processes took meanwhile (`/proc/stat`): a row where it is more than a tenth of `seconds` was
disturbed, and is to be taken again.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory import peak_mib

KINDS = ("clustered", "gaussian", "skewed", "tight", "unequal")
BATCH = 1_000  # rows that are made at a time


def batches(kind: str, rows: int, width: int, seed: int) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    rng = np.random.default_rng(seed)
    clusters = 0.6 * rng.standard_normal((500, 32), dtype=np.float32)  # neighbours are about 5 deviations apart
    basis = rng.standard_normal((32, width), dtype=np.float32) / np.float32(np.sqrt(width))
    for start in range(0, rows, BATCH):
        size = min(BATCH, rows - start)
        noise = rng.standard_normal((size, width), dtype=np.float32)
        if kind == "gaussian":
            yield slice(start, start + size), noise
            continue
        if kind == "unequal":
            shares = 1 / np.arange(1, 501)
            cluster = rng.choice(500, size, p=shares / shares.sum())
        else:
            cluster = rng.integers(500, size=size)
        within = rng.standard_normal((size, 32), dtype=np.float32)
        half = rng.random(size) < 0.5
        if kind in ("skewed", "tight"):
            cluster[half] = 0
        if kind == "tight":
            within[half] *= 0.01
            noise[half] *= 0.01
        noise *= np.float32(0.1 * np.sqrt(32 / width))
        noise += (clusters[cluster] + within) @ basis
        yield slice(start, start + size), noise


def write(kind: str, rows: int, width: int, seed: int, dtype: str, path: str) -> None:
    mapped = np.lib.format.open_memmap(path, "w+", np.dtype(dtype), (rows, width))
    for part, made in batches(kind, rows, width, seed):
        mapped[part] = made
    mapped.flush()


def full(features: NDArray[Any], budget: int, rng: np.random.Generator, restarts: int) -> NDArray[np.int64]:
    from sklearn.cluster import KMeans

    from diptych.selection.kmedoids import medoid

    means = KMeans(budget, n_init=restarts, random_state=int(rng.integers(2**32))).fit(features)
    members = [np.flatnonzero(means.labels_ == cluster) for cluster in range(budget)]
    return np.array([rows[medoid(features[rows])] for rows in members])


def elsewhere() -> float:
    """Seconds of processor time that all processes but this one have taken since the machine started."""
    user, nice, system, _, _, irq, softirq = map(int, Path("/proc/stat").read_text().split()[1:8])
    own = resource.getrusage(resource.RUSAGE_SELF)
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK") - own.ru_utime - own.ru_stime


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """One row, in this process."""
    rows, width = case["rows"], case["width"]
    if case["file"]:
        features: NDArray[Any] = np.load(case["file"], mmap_mode="r")
    else:
        features = np.empty((rows, width), np.float32)
        for part, made in batches(case["kind"], rows, width, case["seed"]):
            features[part] = made
    rng = np.random.default_rng(case["seed"])
    given = list(range(case["given"]))
    start, busy = time.perf_counter(), elsewhere()
    from diptych.selection import kmedoids

    if case["by"] == "full":
        chosen = full(features, case["budget"], rng, case["restarts"])
    else:
        kmeans = "faiss" if case["by"] == "faiss" else "own"
        chosen = kmedoids.select(features, case["budget"], rng, given, kmeans)
    seconds, busy = time.perf_counter() - start, elsewhere() - busy
    peak = peak_mib()
    from sklearn.metrics import pairwise_distances_argmin_min

    nearest, cost = np.empty(rows, np.int64), 0.0
    for first in range(0, rows, BATCH):
        part = slice(first, first + BATCH)
        nearest[part], far = pairwise_distances_argmin_min(
            features[part].astype(np.float32), features[chosen].astype(np.float32)
        )
        cost += float(far.sum(dtype=np.float64))
    size = features.nbytes / 2**20
    return {
        "seconds": round(seconds, 1),
        "elsewhere": round(busy, 1),
        "features_mib": round(size),
        "peak_mib": round(peak),
        "peak_ratio": round(peak / size, 2),
        "cost": round(cost, 1),
        "largest": round(float(np.bincount(nearest).max()) / rows, 3),  # the share of rows nearest to one choice
    }


def row(
    rows: int,
    width: int,
    budget: int,
    kind: str = "clustered",
    seed: int = 0,
    memmap: str = "",
    given: int = 0,
    by: str = "select",
    restarts: int = 1,
) -> dict[str, Any]:
    """One row, in a process of its own; `memmap` is "", or "float16" or "float32" for features in a file."""
    case: dict[str, Any] = {"rows": rows, "width": width, "budget": budget, "kind": kind, "seed": seed}
    case |= {"memmap": memmap, "given": given, "by": by, "restarts": restarts if by == "full" else None}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.npy"
        if memmap:
            _child(
                "write", {"kind": kind, "rows": rows, "width": width, "seed": seed, "dtype": memmap, "path": str(path)}
            )
        record: dict[str, Any] = case | _child("measure", case | {"file": str(path) if memmap else ""})
        return record


def _child(task: str, values: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).resolve()), "--child", task, json.dumps(values)]
    answer: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return answer


def rows(quick: bool) -> Iterator[dict[str, Any]]:
    """All rows of the table as plain records, one by one as they come; `quick` makes them small."""
    if quick:
        cases: list[dict[str, Any]] = [
            {"rows": 12_500, "width": 256, "budget": 50},
            {"rows": 25_000, "width": 256, "budget": 50},
            {"rows": 25_000, "width": 256, "budget": 50, "by": "full"},
            {"rows": 25_000, "width": 256, "budget": 50, "kind": "tight"},
            {"rows": 25_000, "width": 256, "budget": 50, "memmap": "float16"},
        ]
    else:
        cases = [{"rows": n, "width": 2048, "budget": 200} for n in (12_500, 25_000, 50_000, 100_000)]
        cases += [
            {"rows": 100_000, "width": 2048, "budget": 200, "kind": kind} for kind in ("gaussian", "skewed", "tight")
        ]
        cases += [{"rows": 100_000, "width": 2048, "budget": 200, "given": 50}]
        ways = ("select", "faiss", "full")
        cases += [{"rows": 100_000, "width": 256, "budget": 200, "by": by} for by in ways]
        cases += [
            {"rows": 100_000, "width": 256, "budget": 200, "kind": kind, "seed": seed, "by": by}
            for kind in ("gaussian", "unequal")
            for seed in range(3)
            for by in ways
        ]
        cases += [{"rows": 1_000_000, "width": 256, "budget": 200, "memmap": kept} for kept in ("float16", "float32")]
    for case in cases:
        yield row(**case)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        task, values = sys.argv[2], json.loads(sys.argv[3])
        if task == "write":
            write(**values)
            print("{}")
        else:
            print(json.dumps(measure(values)))
        return
    parser = argparse.ArgumentParser(description="time, memory and cost of selection by k-medoids")
    parser.add_argument("--quick", action="store_true", help="small rows only")
    parser.add_argument("--rows", type=int, help="one row of this many features, instead of the table")
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--budget", type=int, default=200)
    parser.add_argument("--kind", choices=KINDS, default="clustered")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memmap", choices=("", "float16", "float32"), default="")
    parser.add_argument("--given", type=int, default=0, help="the first so many rows are given")
    parser.add_argument("--by", choices=("select", "faiss", "full"), default="select")
    parser.add_argument("--restarts", type=int, default=1, help="of k-means by full")
    asked = vars(parser.parse_args())
    if asked.pop("quick") or asked["rows"] is None:
        for record in rows(quick="--quick" in sys.argv):
            print(json.dumps(record), flush=True)
    else:
        print(json.dumps(row(**asked)))


if __name__ == "__main__":
    main()
