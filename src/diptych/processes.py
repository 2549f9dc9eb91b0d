"""One of several processes that share a work, as torchrun starts them on one machine or many; without it, the only one.

A launcher tells each process its rank, their number and where they meet, in RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR
and MASTER_PORT. Whoever calls a function of this file calls it in every process, in the same order. Rank 0 is the
first: it alone writes, prints and shows progress.
"""

import os
import re
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from diptych.errors import DiptychError

T = TypeVar("T")
LONGEST_MEETING = timedelta(minutes=10)
MOST_WAIT = timedelta(hours=2)  # for the slowest: the first process may read a million heads of images alone
OTHER_LAUNCHERS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")  # which tell no meeting point


class LostError(DiptychError):
    """Another process has ended, or cannot be reached."""


class ToldError(DiptychError):
    """What another process has found, and says."""


@dataclass(frozen=True)
class Process:
    """Which of the processes this is: `rank` in 0 .. `size` - 1, and the `local` one among those of this machine."""

    rank: int = 0
    size: int = 1
    local: int = 0


_this = Process()


def this_process() -> Process:
    """Which of the processes that have joined this is."""
    return _this


def is_first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return _this.rank == 0


def launched(environment: Mapping[str, str] = os.environ) -> Process:
    """Which of the launched processes this is, by the launcher's word.

    Raises `DiptychError` where that is incomplete: they would all do the whole work, in the same folder.
    """
    words = {name: environment.get(name, "") for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK")}
    if not words["WORLD_SIZE"]:
        for name in OTHER_LAUNCHERS:
            if environment.get(name, "1") not in ("", "1"):
                raise DiptychError(
                    f"{name} is {environment[name]}, but these processes are not told where to meet; start them with "
                    "torchrun --nproc-per-node N -m diptych ..."
                )
        return Process()
    if words["WORLD_SIZE"] == "1":
        return Process()
    meeting = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not environment.get(name)]
    wrong = [name for name in ("WORLD_SIZE", "RANK") if not words[name].isdecimal()] + meeting
    if wrong:
        raise DiptychError(
            f"WORLD_SIZE is {words['WORLD_SIZE']}, but {' and '.join(wrong)} does not say with whom; start with "
            "torchrun --nproc-per-node N -m diptych ..., or unset WORLD_SIZE"
        )
    rank, size = int(words["RANK"]), int(words["WORLD_SIZE"])
    if rank >= size:
        raise DiptychError(f"RANK is {rank} of {size} processes; give each a rank from 0 to {size - 1}")
    return Process(rank, size, int(words["LOCAL_RANK"]) if words["LOCAL_RANK"].isdecimal() else rank)


def restarts() -> int:
    """How often torchrun has started the processes again after one of them had ended."""
    count = os.environ.get("TORCHELASTIC_RESTART_COUNT", "")
    return int(count) if count.isdecimal() else 0


def launch() -> str:
    """What tells this launch of torchrun, with all its restarts, from others."""
    run = os.environ.get("TORCHELASTIC_RUN_ID", "")
    if _on_one_machine():
        return f"{run} {socket.gethostname()} {os.getppid()}"
    named = run not in ("", "none")
    return run if named else f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"


def _on_one_machine() -> bool:
    return os.environ.get("GROUP_WORLD_SIZE") == "1"


@contextmanager
def joined(work: str) -> Iterator[Process]:
    """Meet the other processes for the block; `work` names what is done in it, which all must agree on.

    Raises `DiptychError` where they do not all come, or come for something else.
    """
    global _this
    here = launched()
    if here.size == 1 or _this.size > 1:
        yield _this
        return
    import torch
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        store, _, _ = next(rendezvous("env://", here.rank, here.size, timeout=LONGEST_MEETING))
        # torchrun keeps the store over restarts, with the addresses of processes that are dead. Each machine counts its
        # own restarts, so that several count who comes.
        attempt = restarts() if _on_one_machine() else (store.add("diptych", 1) - 1) // here.size
        store = PrefixStore(f"diptych-{attempt}", store)
        dist.init_process_group(backend, store=store, rank=here.rank, world_size=here.size, timeout=MOST_WAIT)
    except (RuntimeError, ValueError) as problem:
        raise LostError(
            f"process {here.rank} of {here.size} did not meet the others at {os.environ['MASTER_ADDR']}:"
            f"{os.environ['MASTER_PORT']} ({_in_short(problem)}); start all of them, with the same rendezvous"
        ) from None
    _this = here
    try:
        agree("what they are started for", work)
        yield here
    finally:
        _this = Process()
        dist.destroy_process_group()


