"""What every method must hold, over all of `METHODS` and all adversarial objectives."""

import pytest
import torch
from torch import Tensor, nn

from diptych.batches import Batch
from diptych.losses import ADVERSARIAL
from diptych.methods import METHODS
from diptych.methods.base import Method, Options
from diptych.networks import PatchJudge, ResNetGenerator

SIZE = 24
TOTAL = {name: kind.default_weights("a_to_b") for name, kind in METHODS.items()}


class Small:
    def generator(self, source: str, target: str) -> nn.Module:
        del source, target
        return ResNetGenerator(ngf=4, blocks=1)

    def judge(self, *domains: str) -> nn.Module:
        return PatchJudge(3 * len(domains), patch=16, ndf=4)


def make(
    name: str, adversarial: str | None = None, weights: dict[str, float] | None = None, pool_size: int = 2
) -> Method:
    torch.manual_seed(0)
    kind = METHODS[name]
    options = Options(
        weights=kind.default_weights("a_to_b") | (weights or {}),
        adversarial=adversarial or kind.defaults["adversarial"],
        pool_size=pool_size,
    )
    built = kind(Small(), options)
    for network in built.networks.values():
        network.double()
    return built


def batch(n_pairs: int = 2) -> Batch:
    rows = torch.rand(2, 2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1
    return Batch(rows[0], rows[1], n_pairs)


def is_judge(name: str) -> bool:
    return name.startswith("judge")


every_method = pytest.mark.parametrize("name", list(METHODS))
every_adversarial = pytest.mark.parametrize("adversarial", list(ADVERSARIAL))


@every_method
def test_terms_are_named_as_their_weights(name: str) -> None:
    subject = make(name)
    images = subject.translate(batch())
    generators, judges = subject.generator_terms(batch(), images), subject.judge_terms(batch(), images)
    assert not set(generators) & set(judges)
    assert set(generators) | set(judges) == set(TOTAL[name])
    assert set(judges) == {network for network in subject.networks if is_judge(network)}
    assert all(term.shape == () for term in (generators | judges).values())


@every_method
@every_adversarial
def test_each_generator_term_reaches_the_generators_it_should(name: str, adversarial: str) -> None:
    subject = make(name, adversarial)
    terms = subject.generator_terms(batch(), subject.translate(batch()))
    generators = {key: network for key, network in subject.networks.items() if not is_judge(key)}
    for term_name, term in terms.items():
        kind, domain = term_name.rsplit("_", 1)
        expected = set(generators) if kind == "cycle" else {key for key in generators if key.endswith(f"to_{domain}")}
        reached = {
            key
            for key, network in generators.items()
            if any(g is not None and g.abs().sum() > 0 for g in gradient_of(term, network))
        }
        assert reached == expected, term_name


@every_method
@every_adversarial
def test_every_judge_parameter_is_trained(name: str, adversarial: str) -> None:
    """All but the biases that the mathematics cancels: before InstanceNorm, and a relativistic judge's last one."""
    subject = make(name, adversarial)
    images = {key: value.detach() for key, value in subject.translate(batch()).items()}
    for term_name, term in subject.judge_terms(batch(), images).items():
        judge = subject.networks[term_name]
        for (key, parameter), gradient in zip(judge.named_parameters(), gradient_of(term, judge), strict=True):
            before_norm = key == "layers.2.bias"
            last = key == "layers.5.bias"
            cancels = before_norm or (last and ADVERSARIAL[adversarial].relativistic)
            assert gradient is not None, key
            size = gradient.abs().max().item()
            assert (size < 1e-12) if cancels else (size > 1e-9), f"{term_name} {key} {size} {parameter.shape}"


@every_method
@every_adversarial
def test_one_step_down_the_gradient_serves_each_side(name: str, adversarial: str) -> None:
    """The judge comes to tell real from fake better, the generator comes to be told worse: no sign is wrong."""
    subject = make(name, adversarial, pool_size=0)
    rows = batch()
    images = {key: value.detach() for key, value in subject.translate(rows).items()}
    for term_name in subject.judge_terms(rows, images):
        before = margin(subject, term_name, rows, images)
        step_down(subject.networks[term_name], subject.judge_terms(rows, images)[term_name])
        assert margin(subject, term_name, rows, images) > before
    for domain in "ab":
        term_name = f"adversarial_{domain}"
        if term_name not in TOTAL[name]:
            continue
        judge_name = next(key for key in subject.networks if key.startswith(f"judge_{domain}"))
        generator = next(net for key, net in subject.networks.items() if key.endswith(f"to_{domain}"))
        before = margin(subject, judge_name, rows, subject.translate(rows))
        step_down(generator, subject.generator_terms(rows, subject.translate(rows))[term_name])
        assert margin(subject, judge_name, rows, subject.translate(rows)) < before


def margin(subject: Method, judge_name: str, rows: Batch, images: dict[str, Tensor]) -> float:
    """Mean logit of the real images less that of the fakes."""
    domain = judge_name.split("_")[1]
    real = {"a": rows.a, "b": rows.b}
    shown = [real[domain], images[f"fake_{domain}"]]
    if "given" in judge_name:
        condition = real[judge_name[-1]]
        shown = [torch.cat([condition, picture], 1) for picture in shown]
    with torch.no_grad():
        logits = [subject.networks[judge_name](picture).mean().item() for picture in shown]
    return logits[0] - logits[1]


def step_down(network: nn.Module, term: Tensor) -> None:
    for parameter, gradient in zip(network.parameters(), gradient_of(term, network), strict=True):
        if gradient is not None:
            parameter.data -= 1e-4 * gradient


def gradient_of(term: Tensor, network: nn.Module) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(term, list(network.parameters()), allow_unused=True, retain_graph=True)


@every_method
def test_a_term_of_weight_zero_is_not_computed(name: str) -> None:
    for silent in TOTAL[name]:
        subject = make(name, weights={silent: 0.0})
        images = subject.translate(batch())
        terms = subject.generator_terms(batch(), images) | subject.judge_terms(batch(), images)
        assert set(terms) == set(TOTAL[name]) - {silent}


@pytest.mark.parametrize("name", ["cyclegan", "shukla"])
def test_nothing_is_translated_for_silent_terms(name: str) -> None:
    subject = make(name, weights={key: 0.0 for key in TOTAL[name] if "identity" not in key})
    assert set(subject.translate(batch(0))) == {"identity_a", "identity_b"}
    subject = make(name, weights={key: 0.0 for key in TOTAL[name] if "cycle" in key or "identity" in key})
    assert set(subject.translate(batch(0))) == {"fake_a", "fake_b"}


@pytest.mark.parametrize("name", ["cyclegan", "shukla"])
def test_judges_are_shown_fakes_out_of_the_pool(name: str) -> None:
    subject = make(name, pool_size=1)
    fakes = {"fake_a": batch().a * 0.5, "fake_b": batch().b * 0.25}
    subject.judge_terms(batch(), fakes)
    state = subject.state_dict()
    for domain in "ab":
        kept = state[f"pool_{domain}"]["images"]  # (1, 3, H, W)
        assert any(torch.equal(kept[0], fake) for fake in fakes[f"fake_{domain}"])
    other = make(name, pool_size=1)
    other.load_state_dict(state, torch.device("cpu"))
    again = {"fake_a": batch().a * 0.1, "fake_b": batch().b * 0.1}
    assert {k: v.item() for k, v in subject.judge_terms(batch(), again).items()} == {
        k: v.item() for k, v in other.judge_terms(batch(), again).items()
    }


def test_the_update_orders_are_the_papers() -> None:
    assert METHODS["cyclegan"].update_order == ("generators", "judges")
    assert METHODS["pix2pix"].update_order == ("judges", "generators")
    assert METHODS["shukla"].update_order == ("judges", "generators")
