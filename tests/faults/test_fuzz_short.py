"""A short form of fuzz.py: every target and engine, a few hundred inputs; and what longer runs have found."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

FUZZ = Path(__file__).parent / "fuzz.py"
FOUND = Path(__file__).parent / "found"  # TARGET-NAME: inputs that longer runs have found


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz", FUZZ)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module
    spec.loader.exec_module(module)
    return module


fuzz = loaded()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", list(fuzz.TARGETS))
def test_nothing_but_one_line_refusals(name: str) -> None:
    with fuzz.trial_of(name) as trial:
        fuzz.run_mutate(trial, 60, seed=1)
        fuzz.run_hypothesis(trial, 80, seed=1)
    assert trial.result.inputs >= 80
    assert trial.result.refused > 0 or name == "log"  # whose damaged lines are left out
    assert trial.result.findings == {}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("found", sorted(FOUND.iterdir()), ids=lambda path: path.name)
def test_what_was_found_is_mended(found: Path) -> None:
    with fuzz.trial_of(found.name.partition("-")[0]) as trial:
        trial.give(found.read_bytes())
    assert trial.result.findings == {}


def test_what_is_wrong_is_found() -> None:
    """The harness itself: a crash, a hang, an error of two lines, and memory."""
    with fuzz.trial_of("classes") as trial:
        for wrong, kind in (
            (ZeroDivisionError("x"), "ZeroDivisionError"),
            (trial.refusal(""), "DiptychError"),
        ):

            def read(data: bytes, wrong: Exception = wrong) -> None:
                raise wrong

            trial.read = read
            trial.give(b"x")
            assert [name for name in trial.result.findings if name.startswith(kind)]

        def endless(data: bytes) -> None:
            while True:
                pass

        trial.read, trial.seconds = endless, 0.2
        trial.give(b"x")
        assert [name for name in trial.result.findings if name.startswith("Hang")]
        trial.read = lambda data: None
        trial.peak = -fuzz.MEMORY
        trial.give(b"x")
        assert [name for name in trial.result.findings if name.startswith("MemoryError")]


def test_guided_by_coverage() -> None:
    pytest.importorskip("atheris")
    done = subprocess.run(
        [sys.executable, str(FUZZ), "--target", "classes", "--engine", "atheris", "--inputs", "500"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "classes" in done.stdout
    assert " 500 " in done.stdout
