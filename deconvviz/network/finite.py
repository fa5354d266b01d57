"""Numbers that are none: NaN and infinity in weights and inputs."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from deconvviz.errors import WeightsError


def first_nonfinite(x: Tensor) -> str | None:
    """What stands at the first place of `x` that is not finite, and where; None if there is none."""
    if x.is_meta or not x.is_floating_point():
        return None
    x = x.detach()
    finite = (x if x.dtype.itemsize > 1 else x.float()).isfinite()
    if bool(finite.all()):
        return None
    place = tuple((~finite).nonzero()[0].tolist())
    return f"{float(x[place])} at {place}" if place else f"{float(x)}"


def check_weights(module: nn.Module, source: str = "the network") -> None:
    """Raise `WeightsError` that names the first parameter or buffer of `module` that is not finite.

    Minus infinity in a buffer is a mask, and infinity in one of a single number a bound that is never met.
    """
    check_tensors(
        ((k, p) for k, p in module.named_parameters() if not isinstance(p, nn.UninitializedParameter)), source
    )
    buffers = (
        (k, b.masked_fill(b.isinf() if b.dim() == 0 else b == -torch.inf, 0)) for k, b in module.named_buffers()
        if b.is_floating_point() and b.dtype.itemsize > 1 and not b.is_meta
    )  # fmt: skip
    check_tensors(buffers, source)


def check_tensors(tensors: Iterable[tuple[str, Tensor]], source: str) -> None:
    """Raise `WeightsError` for the first of these tensors, by name, that is not finite."""
    for name, value in tensors:
        if value.layout != torch.strided or value.is_quantized:
            continue
        found = first_nonfinite(value)
        if found is not None:
            raise WeightsError(
                f"{source} holds weights that are not finite: '{name}' has {found}; allowed with allow_nonfinite"
            )
