"""Autograd's own answer, for passes that it knows otherwise than by their operators.

A `detach`, a `no_grad` block or a custom `autograd.Function` says what autograd does with a pass, and leaves no
operator that says so. Where a recording has met one (`Recording.beyond`), its gradients are those of a second pass with
autograd.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointFunction

from deconvviz.engine.backward import walk_by
from deconvviz.engine.capture import Tap, find_taps
from deconvviz.engine.passes import EndOfPass, eager, untouched
from deconvviz.engine.recording import Recording
from deconvviz.engine.rules import Walk
from deconvviz.engine.windows import from_whole
from deconvviz.errors import DeconvvizValueError, UnsupportedOperatorError

_CHECKPOINT = CheckpointFunction.forward.__code__


def derivatives(
    module: nn.Module, rec: Recording, value: int, seed: Tensor, sources: Sequence[int] = (0,)
) -> list[Tensor]:
    """The derivative, for one `seed` on the recorded `value`, by each of the values `sources` (0: the image).

    By the recording's operators; by autograd itself where the pass has parts that they do not show.
    """
    if rec.beyond is not None:
        return [gradients(module, rec, value, [seed], source)[0] for source in sources]
    found = [torch.zeros_like(rec.values[source]) for source in sources]
    walk_by(Walk(rec, "gradient", "add"), value, from_whole(seed[None]), dict(zip(sources, found, strict=True)))
    return found


def gradients(module: nn.Module, rec: Recording, value: int, seeds: Iterable[Tensor], source: int = 0) -> list[Tensor]:
    """The derivative of a recorded value, for each seed on it, by the recorded value `source` (0: the image).

    Raises `UnsupportedOperatorError` where autograd itself cannot, and `DeconvvizValueError` for a model that has
    changed since it was recorded.
    """
    with _with_autograd(module, rec) as run:
        try:
            begin, end = _pass(run, rec, value, source)
            return [_sent(run, begin, end, seed) for seed in seeds]
        except RuntimeError as error:
            line = str(error).strip().splitlines()[0]
            raise UnsupportedOperatorError(
                f"autograd cannot differentiate this pass ({line}); methods 'deconvnet' and 'guided' and "
                "occlude may work"
            ) from error


@contextlib.contextmanager
def followed(module: nn.Module, rec: Recording, value: int) -> Iterator[Callable[[Tensor], Tensor]]:
    """A function of pictures (K, C, H, W) that autograd follows: the recorded `value` as they make it, K rows."""
    (tap,) = find_taps(rec, [value], outermost=True)
    with _with_autograd(module, rec) as run:

        def call(x: Tensor) -> Tensor:
            seen: dict[int, Tensor] = {}
            with eager, _watched(run, tap, value, seen, last=True), contextlib.suppress(EndOfPass):
                run(x.clone())  # a leaf, in which nothing may be written in place
            if value not in seen:
                raise DeconvvizValueError("the model does not run what was recorded: record it again")
            return seen[value]

        yield call


@contextlib.contextmanager
def _with_autograd(module: nn.Module, rec: Recording) -> Iterator[nn.Module]:
    """What to run in the place of `module` for autograd to follow it, and the modes for that."""
    device = rec.values[0].device.type
    cast = torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else None
    with (
        torch.inference_mode(False), torch.enable_grad(), cast or contextlib.nullcontext(),
        untouched(module, frozen=True) as run,
    ):  # fmt: skip
        yield run


def _pass(module: nn.Module, rec: Recording, value: int, source: int) -> tuple[Tensor, Tensor]:
    """`source` and `value` as they come in a pass that autograd follows."""
    image = rec.values[0].detach().clone().requires_grad_(True)
    seen: dict[int, Tensor] = {0: image}
    wanted = [v for v in (source, value) if v != 0]
    with contextlib.ExitStack() as stack, eager:
        for number, tap in zip(wanted, find_taps(rec, wanted, outermost=True), strict=True):
            stack.enter_context(_watched(module, tap, number, seen, last=number == value))
        with contextlib.suppress(EndOfPass):
            module(image.clone())  # of a leaf nothing may be written in place
    if any(v not in seen for v in wanted) or not torch.allclose(seen[value], rec.values[value], 1e-3, 1e-3):
        raise DeconvvizValueError("the model does not run what was recorded: record it again")
    return seen[source], seen[value]


@contextlib.contextmanager
def _watched(module: nn.Module, tap: Tap, number: int, seen: dict[int, Tensor], last: bool) -> Iterator[None]:
    """Keep in `seen` what appears at a tap; behind the `last` the pass ends."""
    if tap.module is None:
        raise UnsupportedOperatorError(
            f"no module returns the value of {tap}, and the pass has parts that only autograd knows: "
            "for method 'gradient' name a layer that is a module; the other methods and occlude work"
        )
    calls = 0

    def hook(_module: nn.Module, _inputs: object, out: Tensor) -> Tensor | None:
        nonlocal calls
        calls += 1
        if calls - 1 != tap.call:
            return None
        if last and not out.requires_grad and _in_checkpoint():
            raise UnsupportedOperatorError(
                f"{tap} runs inside of a re-entrant checkpoint, where autograd follows nothing: for method 'gradient' "
                "checkpoint with use_reentrant=False; the other methods and occlude work"
            )
        seen[number] = out.clone()  # what is written in place later is another value
        if last:
            raise EndOfPass
        return seen[number].clone()

    handle = module.get_submodule(tap.module).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _in_checkpoint() -> bool:
    """Whether this runs in a part of a pass that autograd will run once more by itself."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        if frame.f_code is _CHECKPOINT:
            return True
        frame = frame.f_back
    return False


def _sent(module: nn.Module, begin: Tensor, end: Tensor, seed: Tensor) -> Tensor:
    """The derivative of `end` by `begin`, for one seed; zero where autograd sees no way."""
    if not end.requires_grad:
        return torch.zeros_like(begin)
    found: Tensor | None
    try:
        (found,) = torch.autograd.grad(end, begin, seed, retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        if "checkpoint" not in str(error).lower():
            raise
        found = _by_backward(module, begin, end, seed)
    return torch.zeros_like(begin) if found is None else found.detach()


def _by_backward(module: nn.Module, begin: Tensor, end: Tensor, seed: Tensor) -> Tensor | None:
    """The same where autograd insists on `backward`, which adds to every `grad`: those of the parameters come back."""
    before = [(p, p.grad) for p in module.parameters()]
    try:
        for p, _ in before:
            p.grad = None
        begin.retain_grad()
        begin.grad = None
        end.backward(seed, retain_graph=True)  # type: ignore[no-untyped-call]  # torch's own has no annotations
        return begin.grad
    finally:
        for p, grad in before:
            p.grad = grad
