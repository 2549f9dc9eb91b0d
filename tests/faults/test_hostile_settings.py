"""YAML from anyone: bombs, loops, tags and wrong types are refused in one line, within a moment."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from diptych.errors import DiptychError
from diptych.recipes import LONGEST, read_recipe, read_yaml, settings_from, shipped_recipes
from diptych.studies import read_study, shipped_studies

LAUGHS = "\n".join(
    [
        "a0: &a0 [x, x, x, x, x, x, x, x, x, x]",
        *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)),
    ]
)
MERGED = "\n".join(
    ["a0: &a0 {x: 1, y: 2}", *(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 9))]
)

REFUSED: dict[str, tuple[bytes, str]] = {
    "a billion laughs": (LAUGHS.encode(), "more than a million parts"),
    "a billion merges": (MERGED.encode(), "more than a million parts"),
    "a list in itself": (b"steps: &a [*a]", "what begins in line 1 holds itself"),
    "a mapping in itself": (b"judge: &a\n  patch: *a", "holds itself"),
    "two that hold each other": (b"a: &a [&b [*a]]\n", "holds itself"),
    "Python": (b"steps: !!python/object/apply:os.system [true]", "is no valid YAML"),
    "a Python name": (b"steps: !!python/name:os.system", "is no valid YAML"),
    "an unknown tag": (b"steps: !foo 3", "is no valid YAML"),
    "deep lists": (b"a: " + b"[" * 100_000, "is no valid YAML"),
    "deep mappings": (b"{a: " * 50_000, "is no valid YAML"),
    "JSON of a hundred megabytes": (b'{"a": ' + b"[" * 100_000_000, "longer than a million"),
    "a name twice": (b"steps: 3\nsteps: 4\n", "'steps' stands twice in what begins in line 1"),
    "a name twice in a group": (
        b"out: x\njudge:\n  patch: 1\n  patch: 16\n",
        "'patch' stands twice in what begins in line 3",
    ),
    "Latin-1": ("out: caf\xe9\n".encode("latin-1"), "cannot be read ("),
    "UTF-16": ("steps: 3\n".encode("utf-16"), "cannot be read ("),
    "a NUL": (b"out: a\0b", "is no valid YAML"),
    "an escaped NUL": (rb'out: "a\0b"', "a NUL in 'a\\x00b'"),
    "half a character": (rb'out: "\ud800"', "half a character"),
    "a tab in front": (b"judge:\n\tpatch: 16\n", "is no valid YAML"),
    "a 99th of a month": (b"out: 2001-99-99", "holds a value that cannot be read (month must be in 1..12)"),
    "no number": (b"steps: !!int x", "holds a value that cannot be read"),
    "nothing for a truth": (b"flip: !!bool maybe", "holds a value that cannot be read"),
    "nothing for a date": (b"out: !!timestamp never", "holds a value that cannot be read"),
    "too many digits": (b"steps: " + b"9" * 5000, "holds a value that cannot be read"),
    "a list": (b"- 1\n- 2\n", "must hold settings"),
    "a number as a name": (b"1: 2\n", "must hold settings"),
    "a list as a name": (b"? [x]\n: 2\n", "is no valid YAML"),
    "two documents": (b"steps: 3\n---\nsteps: 4\n", "is no valid YAML"),
    "extends a list": (b"extends: [shukla]\n", "extends: ['shukla'] is no name of a"),
    "extends a number": (b"extends: 3\n", "extends: 3 is no name of a"),
    "extends an endless name": (b"extends: " + b"x" * 5000, "xxx ... "),
    "extends a folder": (b"extends: .\n", "no such file"),
}


def refusal(read: Callable[[Path], object], file: Path) -> str:
    with pytest.raises(DiptychError) as problem:
        read(file)
    line = str(problem.value)
    assert line.isprintable()
    return line


@pytest.mark.parametrize("read", [read_recipe, read_study])
@pytest.mark.parametrize("what", REFUSED)
def test_yaml_that_does_harm_is_refused(what: str, read: Callable[[Path], object], tmp_path: Path) -> None:
    content, words = REFUSED[what]
    file = tmp_path / "x.yaml"
    file.write_bytes(content)
    assert words in refusal(read, file)


HARMLESS = {
    "byte order mark": b"\xef\xbb\xbfsteps: 3\n",
    "carriage returns alone": b"steps: 3\rseed: 4\r",
    "Windows line ends": b"steps: 3\r\nseed: 4\r\n",
    "an alias": b"a: &x photos\nb: *x\nsteps: 3\n",
    "merged groups": b"judge: &j {patch: 16}\noptim: {lr: 1}\nsteps: 3\nweights: {<<: *j}\n",
}


@pytest.mark.parametrize("what", HARMLESS)
def test_yaml_of_other_editors_is_read(what: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(HARMLESS[what])
    assert read_yaml(tmp_path / "x.yaml")["steps"] == 3


def test_what_comes_with_diptych_is_read_as_the_safe_loader_reads_it() -> None:
    for file in [*shipped_recipes().values(), *shipped_studies().values()]:
        assert read_yaml(file) == yaml.safe_load(file.read_text(encoding="utf-8"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
@pytest.mark.parametrize("place", ["pipe", "/dev/zero", "folder"])
def test_what_is_no_file_is_not_read(place: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    assert "cannot be read (" in refusal(read_yaml, tmp_path / place)


@pytest.mark.parametrize("read", [read_recipe, read_study])
def test_chains_and_loops(read: Callable[[Path], object], tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number}.yaml").write_text(f"extends: {number + 1}.yaml\nk{number}: 1\n")
    (tmp_path / "300.yaml").write_text("steps: 3\n")
    values = read(tmp_path / "0.yaml")
    assert isinstance(values, dict)
    assert len(values) == 301
    (tmp_path / "300.yaml").write_text("extends: 7.yaml\n")
    assert "0.yaml: extends itself by way of 300.yaml" in refusal(read, tmp_path / "0.yaml")
    (tmp_path / "300.yaml").unlink()
    (tmp_path / "300.yaml").symlink_to("0.yaml")  # the same file by another name
    assert "extends itself" in refusal(read, tmp_path / "0.yaml")


WRONG_TYPES = {
    "a list over a group": ("weights: [1]", "weights"),
    "a number over a group": ("optim: 3", "optim"),
    "a text over a group": ("judge: x", "judge"),
    "a group over a number": ("steps: {x: 1}", "steps"),
    "nothing over a group": ("optim: null", "optim"),
    "NaN as a weight": ("weights: {cycle_a: .nan}", "weights"),
    "infinity as a weight": ("weights: {cycle_a: .inf}", "weights"),
    "text as a weight": ("weights: {cycle_a: many}", "weights.cycle_a"),
    "a date as a folder": ("a: 2001-01-01", "a: "),
    "a set of folders": ("a: !!set {x, y}", "a: "),
}


@pytest.mark.parametrize("what", WRONG_TYPES)
def test_layers_of_wrong_types(what: str, tmp_path: Path) -> None:
    text, words = WRONG_TYPES[what]
    (tmp_path / "over.yaml").write_text(f"extends: under.yaml\n{text}\n")
    (tmp_path / "under.yaml").write_text(
        "extends: shukla\na: x\nb: y\nout: z\nsteps: 3\noptim: {lr: 1}\nweights: {cycle_a: 1}\njudge: {patch: 16}\n"
    )
    line = refusal(lambda file: settings_from(read_recipe(file), str(file)), tmp_path / "over.yaml")
    assert f"over.yaml: {words}" in line


def test_a_wrong_value_is_repeated_in_part_only(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(f"method: shukla\na: x\nb: y\nout: z\nsteps: [{'x, ' * 9000}x]\n")
    assert len(refusal(lambda file: settings_from(read_recipe(file), str(file)), tmp_path / "x.yaml")) < 600


def test_the_longest_yaml_that_is_read(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("a: " + "x" * (LONGEST - 3))
    assert read_yaml(file) == {"a": "x" * (LONGEST - 3)}
    file.write_text("a: " + "x" * (LONGEST - 2))
    assert "longer than a million characters" in refusal(read_yaml, file)
