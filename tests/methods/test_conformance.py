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
WITH_JUDGES = [name for name, kind in METHODS.items() if "judges" in kind.update_order]
WITH_POOLS = [name for name, kind in METHODS.items() if "pool_size" in kind.defaults]


class Small:
    def generator(self, source: str, target: str) -> nn.Module:
        del source, target
        return ResNetGenerator(ngf=4, blocks=1)

    def judge(self, *domains: str) -> nn.Module:
        return PatchJudge(3 * len(domains), patch=16, ndf=4)


def make(
    name: str,
    adversarial: str | None = None,
    weights: dict[str, float] | None = None,
    pool_size: int = 2,
    paired_pool_size: int | None = None,
    pool_reals: bool = False,
) -> Method:
    torch.manual_seed(0)
    kind = METHODS[name]
    options = Options(
        weights=kind.default_weights("a_to_b") | (weights or {}),
        adversarial=adversarial or kind.defaults.get("adversarial", ""),
        perceptual=lambda x: [x, x[:, :, ::2, ::2]],
        pool_size=pool_size,
        paired_pool_size=paired_pool_size,
        pool_reals=pool_reals,
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
every_method_with_judges = pytest.mark.parametrize("name", WITH_JUDGES)
every_method_with_pools = pytest.mark.parametrize("name", WITH_POOLS)
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
@pytest.mark.parametrize("n_pairs", [0, 1, 2])
def test_each_generator_term_reaches_the_generators_it_should(name: str, adversarial: str, n_pairs: int) -> None:
    subject = make(name, adversarial)
    rows = batch(n_pairs)
    terms = subject.generator_terms(rows, subject.translate(rows))
    generators = {key: network for key, network in subject.networks.items() if not is_judge(key)}
    for term_name, term in terms.items():
        kind, domain, *given = term_name.split("_")
        both = kind == "cycle" or (given and n_pairs < 2 and len(generators) == 2)
        expected = set(generators) if both else {key for key in generators if key.endswith(f"to_{domain}")}
        reached = {
            key
            for key, network in generators.items()
            if any(g is not None and g.abs().sum() > 0 for g in gradient_of(term, network))
        }
        assert reached == expected, term_name


@every_method_with_judges
@every_adversarial
@pytest.mark.parametrize("n_pairs", [0, 1, 2])
def test_every_judge_parameter_is_trained(name: str, adversarial: str, n_pairs: int) -> None:
    """All but biases that the mathematics cancels: before InstanceNorm, a relativistic judge's last one, and a hinge
    judge's last one as long as no logit has left the margins, as at the start."""
    subject = make(name, adversarial)
    rows = batch(n_pairs)
    images = {key: value.detach() for key, value in subject.translate(rows).items()}
    for term_name, term in subject.judge_terms(rows, images).items():
        judge = subject.networks[term_name]
        for (key, parameter), gradient in zip(judge.named_parameters(), gradient_of(term, judge), strict=True):
            before_norm = key == "layers.2.bias"
            last = key == "layers.5.bias"
            cancels = before_norm or (last and (ADVERSARIAL[adversarial].relativistic or adversarial == "hinge"))
            assert gradient is not None, key
            size = gradient.abs().max().item()
            assert (size < 1e-12) if cancels else (size > 1e-9), f"{term_name} {key} {size} {parameter.shape}"


@every_method_with_judges
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
    for term_name in TOTAL[name]:
        if not term_name.startswith("adversarial"):
            continue
        judge_name = term_name.replace("adversarial", "judge")
        generator = next(net for key, net in subject.networks.items() if key.endswith(f"to_{term_name.split('_')[1]}"))
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


@every_method_with_pools
def test_nothing_is_translated_for_silent_terms(name: str) -> None:
    subject = make(name, weights={key: 0.0 for key in TOTAL[name] if "identity" not in key})
    assert set(subject.translate(batch(0))) == {"identity_a", "identity_b"}
    others = ("cycle", "identity", "given")
    subject = make(name, weights={key: 0.0 for key in TOTAL[name] if any(part in key for part in others)})
    assert set(subject.translate(batch(0))) == {"fake_a", "fake_b"}


@every_method_with_pools
def test_judges_are_shown_fakes_out_of_the_pool(name: str) -> None:
    subject = make(name, pool_size=1)
    fakes = {name: picture.detach() for name, picture in subject.translate(batch()).items()}
    subject.judge_terms(batch(), fakes)
    state = subject.state_dict()
    for domain in "ab":
        kept = state[f"pool_{domain}"]["images"]  # (1, 3, H, W)
        assert any(torch.equal(kept[0], fake) for fake in fakes[f"fake_{domain}"])
    other = make(name, pool_size=1)
    other.load_state_dict(state, torch.device("cpu"))
    again = {name: picture * 0.1 for name, picture in fakes.items()}
    assert {k: v.item() for k, v in subject.judge_terms(batch(), again).items()} == {
        k: v.item() for k, v in other.judge_terms(batch(), again).items()
    }


def test_paired_rows_have_pools_of_their_own_where_asked() -> None:
    subject = make("shukla", pool_size=3, paired_pool_size=2, pool_reals=True)
    rows = batch(1)
    images = {name: picture.detach() for name, picture in subject.translate(rows).items()}
    subject.judge_terms(rows, images)
    state = subject.state_dict()
    reals = {"a": rows.a, "b": rows.b}
    assert len(state) == 8
    for domain in "ab":
        for group, pictures in (("", images[f"fake_{domain}"]), ("real_", reals[domain])):
            assert torch.equal(state[f"pool_{group}paired_{domain}"]["images"], pictures[:1])
            assert torch.equal(state[f"pool_{group}{domain}"]["images"], pictures[1:])
    draws = [str(entry["rng"]["state"]) for entry in state.values()]
    assert len(set(draws)) == 8  # none follows another


def test_the_conditional_judges_of_tripathy_learn_at_half_the_rate() -> None:
    assert METHODS["tripathy"].lr_scale == {"judge_a_given_b": 0.5, "judge_b_given_a": 0.5}
    assert set(METHODS["tripathy"].lr_scale) <= set(make("tripathy").networks)
    assert not any(METHODS[name].lr_scale for name in METHODS if name != "tripathy")


def test_the_update_orders_are_the_papers() -> None:
    assert METHODS["supervised"].update_order == ("generators",)
    assert METHODS["tripathy"].update_order == ("generators", "judges")
    assert METHODS["cyclegan"].update_order == ("generators", "judges")
    assert METHODS["pix2pix"].update_order == ("judges", "generators")
    assert METHODS["shukla"].update_order == ("judges", "generators")
