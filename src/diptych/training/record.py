"""What a run was made with and of: versions, the state of the code, machine and data, in run.json."""

import hashlib
import platform
import subprocess
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import diptych
from diptych.reading import sha256

PACKAGES = ("torch", "numpy", "pillow", "safetensors")
MOST_FILES_READ = 20_000  # of more, name and size stand for the content: a start must not take an hour


def made_with(device: torch.device) -> dict[str, Any]:
    """Versions, the state of diptych's own checkout, and the machine."""
    return {
        "diptych": diptych.__version__,
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "git": git_state(Path(diptych.__file__).parent),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device}, {platform.machine()}",
        "threads": torch.get_num_threads(),
    }


def git_state(package: Path) -> dict[str, Any] | None:
    """The commit of the checkout that `package` is a part of, and whether its files differ; None where it is in none.

    A package that lies in somebody else's repository, but is no part of it, has none.
    """

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(package), *words], capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--", "."))}
    except (OSError, subprocess.SubprocessError):
        return None


def data_digest(files: Mapping[str, Iterable[tuple[str, Path | str]]]) -> dict[str, str]:
    """A SHA-256 for each place: over the names of its files, in order, and their content, or what is said to change
    with it.

    With more than `MOST_FILES_READ` files in all, over their names and sizes; `of` says which.
    """
    listed = {place: list(entries) for place, entries in files.items()}
    whole = sum(isinstance(file, Path) for entries in listed.values() for _, file in entries) <= MOST_FILES_READ
    read = sha256 if whole else _size
    found = {"of": "names and contents" if whole else "names and sizes"}
    with ThreadPoolExecutor() as threads:
        for place, entries in listed.items():
            digest = hashlib.sha256()
            contents = [file if isinstance(file, str) else threads.submit(read, file) for _, file in entries]
            for (name, _), content in zip(entries, contents, strict=True):
                said = content if isinstance(content, str) else content.result()
                digest.update(f"{len(name)} {name} {said}\n".encode("utf-8", "surrogateescape"))
            found[place] = digest.hexdigest()
    return found


def _size(path: Path) -> str:
    return str(path.stat().st_size)


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What two records of `made_with` do not share, in words."""
    both = [name for name in now if name in before and before[name] != now[name]]
    return [f"{name} {_short(before[name])} (now {_short(now[name])})" for name in both]


def _short(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    return f"{str(value.get('commit'))[:8]}{' with changes' if value.get('dirty') else ''}"


def changed_places(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The places whose files are not what they were, where both digests are of the same kind."""
    if before.get("of") != now["of"]:
        return []
    return [place for place in now if place in before and before[place] != now[place]]
