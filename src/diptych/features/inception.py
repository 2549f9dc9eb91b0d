"""The Inception-V3 of FID: the network that published FID, KID and precision/recall were measured with.

It is the ImageNet network "inception-2015-12-05" of TensorFlow, whose weights the pytorch-fid project saved under
torchvision's names; modules here bear these names, so that its file fits as it is. It differs from torchvision's own
Inception-V3 (Szegedy et al. 2016) in five things:

- 1008 outputs, and no auxiliary classifier
- average pooling over the pixels that exist: padding is not counted
- max pooling in the pool branch of the last block, `Mixed_7c`
- TensorFlow 1's bilinear resize to 299 x 299: output pixel i lies at i * (input / 299) of the input, not at the centre
  of its share, and nothing is averaged when the picture shrinks
- pixels 0..255 enter as (x - 128) / 128, the subtraction and multiplication (by 0.0078125) at the head of its graph

The last two are those of the original graph, which the published numbers went through, and of torch-fidelity.
pytorch-fid itself resizes with half-pixel centres and scales by 2 x / 255 - 1, so that its FID differs slightly.

The features are "pool3", the 2048 means over the last block's 8 x 8 positions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from diptych.errors import DiptychError, reason
from diptych.images import read_view
from diptych.reading import sha256
from diptych.weights import read_weights

URL = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
HASH_PREFIX = "6726825d"  # of the file's SHA-256
SIDE = 299  # pixels
FILTER = "bilinear as in TensorFlow 1 (no half-pixel centres, not antialiased) to 299x299, then (x - 128) / 128"
VERSION = "inception-1"  # raise it whenever a number below changes: features are cached under it
WANTED = "give pt_inception-2015-12-05-6726825d.pth of the pytorch-fid project"


@dataclass(frozen=True)
class Inception:
    """The frozen network on its device; `identity` changes with its weights, its resize and its input range."""

    identity: str
    network: "InceptionV3"
    device: str

    def read(self, files: Sequence[Path]) -> Tensor:
        """Image files of any size -> what the network sees, uint8 values `(N, 3, 299, 299)` as float32.

        Raises `UnreadableImageError`.
        """
        return torch.stack([resize(torch.from_numpy(read_view(file).copy()).permute(2, 0, 1)) for file in files])

    def describe(self, images: Tensor) -> NDArray[np.float32]:
        """What `read` gave -> pool3 features, float32 `(N, 2048)`."""
        with torch.no_grad():
            features = self.network(images.to(self.device))  # (N, 2048)
        result: NDArray[np.float32] = features.cpu().numpy()
        return result


def load_inception(name: str, device: str) -> Inception:
    """The network with the weights of a file (.pth, .pt, .safetensors), or of pytorch-fid's own for "inception".

    The latter is downloaded once, to where pytorch-fid keeps it too: `checkpoints` in torch's hub folder. Raises
    `DiptychError` where it cannot be had, is damaged, or holds another network.
    """
    path = _downloaded() if name == "inception" else Path(name)
    try:
        digest = sha256(path)
    except OSError as problem:
        raise DiptychError(f"{path}: cannot be read ({reason(problem)}); {WANTED}") from None
    if name == "inception" and not digest.startswith(HASH_PREFIX):
        raise DiptychError(f"{path}: is damaged (its SHA-256 does not begin with {HASH_PREFIX}); delete it")
    try:
        state = read_weights(path)
    except DiptychError as problem:
        raise DiptychError(f"{problem}; {WANTED}") from None
    with torch.device("meta"):
        network = InceptionV3()
    weights = _fitted(state, network.state_dict(), path)
    network.load_state_dict(weights, assign=True)
    network.requires_grad_(False).eval().to(device)
    return Inception(f"{VERSION} {digest} {FILTER}", network, device)


def resize(image: Tensor) -> Tensor:
    """An image `(C, H, W)` of any type -> float32 `(C, 299, 299)` as TensorFlow 1's bilinear resize gives it.

    Its source coordinates are single-precision products, as there; only the pixels that are used become floats.
    """
    _, height, width = image.shape
    top, bottom, down = _sources(height)
    left, right, across = _sources(width)
    upper, lower = image[:, top], image[:, bottom]  # (C, 299, W) each
    rows = [
        row[:, :, left].float() + (row[:, :, right].float() - row[:, :, left].float()) * across
        for row in (upper, lower)
    ]
    return rows[0] + (rows[1] - rows[0]) * down[:, None]


def _sources(length: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each output pixel of a side: the input pixel before it, the next (or the last), and the latter's share."""
    place = torch.arange(SIDE, dtype=torch.float32) * torch.tensor(length / SIDE, dtype=torch.float32)
    before = place.long().clamp(max=length - 1)
    return before, (before + 1).clamp(max=length - 1), place - before


