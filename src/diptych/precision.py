"""The numbers that networks compute in: float32, or bfloat16 where the processor has it, at twice the speed."""

from contextlib import AbstractContextManager
from typing import Literal

import torch

from diptych.errors import DiptychError

Precision = Literal["fp32", "bf16"]


def precision_on(device: torch.device, wanted: Literal["auto", "fp32", "bf16"], bits: int = 8) -> Precision:
    """`"auto"` takes bf16 where the processor computes in it, not where it is emulated, and never above 8 `bits`.

    Raises `DiptychError` where bf16 is wanted for more: it would round away what they are there for.
    """
    if bits > 8 and wanted == "bf16":
        raise DiptychError(f"--precision bf16 keeps 8 bits, these images have {bits}; give --precision fp32")
    if bits > 8:
        return "fp32"
    if wanted != "auto":
        return wanted
    if device.type == "cpu":
        # torch.ops.mkldnn would also say yes where bf16 is emulated, at half the speed of fp32.
        native = bool(torch._C._has_mkldnn) and (
            torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        )
    else:
        native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if native else "fp32"


def computing_in(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """A context in which networks compute in `precision`; what they are given, and their weights, are float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
