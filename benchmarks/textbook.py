"""The textbook: networks and training steps as the papers print them, in plain eager float32, one call an image.

What `diptych` is measured against. It is written for reading, imports nothing of `diptych`, and is not to be made fast.
Its networks have the order of layers, and so the parameters, of diptych's: weights can be copied from one to the other.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Step = Callable[[Tensor, Tensor], dict[str, float]]  # a, b (B, 3, H, W) in [-1, 1] -> the step's terms


def norm_layer(norm: str, channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels) if norm == "instance" else nn.BatchNorm2d(channels)


class ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.branch(x)
        return out


def resnet(ngf: int = 64, blocks: int = 9) -> nn.Module:
    """CycleGAN's generator, `(B, 3, H, W)` in and out."""
    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(3, ngf, 7), nn.InstanceNorm2d(ngf), nn.ReLU()]
    for width in (ngf, 2 * ngf):
        layers += [nn.Conv2d(width, 2 * width, 3, 2, 1), nn.InstanceNorm2d(2 * width), nn.ReLU()]
    layers += [ResidualBlock(4 * ngf) for _ in range(blocks)]
    for width in (4 * ngf, 2 * ngf):
        layers += [nn.ConvTranspose2d(width, width // 2, 3, 2, 1, 1), nn.InstanceNorm2d(width // 2), nn.ReLU()]
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(ngf, 3, 7), nn.Tanh())


class UNet(nn.Module):
    """pix2pix's generator at depth 8, BatchNorm, dropout in three decoder layers; `(B, 3, H, W)` in and out."""

    def __init__(self, ngf: int = 64, depth: int = 8) -> None:
        super().__init__()
        widths = [ngf * min(2**level, 8) for level in range(depth)]
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            layers: list[nn.Module] = [nn.LeakyReLU(0.2)] if level else []
            layers.append(nn.Conv2d(widths[level - 1] if level else 3, width, 4, 2, 1, bias=False))
            if 0 < level < depth - 1:
                layers.append(nn.BatchNorm2d(width))
            self.encoder.append(nn.Sequential(*layers))
        for level in reversed(range(depth)):
            below = widths[level] * (2 if level < depth - 1 else 1)
            if level == 0:
                self.decoder.append(nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(below, 3, 4, 2, 1), nn.Tanh()))
                continue
            width = widths[level - 1]
            layers = [nn.ReLU(), nn.ConvTranspose2d(below, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width)]
            if width == 8 * ngf and level < depth - 1:
                layers.append(nn.Dropout(0.5))
            self.decoder.append(nn.Sequential(*layers))

    def forward(self, x: Tensor) -> Tensor:
        passing = []
        for encode in self.encoder:
            x = encode(x)
            passing.append(x)
        passing.pop()
        for decode in self.decoder:
            x = decode(x)
            if passing:
                x = torch.cat([passing.pop(), x], dim=1)
        return x


def patch_judge(channels: int = 3, ndf: int = 64, norm: str = "instance") -> nn.Module:
    """PatchGAN of 70 px: `(B, channels, H, W)` -> logits `(B, 1, h, w)`."""
    bias = norm == "instance"
    layers: list[nn.Module] = [nn.Conv2d(channels, ndf, 4, 2, 1), nn.LeakyReLU(0.2)]
    for before, after, stride in ((ndf, 2 * ndf, 2), (2 * ndf, 4 * ndf, 2), (4 * ndf, 8 * ndf, 1)):
        layers += [nn.Conv2d(before, after, 4, stride, 1, bias=bias), norm_layer(norm, after), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(8 * ndf, 1, 4, 1, 1))