class InceptionV3(nn.Module):
    """Images `(B, 3, 299, 299)` in 0..255 -> pool3 features `(B, 2048)`; `fc` is in the file and unused."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, 3, stride=2, padded=False)
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3, padded=False)
        self.Conv2d_2b_3x3 = Convolution(32, 64, 3)
        self.Conv2d_3b_1x1 = Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3, padded=False)
        self.Mixed_5b = BlockA(192, pooled=32)
        self.Mixed_5c = BlockA(256, pooled=64)
        self.Mixed_5d = BlockA(288, pooled=64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b = BlockC(128)
        self.Mixed_6c = BlockC(160)
        self.Mixed_6d = BlockC(160)
        self.Mixed_6e = BlockC(192)
        self.Mixed_7a = BlockD()
        self.Mixed_7b = BlockE(1280, average_pool)
        self.Mixed_7c = BlockE(2048, max_pool)
        self.fc = nn.Linear(2048, 1008)

    def forward(self, images: Tensor) -> Tensor:
        x = (images - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))  # (B, 64, 147, 147)
        x = functional.max_pool2d(x, 3, 2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))  # (B, 192, 71, 71)
        x = functional.max_pool2d(x, 3, 2)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))  # (B, 288, 35, 35)
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))  # (B, 768, 17, 17)
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))  # (B, 2048, 8, 8)
        features: Tensor = x.mean((2, 3))
        return features


class Convolution(nn.Module):
    """Convolution, batch norm, ReLU. Where `padded`, the size stays (at stride 1)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, padded: bool = True
    ) -> None:
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, width // 2) if padded else 0
        self.conv = nn.Conv2d(inputs, outputs, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        normalised: Tensor = self.bn(self.conv(x))
        return functional.relu(normalised, inplace=True)


def average_pool(x: Tensor) -> Tensor:
    """Means over 3 x 3 pixels, at the rim over those that exist: `(B, C, H, W)` -> the same."""
    return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def max_pool(x: Tensor) -> Tensor:
    """Maxima over 3 x 3 pixels: `(B, C, H, W)` -> the same."""
    return functional.max_pool2d(x, 3, 1, 1)


class BlockA(nn.Module):
    """`(B, inputs, 35, 35)` -> `(B, 224 + pooled, 35, 35)`."""

    def __init__(self, inputs: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Convolution(inputs, 64, 1)
        self.branch5x5_1 = Convolution(inputs, 48, 1)
        self.branch5x5_2 = Convolution(48, 64, 5)
        self.branch3x3dbl_1 = Convolution(inputs, 64, 1)
        self.branch3x3dbl_2 = Convolution(64, 96, 3)
        self.branch3x3dbl_3 = Convolution(96, 96, 3)
        self.branch_pool = Convolution(inputs, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        twice_three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, twice_three, self.branch_pool(average_pool(x))], 1)


class BlockB(nn.Module):
    """`(B, inputs, 35, 35)` -> `(B, 480 + inputs, 17, 17)`."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = Convolution(inputs, 384, 3, stride=2, padded=False)
        self.branch3x3dbl_1 = Convolution(inputs, 64, 1)
        self.branch3x3dbl_2 = Convolution(64, 96, 3)
        self.branch3x3dbl_3 = Convolution(96, 96, 3, stride=2, padded=False)

    def forward(self, x: Tensor) -> Tensor:
        twice_three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), twice_three, functional.max_pool2d(x, 3, 2)], 1)


class BlockC(nn.Module):
    """`(B, 768, 17, 17)` -> the same; `inner` channels between the 1 x 7 and 7 x 1 convolutions."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.branch1x1 = Convolution(768, 192, 1)
        self.branch7x7_1 = Convolution(768, inner, 1)
        self.branch7x7_2 = Convolution(inner, inner, (1, 7))
        self.branch7x7_3 = Convolution(inner, 192, (7, 1))
        self.branch7x7dbl_1 = Convolution(768, inner, 1)
        self.branch7x7dbl_2 = Convolution(inner, inner, (7, 1))
        self.branch7x7dbl_3 = Convolution(inner, inner, (1, 7))
        self.branch7x7dbl_4 = Convolution(inner, inner, (7, 1))
        self.branch7x7dbl_5 = Convolution(inner, 192, (1, 7))
        self.branch_pool = Convolution(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        twice_seven = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        twice_seven = self.branch7x7dbl_5(self.branch7x7dbl_4(twice_seven))
        return torch.cat([self.branch1x1(x), seven, twice_seven, self.branch_pool(average_pool(x))], 1)


class BlockD(nn.Module):
    """`(B, 768, 17, 17)` -> `(B, 1280, 8, 8)`."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = Convolution(768, 192, 1)
        self.branch3x3_2 = Convolution(192, 320, 3, stride=2, padded=False)
        self.branch7x7x3_1 = Convolution(768, 192, 1)
        self.branch7x7x3_2 = Convolution(192, 192, (1, 7))
        self.branch7x7x3_3 = Convolution(192, 192, (7, 1))
        self.branch7x7x3_4 = Convolution(192, 192, 3, stride=2, padded=False)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return torch.cat([three, self.branch7x7x3_4(seven), functional.max_pool2d(x, 3, 2)], 1)


class BlockE(nn.Module):
    """`(B, inputs, 8, 8)` -> `(B, 2048, 8, 8)`; `pool` is what the pool branch begins with."""

    def __init__(self, inputs: int, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.pool = pool
        self.branch1x1 = Convolution(inputs, 320, 1)
        self.branch3x3_1 = Convolution(inputs, 384, 1)
        self.branch3x3_2a = Convolution(384, 384, (1, 3))
        self.branch3x3_2b = Convolution(384, 384, (3, 1))
        self.branch3x3dbl_1 = Convolution(inputs, 448, 1)
        self.branch3x3dbl_2 = Convolution(448, 384, 3)
        self.branch3x3dbl_3a = Convolution(384, 384, (1, 3))
        self.branch3x3dbl_3b = Convolution(384, 384, (3, 1))
        self.branch_pool = Convolution(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        twice_three = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        branches = [
            self.branch1x1(x),
            *(self.branch3x3_2a(three), self.branch3x3_2b(three)),
            *(self.branch3x3dbl_3a(twice_three), self.branch3x3dbl_3b(twice_three)),
            self.branch_pool(self.pool(x)),
        ]
        return torch.cat(branches, 1)


def _downloaded() -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / URL.rpartition("/")[2]
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # It writes beside the path and moves a complete file there, so that no half of one is ever met.
            torch.hub.download_url_to_file(URL, str(path), hash_prefix=HASH_PREFIX, progress=False)
        except (OSError, HTTPException, RuntimeError) as problem:
            raise DiptychError(
                f"inception: its weights cannot be downloaded from {URL} "
                f"({str(problem) or type(problem).__name__}); fetch this file elsewhere and give its path"
            ) from None
    return path


def _fitted(state: dict[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors that `wanted` names, as float32, with the same shapes and no others besides."""
    weights = {}
    for name, mine in wanted.items():
        if name.endswith("num_batches_tracked"):  # of PyTorch 0.4.1 and later; only training uses it
            weights[name] = state.pop(name, torch.zeros((), dtype=torch.int64))
            continue
        if name not in state:
            raise DiptychError(f"{path}: lacks {name!r}, which FID's Inception has; {WANTED}")
        weights[name] = state.pop(name).float()
        if weights[name].shape != mine.shape:
            shapes = ["x".join(map(str, tensor.shape)) for tensor in (weights[name], mine)]
            raise DiptychError(f"{path}: {name!r} is {shapes[0]}, where FID's Inception has {shapes[1]}; {WANTED}")
    if state:
        raise DiptychError(f"{path}: holds {next(iter(state))!r}, which FID's Inception has not; {WANTED}")
    return weights
