"""The layers that generators are made of, each as a window of its answer: which part of what goes in it reads."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from diptych.networks.dropout import dropped
from diptych.tiling.maps import FeatureMap, cannot, moments, stored

Pair = tuple[int, int]  # along height and width
Spans = tuple[range, range]  # rows and columns


def clipped(span: range, length: int) -> range:
    """The places of `span` in 0 .. length - 1."""
    return range(max(span.start, 0), min(span.stop, length))


def mirrored(span: range, length: int) -> NDArray[np.int64]:
    """Where in 0 .. length - 1 the places of `span` lie, mirrored at both ends as often as need be."""
    if length == 1:
        return np.zeros(len(span), np.int64)
    period = 2 * (length - 1)
    places = np.arange(span.start, span.stop) % period
    return np.minimum(places, period - places)


def _seen(spans: Spans, kernel: Sequence[int], stride: Pair, padding: Pair) -> Spans:
    """What a strided kernel sees for the answers `spans`; it may lie beyond the map."""
    rows, columns = (
        range(span.start * step - pad, (span.stop - 1) * step - pad + reach)
        for span, reach, step, pad in zip(spans, kernel, stride, padding, strict=True)
    )
    return rows, columns


def _read_beyond(x: FeatureMap, spans: Spans, value: float = 0) -> Tensor:
    """The window of `x`, with `value` where it lies outside the map."""
    (rows, columns), (tall, wide) = spans, (clipped(spans[0], x.height), clipped(spans[1], x.width))
    beyond = (
        wide.start - columns.start,
        columns.stop - wide.stop,
        tall.start - rows.start,
        rows.stop - tall.stop,
    )
    window = x.read(tall, wide)
    return F.pad(window, beyond, value=value) if any(beyond) else window


def _pointwise(function: Callable[..., Tensor], *maps: FeatureMap, channels: int | None = None) -> FeatureMap:
    """`function` of the same window of every map, which must not look beyond a pixel."""
    first = maps[0]

    def read(rows: range, columns: range) -> Tensor:
        return function(*(x.read(rows, columns) for x in maps))

    shape = (channels or first.channels, first.height, first.width)
    return FeatureMap(first.work, shape, read, sum(x.cost + x.channels for x in maps))


def _kernel(weight: Tensor, dilation: Pair) -> Pair:
    """Reach along height and width."""
    return dilation[0] * (weight.shape[2] - 1) + 1, dilation[1] * (weight.shape[3] - 1) + 1


def _conv2d(
    x: FeatureMap, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> FeatureMap:
    kernel = _kernel(weight, dilation)

    def read(rows: range, columns: range) -> Tensor:
        window = _read_beyond(x, _seen((rows, columns), kernel, stride, padding))
        return F.conv2d(window, weight, bias, stride, 0, dilation, groups)

    height = (x.height + 2 * padding[0] - kernel[0]) // stride[0] + 1
    width = (x.width + 2 * padding[1] - kernel[1]) // stride[1] + 1
    cost = weight.numel() + x.cost * math.prod(stride)
    return stored(FeatureMap(x.work, (len(weight), height, width), read, cost))


def _conv_transpose2d(
    x: FeatureMap,
    weight: Tensor,
    bias: Tensor | None,
    stride: Pair,
    padding: Pair,
    output_padding: Pair,
    groups: int,
    dilation: Pair,
) -> FeatureMap:
    kernel = _kernel(weight, dilation)
    numbers = zip(kernel, stride, padding, output_padding, strict=True)
    if any(reach < step or more > pad for reach, step, pad, more in numbers):
        cannot("has a transposed convolution with answers that no input reaches")

    def seen(span: range, axis: int) -> tuple[range, slice]:
        # Input i adds to the answers i * step - pad .. i * step - pad + reach - 1.
        reach, step, pad = kernel[axis], stride[axis], padding[axis]
        first, last = -((reach - 1 - pad - span.start) // step), (span.stop - 1 + pad) // step
        inside = clipped(range(first, last + 1), x.shape[1 + axis])
        start = span.start - (inside.start * step - pad)
        return inside, slice(start, start + len(span))

    def read(rows: range, columns: range) -> Tensor:
        (tall, lines), (wide, places) = seen(rows, 0), seen(columns, 1)
        return F.conv_transpose2d(x.read(tall, wide), weight, bias, stride, 0, 0, groups, dilation)[..., lines, places]

    height, width = (
        (length - 1) * step - 2 * pad + reach + more
        for length, step, pad, reach, more in zip(x.shape[1:], stride, padding, kernel, output_padding, strict=True)
    )
    cost = (weight.numel() + x.cost) / math.prod(stride)
    return stored(FeatureMap(x.work, (weight.shape[1] * groups, height, width), read, cost))


def _max_pool2d(x: FeatureMap, kernel: int, stride: int, padding: int, **_: object) -> FeatureMap:
    def read(rows: range, columns: range) -> Tensor:
        spans = _seen((rows, columns), (kernel, kernel), (stride, stride), (padding, padding))
        return F.max_pool2d(_read_beyond(x, spans, -math.inf), kernel, stride)

    height, width = ((length + 2 * padding - kernel) // stride + 1 for length in x.shape[1:])
    return stored(FeatureMap(x.work, (x.channels, height, width), read, (x.cost + x.channels) * stride**2))


def _pad(x: FeatureMap, padding: Sequence[int], mode: str, **_: object) -> FeatureMap:
    if mode != "reflect":
        cannot(f"pads in the mode {mode}")
    left, right, top, bottom = padding

    def read(rows: range, columns: range) -> Tensor:
        places = [
            mirrored(range(span.start - before, span.stop - before), length)
            for span, before, length in ((rows, top, x.height), (columns, left, x.width))
        ]
        window = x.read(*(range(int(at.min()), int(at.max()) + 1) for at in places))
        window = window.permute(0, 2, 3, 1)  # index_select would put the channels first
        for axis, at in enumerate(places, start=1):
            if len(at) != window.shape[axis] or (np.diff(at) < 0).any():
                window = window.index_select(axis, torch.from_numpy(at - at.min()).to(window.device))
        return window.permute(0, 3, 1, 2)

    return FeatureMap(x.work, (x.channels, x.height + top + bottom, x.width + left + right), read, x.cost)


def _interpolate(x: FeatureMap, scale_factor: int, mode: str, align_corners: bool, **_: object) -> FeatureMap:
    if mode != "bilinear" or align_corners:
        cannot(f"resizes in the mode {mode}")

    def seen(span: range, length: int) -> tuple[range, slice]:
        # Answer o lies between the inputs on both sides of (o + 1/2) / factor - 1/2, or beyond the outermost.
        first, last = (math.floor((place + 0.5) / scale_factor - 0.5) for place in (span.start, span.stop - 1))
        inside = clipped(range(first, last + 2), length)
        start = span.start - inside.start * scale_factor
        return inside, slice(start, start + len(span))

    def read(rows: range, columns: range) -> Tensor:
        (tall, lines), (wide, places) = seen(rows, x.height), seen(columns, x.width)
        out = F.interpolate(x.read(tall, wide), scale_factor=scale_factor, mode=mode, align_corners=False)
        return out[..., lines, places]

    shape = (x.channels, x.height * scale_factor, x.width * scale_factor)
    return stored(FeatureMap(x.work, shape, read, 4 * x.channels + x.cost))


def _normalised(
    x: FeatureMap, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float
) -> FeatureMap:
    mean, variance = (value.float().to(x.work.device).view(-1, 1, 1) for value in (mean, variance))
    scale = (variance + epsilon).rsqrt() * (1 if weight is None else weight.view(-1, 1, 1))

    def function(window: Tensor) -> Tensor:
        out = window.sub_(mean).mul_(scale)
        return out if bias is None else out.add_(bias.view(-1, 1, 1))

    return _pointwise(function, x)


def _norm(
    x: FeatureMap,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    own: bool,
    eps: float,
    **_: object,
) -> FeatureMap:
    """With the statistics of the whole map if they are to be its `own`, else with the running ones."""
    if own:
        whole = moments(x)
        return _normalised(x, whole.mean, whole.variance, weight, bias, eps)
    assert running_mean is not None
    assert running_var is not None
    return _normalised(x, running_mean, running_var, weight, bias, eps)


def _dropout(x: FeatureMap, p: float, training: bool, **_: object) -> FeatureMap:
    if not training:
        return x
    layer = next(x.work.dropouts)

    def read(rows: range, columns: range) -> Tensor:
        return dropped(x.read(rows, columns), p, layer, rows.start, columns.start)

    return FeatureMap(x.work, x.shape, read, x.cost + x.channels)


def _add(x: FeatureMap, other: FeatureMap | Tensor | float) -> FeatureMap:
    if isinstance(other, FeatureMap):
        return stored(_pointwise(Tensor.add_, x, other))
    return _pointwise(lambda window: window + other, x)


LAYERS: dict[Callable[..., Any], Callable[..., FeatureMap]] = {
    torch.add: _add,
    torch.sub: lambda x, other: _pointwise(lambda window: window - other, x),
    torch.div: lambda x, other: _pointwise(lambda window: window / other, x),
    torch.cat: lambda maps, dim: _pointwise(
        lambda *windows: torch.cat(windows, dim), *maps, channels=sum(x.channels for x in maps)
    ),
    torch.tanh: lambda x: _pointwise(torch.tanh, x),
    F.relu: lambda x, **_: _pointwise(torch.relu_, x),
    F.leaky_relu: lambda x, negative_slope, **_: _pointwise(lambda window: F.leaky_relu_(window, negative_slope), x),
    torch.conv2d: _conv2d,
    torch.conv_transpose2d: _conv_transpose2d,
    F.max_pool2d: _max_pool2d,
    F.pad: _pad,
    F.interpolate: _interpolate,
    F.instance_norm: lambda x, use_input_stats, **rest: _norm(x, own=use_input_stats, **rest),
    F.batch_norm: lambda x, running_mean, running_var, training, **rest: _norm(
        x, running_mean, running_var, own=training, **rest
    ),
    F.dropout: _dropout,
}
"""torch function -> the same on feature maps, called alike."""
