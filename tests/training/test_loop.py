"""A run folder, and a run that is stopped and resumed against one that never was."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from diptych import commands
from diptych.config import JudgeSettings, ResumeSettings, TrainSettings
from diptych.display import Silent
from diptych.errors import DiptychError
from diptych.recipes import load_settings
from diptych.scenes import write_scenes
from diptych.training.journal import cut_log
from diptych.translator import Translator


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, 6, seed=0, size=(48, 40))
    return folder


def settings(scenes: Path, out: Path, method: str = "shukla", **changes: object) -> TrainSettings:
    values: dict[str, object] = {
        "method": method,
        "a": scenes / "photos",
        "b": scenes / "labels",
        "b_classes": scenes / "classes.csv",
        "out": out,
        "size": "32x32",
        "steps": 8,
        "generator": "resnet",
        "blocks": 1,
        "ngf": 4,
        **({"judge": JudgeSettings(patch=16)} if method != "supervised" else {}),
        "precision": "fp32",
        "val_every": 2,
        "log_every": 3,
        **({"pairs": "2"} if method != "cyclegan" else {}),
    }
    return TrainSettings(**values | changes)


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the last checkpoint: generators, judges, optimisers, pools, random generators."""
    last = run / "checkpoints" / json.loads((run / "checkpoints.json").read_text())["last"]["name"]
    files = sorted(last.rglob("*.safetensors"))
    return {f"{file.parent.name}/{name}": tensor for file in files for name, tensor in load_file(file).items()}