def adam(*networks: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam([p for network in networks for p in network.parameters()], lr=2e-4, betas=(0.5, 0.999))


def pooled(pool: list[Tensor], images: Tensor, size: int = 50) -> Tensor:
    """The history of fakes, as the papers' code keeps it."""
    shown = []
    for image in images.detach():
        if len(pool) < size:
            pool.append(image.clone())
            shown.append(image)
        elif torch.rand(()) < 0.5:
            place = int(torch.randint(size, ()))
            shown.append(pool[place])
            pool[place] = image.clone()
        else:
            shown.append(image)
    return torch.stack(shown)


def set_trained(networks: list[nn.Module], trained: bool) -> None:
    for network in networks:
        for parameter in network.parameters():
            parameter.requires_grad = trained


def cyclegan_step(g: nn.Module, f: nn.Module, d_a: nn.Module, d_b: nn.Module) -> Step:
    """Zhu et al. 2017: least squares, 10 cycle, 5 identity; generators first, the judges' losses halved."""
    generators, judges = adam(g, f), adam(d_a, d_b)
    pool_a: list[Tensor] = []
    pool_b: list[Tensor] = []

    def step(a: Tensor, b: Tensor) -> dict[str, float]:
        fake_b, fake_a = g(a), f(b)
        cycle_a, cycle_b = f(fake_b), g(fake_a)
        identity_b, identity_a = g(b), f(a)
        set_trained([d_a, d_b], False)
        terms = {
            "adversarial_a": (d_a(fake_a) - 1).square().mean(),
            "adversarial_b": (d_b(fake_b) - 1).square().mean(),
            "cycle_a": F.l1_loss(cycle_a, a),
            "cycle_b": F.l1_loss(cycle_b, b),
            "identity_a": F.l1_loss(identity_a, a),
            "identity_b": F.l1_loss(identity_b, b),
        }
        generators.zero_grad()
        weight = {"adversarial": 1.0, "cycle": 10.0, "identity": 5.0}
        sum(weight[name[:-2]] * term for name, term in terms.items()).backward()  # type: ignore[union-attr]
        generators.step()

        set_trained([d_a, d_b], True)
        judges.zero_grad()
        for name, judge, real, fake in (
            ("judge_a", d_a, a, pooled(pool_a, fake_a)),
            ("judge_b", d_b, b, pooled(pool_b, fake_b)),
        ):
            terms[name] = (judge(real) - 1).square().mean() + judge(fake.detach()).square().mean()
            (0.5 * terms[name]).backward()
        judges.step()
        return {name: term.item() for name, term in terms.items()}

    return step


def shukla_step(g: nn.Module, f: nn.Module, d_a: nn.Module, d_b: nn.Module, paired: bool = True) -> Step:
    """Shukla et al. 2019: relativistic judges first, then 10 cycle, 10 identity and, of pairs, 150 reconstruction."""
    generators, judges = adam(g, f), adam(d_a, d_b)
    pool_a: list[Tensor] = []
    pool_b: list[Tensor] = []

    def step(a: Tensor, b: Tensor) -> dict[str, float]:
        fake_b, fake_a = g(a), f(b)
        cycle_a, cycle_b = f(fake_b), g(fake_a)
        identity_b, identity_a = g(b), f(a)
        terms = {}
        set_trained([d_a, d_b], True)
        judges.zero_grad()
        for name, judge, real, fake in (
            ("judge_a", d_a, a, pooled(pool_a, fake_a)),
            ("judge_b", d_b, b, pooled(pool_b, fake_b)),
        ):
            terms[name] = F.softplus(judge(fake.detach()) - judge(real)).mean()
            terms[name].backward()
        judges.step()

        set_trained([d_a, d_b], False)
        ours = {
            "adversarial_a": F.softplus(d_a(a).detach() - d_a(fake_a)).mean(),
            "adversarial_b": F.softplus(d_b(b).detach() - d_b(fake_b)).mean(),
            "cycle_a": F.l1_loss(cycle_a, a),
            "cycle_b": F.l1_loss(cycle_b, b),
            "identity_a": F.l1_loss(identity_a, a),
            "identity_b": F.l1_loss(identity_b, b),
        }
        if paired:
            ours |= {"reconstruction_a": F.l1_loss(fake_a, a), "reconstruction_b": F.l1_loss(fake_b, b)}
        generators.zero_grad()
        weight = {"adversarial": 1.0, "cycle": 10.0, "identity": 10.0, "reconstruction": 150.0}
        sum(weight[name[:-2]] * term for name, term in ours.items()).backward()  # type: ignore[union-attr]
        generators.step()
        return {name: term.item() for name, term in (terms | ours).items()}

    return step


def pix2pix_step(g: nn.Module, d: nn.Module) -> Step:
    """Isola et al. 2017: a conditional judge first, its loss halved, then 100 L1."""
    generators, judges = adam(g), adam(d)

    def step(a: Tensor, b: Tensor) -> dict[str, float]:
        fake_b = g(a)
        set_trained([d], True)
        judges.zero_grad()
        fake = d(torch.cat([a, fake_b.detach()], 1))
        real = d(torch.cat([a, b], 1))
        judge = F.softplus(-real).mean() + F.softplus(fake).mean()
        (0.5 * judge).backward()
        judges.step()
        set_trained([d], False)
        generators.zero_grad()
        adversarial = F.softplus(-d(torch.cat([a, fake_b], 1))).mean()
        reconstruction = F.l1_loss(fake_b, b)
        (adversarial + 100 * reconstruction).backward()
        generators.step()
        return {
            "judge_b_given_a": judge.item(),
            "adversarial_b_given_a": adversarial.item(),
            "reconstruction_b": reconstruction.item(),
        }

    return step
