"""Lets the disk fail under a training in several ways, mends it, resumes, and compares with the run never troubled.

    python tests/faults/disks.py --tries 40

full       a tmpfs too small for the run, of a size drawn anew each time; then it grows
limit      a limit on the size of files (RLIMIT_FSIZE), drawn anew each time; then there is none
read-only  the run folder, or one in it, becomes immutable at a random instant; then it is not any more
vanished   the mount that the run lies on goes at a random instant; then it is back
injected   the n-th call that makes a file lasting, opens one or moves one fails with ESTALE, ENOSPC or EIO

What needs privileges that are not there is said and left out.
"""

import argparse
import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import kills

METHOD = "pix2pix"
SECONDS_TO_STOP = 60


def attempt(command: list[str], said: Path, before: Callable[[], None] = lambda: None) -> int:
    """Start a command after `before()` in its process; the process."""
    process = os.fork()
    if process == 0:
        before()
        kills.in_child(command, said)
    return process


def wait(process: int) -> int:
    """The exit code of a process, which must end by itself."""
    deadline = time.monotonic() + SECONDS_TO_STOP
    while (code := kills.ended(process)) is None:
        if time.monotonic() > deadline:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            raise AssertionError("it did not end")
        time.sleep(0.001)
    return code


def check_said(code: int, said: Path) -> None:
    """Ended with one clear line that says what to do."""
    lines = said.read_text().splitlines()
    assert code == 2, (code, lines[-3:])
    assert lines[-1].startswith("diptych: error: "), lines[-3:]
    assert "Traceback" not in said.read_text(), lines
    assert sum(line.startswith("diptych: error: ") for line in lines) == 1, lines
    assert "resume" in lines[-1] or "mend the folder" in lines[-1] or "--out" in lines[-1], lines[-1]


class Try:
    """One run folder with its data, its words, and where it says something."""

    def __init__(self, root: Path, place: Path) -> None:
        self.data, self.run, self.said = root / "data", place / "run", root / "said.txt"
        self.seconds = 0.0

    def start(self, before: Callable[[], None] = lambda: None) -> int:
        """Train, or resume what is there."""
        self.said.unlink(missing_ok=True)
        fresh = not (self.run / "run.json").exists()
        command = kills.words(METHOD, self.data, self.run) if fresh else ["resume", str(self.run)]
        return attempt(command, self.said, before)

    def sleep(self, process: int, rng: random.Random) -> None:
        """Until a random instant while it trains."""
        while not (self.run / "run.json").exists() and Path(f"/proc/{process}/cwd").exists():
            time.sleep(0.001)
        time.sleep(rng.uniform(0, self.seconds / 2))

    def finish(self) -> None:
        """Resume it to its end."""
        code = wait(self.start())
        text = self.said.read_text()
        assert code == 0 or "has finished its" in text, text[-500:]


def run_words(*words: object) -> bool:
    return subprocess.run([str(word) for word in words], capture_output=True, check=False).returncode == 0


def full(one: Try, rng: random.Random) -> str:
    mount = one.run.parent
    assert run_words("mount", "-t", "tmpfs", "-o", f"size={rng.randint(4, 600)}k", "tmpfs", mount)
    try:
        code = wait(one.start())
        if code != 0:
            check_said(code, one.said)
            assert "No space left on device" in one.said.read_text()
        assert run_words("mount", "-o", "remount,size=64m", mount)
        one.finish()
        shutil.copytree(one.run, mount.with_name("kept"))
    finally:
        run_words("umount", mount)
    shutil.move(mount.with_name("kept"), one.run)
    return "stopped" if code else "went through"


def limit(one: Try, rng: random.Random) -> str:
    size = rng.randint(200, 150_000)
    code = wait(one.start(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))))
    if code != 0:
        check_said(code, one.said)
        assert "File too large" in one.said.read_text()
    one.finish()
    return "stopped" if code else "went through"


