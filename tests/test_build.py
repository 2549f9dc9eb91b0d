"""Settings into networks and methods: what an image of class logits is, in training as in a translator."""

from pathlib import Path

import numpy as np
import pytest
import torch

from diptych.batches import Batch
from diptych.build import NetworkMakers, make_method, make_translator, resolve
from diptych.config import JudgeSettings, TrainSettings
from diptych.images import RGB, read_classes

CLASSES = "id,name,red,green,blue\n3,road,255,0,0\n0,void,0,0,0\n7,sky,0,0,255\n9,tree,0,255,51\n"


def settings(tmp_path: Path, **changes: object) -> TrainSettings:
    (tmp_path / "classes.csv").write_text(CLASSES)
    values: dict[str, object] = {
        "method": "shukla",
        "a": tmp_path / "a",
        "b": tmp_path / "b",
        "b_classes": tmp_path / "classes.csv",
        "out": tmp_path / "run",
        "size": "32x32",
        "generator": "resnet",
        "blocks": 1,
        "ngf": 4,
        "judge": JudgeSettings(patch=16),
        "precision": "fp32",
    }
    return resolve(TrainSettings(**values | changes))


def makers(settings: TrainSettings) -> NetworkMakers:
    assert settings.b_classes is not None
    return NetworkMakers(settings, {"a": None, "b": read_classes(settings.b_classes)})


def test_a_palette_has_the_colours_of_all_classes_but_void(tmp_path: Path) -> None:
    palette = makers(settings(tmp_path, loss="cross_entropy")).palette("b")
    assert palette is not None
    assert palette.tolist() == [[1, -1, -1], [-1, -1, 1], [-1, 1, pytest.approx(51 / 127.5 - 1)]]
    assert makers(settings(tmp_path, loss="cross_entropy")).palette("a") is None
    assert makers(settings(tmp_path)).palette("b") is None


def test_the_hybrid_trains_with_the_colours_that_its_translator_shows(tmp_path: Path) -> None:
    chosen = settings(tmp_path, loss="cross_entropy")
    make = makers(chosen)
    method = make_method(chosen, make, torch.device("cpu"))
    for parameter in method.networks["a_to_b"].parameters():
        parameter.data *= 5  # away from the start, where all classes are as likely
    translator = make_translator(chosen, make, method, {"a": RGB, "b": RGB}, "fp32")
    a = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    classes = torch.zeros(2, 32, 32, dtype=torch.int64)
    with torch.no_grad():
        images = method.translate(Batch(a, a, n_pairs=1, b_classes=classes))
        logits = translator.run(a, "a_to_b").numpy()
    assert logits.shape == (2, 3, 32, 32)
    assert images["fake_a"].shape == (2, 3, 32, 32)
    for shown, output in zip(images["fake_b"].numpy(), logits, strict=True):
        assert np.ptp(shown) > 0.1
        np.testing.assert_allclose(shown, translator.colours(output, "a_to_b"), atol=1e-5)
    np.testing.assert_allclose(images["logits_b"].numpy(), logits, atol=1e-5)
