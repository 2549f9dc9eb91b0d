"""Settings: what they refuse, and how they say so."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from diptych.config import (
    DemoSettings,
    EvaluateSettings,
    JudgeSettings,
    OptimSettings,
    ResumeSettings,
    SelectSettings,
    TrainSettings,
    TranslateSettings,
    explain,
    parse_size,
)

ALL = [
    TrainSettings,
    OptimSettings,
    JudgeSettings,
    SelectSettings,
    ResumeSettings,
    TranslateSettings,
    EvaluateSettings,
    DemoSettings,
]
NEEDED = {"method": "shukla", "a": "photos", "b": "labels", "out": "run"}


def train(**settings: Any) -> TrainSettings:
    return TrainSettings.model_validate(NEEDED | settings)


def complaint(values: dict[str, Any], model: type[BaseModel] = TrainSettings) -> str:
    with pytest.raises(ValidationError) as problem:
        model.model_validate(values)
    message = explain(problem.value, model)
    assert "\n" not in message
    return message


# --- sizes


@pytest.mark.parametrize(
    ("text", "size"), [("128x96", (128, 96)), ("128X96", (128, 96)), ("256", (256, 256)), ("1x65536", (1, 65536))]
)
def test_sizes(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "x", "128x", "x96", "128x96x3", "0x96", "128x0", "-1x5", "12.5x9", "128 x 96", "1e2", "٣x٣", "65537"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is no size; write WIDTHxHEIGHT, such as 128x96"):
        parse_size(text)
    assert complaint(NEEDED | {"size": text}).startswith(f"size: {text!r} is no size; write WIDTHxHEIGHT")


# --- names


def test_an_unknown_name_brings_the_nearest_right_one() -> None:
    assert complaint(NEEDED | {"batchsize": 2}) == "unknown setting 'batchsize'; did you mean 'batch_size'?"
    assert complaint(NEEDED | {"b_clases": "x"}) == "unknown setting 'b_clases'; did you mean 'b_classes'?"
    assert complaint({"photos": "x", "out": "y", "bugdet": 3}, SelectSettings) == (
        "unknown setting 'bugdet'; did you mean 'budget'?"
    )


def test_an_unknown_nested_name_brings_the_nearest_of_its_group() -> None:
    assert complaint(NEEDED | {"optim": {"betta1": 1}}) == "unknown setting 'optim.betta1'; did you mean 'optim.beta1'?"
    assert complaint(NEEDED | {"judge": {"pach": 70}}) == "unknown setting 'judge.pach'; did you mean 'judge.patch'?"


def test_a_setting_outside_its_group_is_found_inside() -> None:
    assert complaint(NEEDED | {"lr": 1}) == "unknown setting 'lr'; did you mean 'optim.lr'?"
    assert complaint(NEEDED | {"beta_1": 0.5}) == "unknown setting 'beta_1'; did you mean 'optim.beta1'?"


def test_a_group_that_was_built_by_itself_is_named_all_the_same() -> None:
    with pytest.raises(ValidationError) as problem:
        JudgeSettings.model_validate({"patch": 71})
    assert explain(problem.value, TrainSettings) == "judge.patch: input should be 1, 16, 34, 70, 142 or 286 (it is 71)"


def test_a_name_unlike_any_brings_no_guess() -> None:
    assert complaint(NEEDED | {"qqqqqqqq": 1}) == "unknown setting 'qqqqqqqq'"


def test_a_missing_name() -> None:
    assert complaint({"method": "shukla", "a": "photos", "b": "labels"}) == "the setting 'out' is missing"


# --- values


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"steps": 0}, "steps: input should be greater than or equal to 1 (it is 0)"),
        ({"batch_size": 0}, "batch_size: input should be greater than or equal to 1 (it is 0)"),
        ({"jitter": 0.99}, "jitter: input should be greater than or equal to 1 (it is 0.99)"),
        ({"optim": {"lr": 0}}, "optim.lr: input should be greater than 0 (it is 0)"),
        ({"optim": {"lr": float("inf")}}, "optim.lr: input should be a finite number (it is inf)"),
        ({"optim": {"beta1": 1}}, "optim.beta1: input should be less than 1 (it is 1)"),
        ({"seed": -1}, "seed: input should be greater than or equal to 0 (it is -1)"),
        ({"seed": 2**32}, "seed: input should be less than 4294967296 (it is 4294967296)"),
        ({"pool_size": -1}, "pool_size: input should be greater than or equal to 0 (it is -1)"),
        ({"direction": "b_to_b"}, "direction: input should be 'a_to_b' or 'b_to_a' (it is 'b_to_b')"),
        ({"judge": {"patch": 71}}, "judge.patch: input should be 1, 16, 34, 70, 142 or 286 (it is 71)"),
    ],
)
def test_a_wrong_value_is_said_with_what_is_allowed(settings: dict[str, Any], says: str) -> None:
    assert complaint(NEEDED | settings) == says


@pytest.mark.parametrize("weight", [-0.1, float("inf"), float("nan")])
def test_a_weight_is_0_or_more_and_finite(weight: float) -> None:
    assert complaint(NEEDED | {"weights": {"cycle_a": 10, "idt": weight}}).startswith(
        f"weights: idt is {weight}; a weight is 0 or more"
    )


def test_weights_of_any_finite_size_pass() -> None:
    assert train(weights={"idt": 0, "rec": 1e6}).weights == {"idt": 0.0, "rec": 1e6}


def test_yamls_numbers_that_are_strings_are_repaired() -> None:
    # PyYAML reads 1e-3 as text.
    assert train(optim={"lr": "1e-3"}).optim.lr == 0.001


def test_yamls_numbers_that_mean_text_are_text() -> None:
    settings = train(unpaired=200, pairs=20, size=64)
    assert (settings.unpaired, settings.pairs, settings.size) == ("200", "20", "64")


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        train().steps = 5  # type: ignore[misc]


def test_defaults_are_the_published_ones() -> None:
    settings = train()
    assert (settings.optim.lr, settings.optim.beta1, settings.optim.beta2) == (2e-4, 0.5, 0.999)
    assert settings.jitter == 286 / 256
    assert (settings.judge.patch, settings.ngf, settings.flip) == (70, 64, True)


@pytest.mark.parametrize("model", ALL)
def test_every_setting_has_its_line_of_help(model: type[BaseModel]) -> None:
    for name, field in model.model_fields.items():
        assert field.annotation in (JudgeSettings, OptimSettings) or field.description, name