def _in_short(problem: BaseException) -> str:
    """What happened, without the place in torch's source and its guesses at the cause."""
    first = (str(problem).splitlines() or [type(problem).__name__])[0]
    return re.sub(r"^\[[^\]]*\.\w+:\d+\] ", "", first).partition(". ")[0][:200]


@contextmanager
def speaking() -> Iterator[None]:
    """What torch says in the block when the others are gone, in words: raises `LostError`."""
    try:
        yield
    except RuntimeError as problem:
        raise LostError(
            f"process {_this.rank} of {_this.size} stops: another one has ended or cannot be reached "
            f"({_in_short(problem)}); see what that one said"
        ) from None


def leave(code: int) -> None:
    """End this process, if it is one of several, with the exit code; its files are closed, its output is flushed.

    It does so without the interpreter's tidying up, in which torch's threads now and then abort a process whose work is
    done: the launcher would take it for a failure, and start all again.
    """
    if os.environ.get("WORLD_SIZE", "1") in ("", "1"):
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def gathered(mine: T) -> list[T]:
    """What every process gives, by rank, in every process."""
    if _this.size == 1:
        return [mine]
    import torch.distributed as dist

    everything: list[Any] = [None] * _this.size
    with speaking():
        dist.all_gather_object(everything, mine)
    return everything


def wait() -> None:
    """Go on when every process has come here."""
    gathered(None)


def by_first(work: Callable[[], T]) -> T:
    """What `work()` gives in the first process, which does it alone; its `DiptychError` is raised in every one."""
    outcome: tuple[T | None, DiptychError | None] = (None, None)
    if is_first():
        try:
            outcome = work(), None
        except DiptychError as problem:
            outcome = None, problem
    result, failure = gathered(outcome)[0]
    if failure is not None:
        raise failure if is_first() else ToldError(str(failure))
    return result  # type: ignore[return-value]


def first_alone(work: Callable[[], T]) -> T:
    """`work()` of every process, of the first before the others: they find in the cache what it has met.

    Its `DiptychError` is raised in every one.
    """
    done: list[T] = []
    by_first(lambda: done.append(work()))
    return done[0] if done else work()


def agree(what: str, value: Any) -> None:
    """Raises `DiptychError` where `value`, a plain one, is not the same in every process; `what` names it."""
    others = [rank for rank, theirs in enumerate(gathered(value)) if theirs != value]
    if others:
        raise DiptychError(
            f"process {_this.rank} and process {others[0]} differ in {what}; start all with the same command, where "
            "all see the same files"
        )


def shared_out(
    things: Sequence[Any], work: Callable[[Any], T], progress: Callable[[int, int], None] | None = None
) -> list[T]:
    """`work(thing)` for each of `things`, in order, in every process: each does every `size`-th.

    `progress(done, total)` is told how many of all are done, taking the others to be as far. An exception is raised at
    once, in its process alone; the others find it gone.
    """
    mine: list[T] = []
    for thing in things[_this.rank :: _this.size]:
        mine.append(work(thing))
        if progress is not None:
            progress(min(len(mine) * _this.size, len(things)), len(things))
    return interleaved(gathered(mine))


def interleaved(by_process: Sequence[Sequence[T]]) -> list[T]:
    """What each process has of things that were shared out by `shared_out`, in the order of the things."""
    size, total = len(by_process), sum(map(len, by_process))
    return [by_process[number % size][number // size] for number in range(total)]