class StopAt:
    """Asks to stop once so many steps are done."""

    def __init__(self, step: int) -> None:
        self.left = step

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("shukla", {"pool_size": 2}),
        ("cyclegan", {"pool_size": 2}),
        ("pix2pix", {"dropout": True}),
        ("shukla", {"rhythm": "mixed", "batch_size": 2, "pool_size": 2, "paired_pool_size": 1, "pool_reals": True}),
        ("shukla", {"rhythm": "phases", "paired_steps": 4}),
        ("shukla", {"loss": "cross_entropy", "pool_size": 2}),
        ("tripathy", {"pool_size": 2, "paired_steps": 6}),
        ("tripathy", {"rhythm": "passes", "balance": 1.0}),
        ("supervised", {"loss": "cross_entropy", "dropout": True}),
    ],
)
def test_a_resumed_run_is_the_run_that_never_stopped(
    scenes: Path, tmp_path: Path, method: str, changes: dict[str, object]
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole, broken = tmp_path / "whole", tmp_path / "broken"
        commands.train(settings(scenes, whole, method, **changes))
        _, step = commands.train(settings(scenes, broken, method, **changes), stop=StopAt(5))
        assert step == 5
        assert json.loads((broken / "checkpoints.json").read_text())["last"]["step"] == 5
        torch.manual_seed(12345)  # whatever else the process did meanwhile
        _, step = commands.resume(ResumeSettings(run=broken))
        assert step == 8
    finally:
        torch.set_num_threads(threads)
    expected, found = weights(whole), weights(broken)
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []

    def curve(run: Path) -> list[tuple[int, object]]:
        lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        return [(line["step"], line["terms"]) for line in lines if "terms" in line]

    assert curve(whole) == curve(broken)
    assert [step for step, _ in curve(broken)] == [3, 6, 8]


def test_resume_beyond_the_first_end(scenes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    commands.train(settings(scenes, run, steps=4))
    with pytest.raises(DiptychError, match=r"finished its 4 steps.*--steps"):
        commands.resume(ResumeSettings(run=run))
    _, step = commands.resume(ResumeSettings(run=run, steps=6))
    assert step == 6
    assert load_settings(run).steps == 6


def test_the_last_checkpoints_and_the_best_are_kept(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.1, 0.9, 0.3, 0.2])

    def validation(*_: object) -> object:
        return lambda translator: {"scores": {"mean_iou": next(scores)}, "primary": "mean_iou"}

    monkeypatch.setattr("diptych.build.make_validation", validation)
    run = tmp_path / "run"
    folders = {"val_a": scenes / "photos", "val_b": scenes / "labels"}
    commands.train(settings(scenes, run, val_every=2, keep=1, **folders))
    index = json.loads((run / "checkpoints.json").read_text())
    assert (index["best"]["step"], index["best"]["value"], index["last"]["step"]) == (4, 0.9, 8)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["00000004", "00000008"]


def test_a_run_folder_holds_what_it_should(scenes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    commands.train(settings(scenes, run))
    names = {path.name for path in run.iterdir()}
    assert names == {
        ".lock",
        "run.json",
        "experiment.yaml",
        "data.json",
        "log.jsonl",
        "previews",
        "tensorboard",
        "checkpoints",
        "checkpoints.json",
        "report.html",
    }
    assert [path.name for path in sorted((run / "previews").iterdir())] == [f"{step:08d}.png" for step in (2, 4, 6, 8)]
    record = json.loads((run / "run.json").read_text())
    assert record["data"] == {"pairs": 2, "unpaired_a": 6, "unpaired_b": 6}
    with pytest.raises(DiptychError, match="holds a run already"):
        commands.train(settings(scenes, run))


def test_a_run_stopped_before_its_first_step_still_starts_from_the_other_run(scenes: Path, tmp_path: Path) -> None:
    commands.train(settings(scenes, tmp_path / "first", steps=2))
    start = {"init_from": tmp_path / "first", "steps": 2, "seed": 3}
    commands.train(settings(scenes, tmp_path / "whole", **start))
    commands.train(settings(scenes, tmp_path / "broken", **start), stop=lambda: True)
    commands.resume(ResumeSettings(run=tmp_path / "broken"))
    whole, broken = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert all(torch.allclose(whole[name], broken[name], atol=1e-5) for name in whole if name.startswith("a_to_b"))
    assert load_settings(tmp_path / "broken").init_from == tmp_path / "first"


def test_scores_that_do_not_exist_do_not_stop_a_training(scenes: Path, tmp_path: Path) -> None:
    void = tmp_path / "void"
    write_scenes(void, 2, seed=1, size=(48, 40))
    table = (scenes / "classes.csv").read_text() + "255,void,0,0,0\n"
    (tmp_path / "classes.csv").write_text(table)
    for file in (void / "labels").iterdir():
        Image.new("L", (48, 40), 255).save(file)
    folders = {"val_a": void / "photos", "val_b": void / "labels", "b_classes": tmp_path / "classes.csv"}
    commands.train(settings(scenes, tmp_path / "run", steps=2, **folders))
    index = json.loads((tmp_path / "run" / "checkpoints.json").read_text())
    assert index["best"]["value"] is None


def test_init_from_starts_with_the_other_runs_generators(scenes: Path, tmp_path: Path) -> None:
    from diptych.build import initialise_from, make_training, open_dataset, resolve
    from diptych.display import Silent

    def translator_of(**changes: object) -> Translator:
        wanted = resolve(settings(scenes, tmp_path / "other", **changes))
        dataset = open_dataset(wanted, Silent())
        return make_training(wanted, dataset, torch.device("cpu"), Silent()).translator

    commands.train(settings(scenes, tmp_path / "run", steps=2))
    translator = translator_of(seed=5)
    initialise_from(tmp_path / "run", translator)
    trained = weights(tmp_path / "run")
    for direction, generator in translator.generators.items():
        for name, tensor in generator.state_dict().items():
            assert torch.equal(tensor, trained[f"{direction}/{name}"])
    for otherwise in ({"ngf": 6}, {"norm": "batch"}):
        with pytest.raises(DiptychError, match="give the same settings"):
            initialise_from(tmp_path / "run", translator_of(**otherwise))
    unet = {"generator": "unet", "blocks": None, "depth": 3, "ngf": 4}
    commands.train(settings(scenes, tmp_path / "unet", steps=1, **unet))
    initialise_from(tmp_path / "unet", translator_of(**unet, dropout=False))
    with pytest.raises(DiptychError, match="give the same settings"):  # all weights have the same shapes
        initialise_from(tmp_path / "unet", translator_of(**unet, leak=0.05))


def test_init_from_logits_asks_for_the_same_classes(scenes: Path, tmp_path: Path) -> None:
    commands.train(settings(scenes, tmp_path / "logits", "supervised", steps=1))
    again = settings(scenes, tmp_path / "again", "supervised", steps=1, init_from=tmp_path / "logits")
    commands.train(again)
    header, *rows = (scenes / "classes.csv").read_text().splitlines()
    (tmp_path / "turned.csv").write_text("\n".join([header, *reversed(rows)]))
    for changes, said in (
        ({"b_classes": tmp_path / "turned.csv"}, "its logits are of other classes"),
        ({"loss": "pixel"}, "give the same settings"),
    ):
        other = again.model_copy(update={"out": tmp_path / "other", **changes})
        with pytest.raises(DiptychError, match=said):
            commands.train(other)
        assert not (tmp_path / "other").exists()


def test_cut_log_drops_later_and_broken_lines(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 2, "seconds": 1.5}\n{"step": 4, "seconds": 3}\n{"step": 6, "seconds": 9}\n{"ste')
    assert cut_log(log, 4) == 3
    assert log.read_text() == '{"step": 2, "seconds": 1.5}\n{"step": 4, "seconds": 3}\n'


def test_cut_log_keeps_what_follows_a_line_that_is_none(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 2, "seconds": 1.5}\n\n{"step": 3, "sec\n{"step": 4, "seconds": 3}\n{"step": 6}\n')
    assert cut_log(log, 4) == 3
    assert log.read_text() == '{"step": 2, "seconds": 1.5}\n{"step": 4, "seconds": 3}\n'


def test_a_resumption_takes_away_only_what_a_training_left_half_done(scenes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    commands.train(settings(scenes, run, steps=2))
    others = [run / "previews" / "notes.png", run / "scores" / ".part-translations" / "x.png", run / "mine" / ".part-x"]
    halves = [run / ".part-log", run / "checkpoints" / ".part-00000004" / "w", run / "previews" / ".part-00000004.png"]
    for file in (*others, *halves):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    commands.resume(ResumeSettings(run=run, steps=4))
    assert all(file.exists() for file in others)
    assert not any(file.exists() for file in halves)
    assert (run / "report.html").stat().st_mtime_ns > (run / "checkpoints.json").stat().st_mtime_ns


def test_a_run_without_its_log_goes_back_all_the_same(scenes: Path, tmp_path: Path) -> None:
    commands.train(settings(scenes, tmp_path / "run", steps=4))
    (tmp_path / "run" / "log.jsonl").unlink()
    _, step = commands.resume(ResumeSettings(run=tmp_path / "run", from_step=2))
    assert step == 4


def test_training_is_the_same_twice(scenes: Path, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name in ("one", "two"):
            commands.train(settings(scenes, tmp_path / name, steps=3), Silent())
    finally:
        torch.set_num_threads(threads)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.equal(one[name], two[name]) for name in one)
