"""Numbers that are none: NaN and infinity in weights, inputs and what a pass makes of them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from deconvviz.engine.recording import Recording, spoken
from deconvviz.errors import DeconvvizValueError, WeightsError


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


def check_value(rec: Recording, value: int, what: str) -> None:
    """Raise `DeconvvizValueError` if a recorded value, `what` in words, has NaN or infinity; it says where they began.

    Minus infinity is a mask.
    """
    found = overflows(rec.values[value])
    if found is None:
        return
    for op in rec.ancestors((value,)):
        first = next((f for f in (overflows(rec.values[o]) for o in op.outputs if o is not None) if f), None)
        if first is not None:
            raise DeconvvizValueError(
                f"{what} is not finite for this picture ({found}): the first to be so is operator '{op.name}' in "
                f"{spoken(op.module)}, {first}; allowed with allow_nonfinite"
            )
    raise DeconvvizValueError(f"{what} is not finite for this picture ({found}); allowed with allow_nonfinite")


def overflows(x: Tensor) -> str | None:
    """What is NaN or plus infinity in a recorded value, as `first_nonfinite` says it; the sum tells most that are not.

    The sum takes one pass and no memory, and where it overflows by itself the numbers are looked through.
    """
    if x.is_meta or not x.is_floating_point() or x.dtype.itemsize == 1:
        return None
    if bool(x.sum(dtype=torch.promote_types(x.dtype, torch.float32)).isfinite()):
        return None
    return first_nonfinite(x.masked_fill(x == -torch.inf, 0))
