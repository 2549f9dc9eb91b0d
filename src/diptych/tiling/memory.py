"""How much memory there is to compute in."""

import math
import os
import re
from pathlib import Path

import torch

MEMINFO, CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def free_memory(device: torch.device) -> float:
    """Bytes that can still be taken on `device`; infinity where nothing says."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return min(_free_in_machine(), _free_in_container())


def _free_in_machine() -> float:
    if MEMINFO.exists():
        found = re.search(r"MemAvailable:\s+(\d+) kB", MEMINFO.read_text())
        if found:
            return int(found[1]) * 1024.0
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" in names:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return math.inf


def _free_in_container() -> float:
    """Of version 2 of the control groups or of version 1. Files that nobody has used lately may be forgotten."""
    for folder, limit, used, forgettable in (
        (CGROUP, "memory.max", "memory.current", "inactive_file"),
        (CGROUP / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        if not (folder / limit).exists() or (folder / limit).read_text().strip() == "max":
            continue
        told = folder / "memory.stat"
        found = re.search(rf"^{forgettable} (\d+)$", told.read_text(), re.M) if told.exists() else None
        in_use = int((folder / used).read_text()) - (int(found[1]) if found else 0)
        return float(int((folder / limit).read_text()) - in_use)
    return math.inf
