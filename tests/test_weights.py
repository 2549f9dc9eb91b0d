"""Files of weights from anyone: tensors or one line."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import nn

from diptych.errors import DiptychError
from diptych.reading import sha256
from diptych.weights import check_fit, read_checked, read_weights, shape, tensors_in

STATE = {"x": torch.arange(6.0).view(2, 3), "y": torch.tensor(7)}


def saved(value: object, *, zipped: bool = True) -> bytes:
    data = io.BytesIO()
    torch.save(value, data, _use_new_zipfile_serialization=zipped)
    return data.getvalue()


def refusal(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(DiptychError) as problem:
        read_weights(path)
    line = str(problem.value)
    assert line.startswith(f"{path}: ")
    assert line.isprintable()
    return line


@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_dict_is_read(zipped: bool, tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(saved(STATE, zipped=zipped))
    found = read_weights(tmp_path / "x.pth")
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in STATE.items())


def test_safetensors_are_read(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(save(STATE))
    assert torch.equal(read_weights(tmp_path / "x.safetensors")["x"], STATE["x"])


class Touches:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_no_code_is_run(zipped: bool, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    assert "holds more than weights" in refusal(tmp_path / "x.pth", saved({"x": Touches(touched)}, zipped=zipped))
    refusal(tmp_path / "x.pth", pickle.dumps(Touches(touched)))
    assert not touched.exists()


def test_whole_modules_and_other_things_are_refused(tmp_path: Path) -> None:
    assert "holds more than weights" in refusal(tmp_path / "x.pth", saved(nn.Conv2d(1, 1, 1)))
    assert "holds a list" in refusal(tmp_path / "x.pth", saved([1, 2]))
    assert "'y' is no tensor" in refusal(tmp_path / "x.pth", saved({"x": STATE["x"], "y": "z"}))
    assert "1 is no tensor" in refusal(tmp_path / "x.pth", saved({1: STATE["x"]}))


def test_a_view_of_one_number_is_no_gigabyte_of_weights(tmp_path: Path) -> None:
    tensor = torch.zeros(1).expand(2**15, 2**15)
    assert "claims 4.3 GB of weights in a file of 0.0 MB" in refusal(tmp_path / "x.pth", saved({"x": tensor}))


def test_tensors_may_share_their_memory(tmp_path: Path) -> None:
    shared = torch.arange(1000.0)
    (tmp_path / "x.pth").write_bytes(saved({"x": shared, "y": shared, "z": shared[::2]}))
    assert torch.equal(read_weights(tmp_path / "x.pth")["z"], torch.arange(0, 1000.0, 2))


def test_a_squeezed_zip_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    squeezed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(saved({"x": torch.zeros(2**20)}))) as old,
        zipfile.ZipFile(squeezed, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    assert len(squeezed.getvalue()) < 2**16
    assert "damaged, or no .pth file" in refusal(tmp_path / "x.pth", squeezed.getvalue())


@pytest.mark.parametrize("zipped", [True, False])
def test_damage_anywhere_is_one_line(zipped: bool, tmp_path: Path) -> None:
    data = saved({"x": torch.arange(3)}, zipped=zipped)
    for place in range(0, len(data), max(1, len(data) // 150)):
        refusal(tmp_path / "x.pth", data[:place])
        (tmp_path / "x.pth").write_bytes(data[:place] + b"\xff" + data[place + 1 :])
        try:
            found = read_weights(tmp_path / "x.pth")
        except DiptychError:
            continue
        assert all(isinstance(tensor, torch.Tensor) for tensor in found.values())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_what_is_no_file_is_not_waited_for(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(DiptychError, match="cannot be read"):
        read_weights(tmp_path / name)
    with pytest.raises(DiptychError, match="cannot be read"):
        read_checked(tmp_path / name, None)
    with pytest.raises(DiptychError, match="No such file"):
        read_weights(tmp_path / "absent.pth")


def test_bytes_are_those_of_the_hash_or_refused(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert sha256(file) == known
    assert read_checked(file, known) == read_checked(file, None) == b"abc"
    with pytest.raises(DiptychError, match=f"its SHA-256 is {known}, expected 00"):
        read_checked(file, "00")


def test_what_does_not_fit_is_named() -> None:
    network = nn.Linear(3, 2)
    fitting = {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}
    check_fit(network, fitting, "w")
    for tensors, words in (
        (
            fitting | {"weight": torch.zeros(3, 2)},
            "w: the tensor 'weight' is 3x2, where its configuration asks for 2x3;",
        ),
        (fitting | {"bias": torch.zeros(())}, "w: the tensor 'bias' is a single number, where"),
        ({"weight": fitting["weight"]}, "w: lacks the tensor 'bias', 2;"),
        (fitting | {"more": torch.zeros(1)}, "w: holds the tensor 'more', which"),
    ):
        with pytest.raises(DiptychError) as problem:
            check_fit(network, tensors, "w")
        assert str(problem.value).startswith(words)
    assert shape(torch.zeros(2, 3, 1)) == "2x3x1"


def test_damaged_safetensors_are_one_line(tmp_path: Path) -> None:
    data = save(STATE)
    for size in range(len(data)):
        with pytest.raises(DiptychError, match=r"damaged, or no \.safetensors file"):
            tensors_in(data[:size], Path("x"))