def read_only(one: Try, rng: random.Random) -> str:
    process = one.start()
    one.sleep(process, rng)
    folder = rng.choice([one.run, one.run / "checkpoints", one.run / "previews"])
    hit = folder.exists() and run_words("chattr", "+i", folder)
    code = wait(process)
    if hit:
        run_words("chattr", "-i", folder)
    if code != 0:
        check_said(code, one.said)
    one.finish()
    return "stopped" if code else "went through"


def vanished(one: Try, rng: random.Random) -> str:
    mount, real = one.run.parent, one.run.parent.with_name("real")
    real.mkdir()
    assert run_words("mount", "--bind", real, mount)
    try:
        process = one.start()
        one.sleep(process, rng)
        assert run_words("umount", "-l", mount)
        code = wait(process)
        if code != 0:
            check_said(code, one.said)
        shutil.rmtree(one.run, ignore_errors=True)  # what a start may have begun below the mount
        assert run_words("mount", "--bind", real, mount)
        one.finish()
    finally:
        run_words("umount", mount)
    shutil.move(real / "run", one.run)
    real.rmdir()
    return "stopped" if code else "went through"


def injected(one: Try, rng: random.Random) -> str:
    name = rng.choice(["fsync", "replace", "open"])
    number = rng.choice([errno.ESTALE, errno.ENOSPC, errno.EIO])
    left = rng.randint(1, 60)

    def arm() -> None:
        real = getattr(os, name)

        def failing(*arguments: object, **options: object) -> object:
            nonlocal left
            if name == "open" and str(one.run) not in str(arguments[0]):
                return real(*arguments, **options)
            left -= 1
            if left == 0:
                raise OSError(number, os.strerror(number))
            return real(*arguments, **options)

        setattr(os, name, failing)

    code = wait(one.start(arm))
    if code != 0:
        check_said(code, one.said)
        assert os.strerror(number) in one.said.read_text()
    one.finish()
    return "stopped" if code else "went through"


FAULTS = {"full": full, "limit": limit, "read-only": read_only, "vanished": vanished, "injected": injected}


def possible(root: Path) -> set[str]:
    """The faults that can be made here, with the privileges there are."""
    found = {"limit", "injected"}
    mount = root / "probe"
    mount.mkdir()
    if run_words("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", mount):
        run_words("umount", mount)
        found |= {"full", "vanished"}
    if run_words("chattr", "+i", mount):
        run_words("chattr", "-i", mount)
        found.add("read-only")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=40, help="of each fault")
    parser.add_argument("--faults", nargs="+", default=list(FAULTS), choices=list(FAULTS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    kills.import_everything()
    rng = random.Random(options.seed)
    root = Path(tempfile.mkdtemp(prefix="diptych-disks-"))
    kills.make_data(root / "data")
    whole = root / "whole"
    seconds = kills.run_whole(kills.words(METHOD, root / "data", whole), root / "said.txt")

    wrong, there = 0, possible(root)
    for name in options.faults:
        fault = FAULTS[name]
        if name not in there:
            print(f"{name}: not possible here")
            continue
        outcomes = Counter[str]()
        for _ in range(options.tries):
            place = root / "place"
            place.mkdir()
            one = Try(root, place)
            one.seconds = seconds
            try:
                outcomes[fault(one, rng)] += 1
                found = kills.differences(whole, one.run)
                assert not found, found
            except AssertionError as problem:
                outcomes["WRONG"] += 1
                wrong += 1
                print(f"WRONG {name}: {problem}", flush=True)
                shutil.copytree(root / "place", root / "wrong" / f"{wrong}-{name}", dirs_exist_ok=True)
            shutil.rmtree(place)
        print(f"{name}: {options.tries} tries, {dict(outcomes)}, every run resumed to the same end", flush=True)
    if wrong:
        print(f"Look at {root}")
        return 1
    shutil.rmtree(root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
