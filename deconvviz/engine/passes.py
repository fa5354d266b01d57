"""A forward pass that leaves the model as it was: the plain module, plain modes, an early end."""

from __future__ import annotations

import contextlib
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from deconvviz.engine.holding import held
from deconvviz.engine.stand_ins import StandIn
from deconvviz.errors import DeconvvizValueError, UnsupportedOperatorError


class EndOfPass(BaseException):
    """Ends a forward pass early; a BaseException, so that no `except Exception` in a model swallows it."""


def unwrap(module: nn.Module) -> nn.Module:
    """The plain module inside DataParallel, DistributedDataParallel or `torch.compile`."""
    while True:
        if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            module = module.module
        elif hasattr(module, "_orig_mod") and isinstance(module._orig_mod, nn.Module):
            module = module._orig_mod
        else:
            break
    for name, m in module.named_modules():
        if isinstance(m, torch.jit.ScriptModule):
            raise UnsupportedOperatorError(f"module '{name or 'the model'}' is a script module; give the eager one")
        if any(isinstance(p, nn.UninitializedParameter) for p in m.parameters(recurse=False)):
            raise DeconvvizValueError(
                f"module '{name or 'the model'}' is lazy and has no weights yet; run it once first"
            )
    return module


def fitting(module: nn.Module, x: Tensor) -> Tensor:
    """`x` on the device and in the dtype of the module: of its first floating parameter or buffer."""
    own = itertools.chain(module.parameters(), module.buffers())
    like = next((t for t in own if t.is_floating_point()), x)
    return x.to(like.device, like.dtype)


@contextlib.contextmanager
def plain_mode(device: str) -> Iterator[None]:
    """No grad, no inference mode, no autocast, whatever the caller has on."""
    # The meta device has no autocast: shapes alone can be recorded there, without memory or time.
    cast = (
        torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else contextlib.nullcontext()
    )
    with torch.inference_mode(False), torch.no_grad(), cast:
        yield


class ForAllThreads:
    """A context that is one for all threads: the first to come enters it, the last to go leaves it."""

    def __init__(self, make: Callable[[], contextlib.AbstractContextManager[Any]]) -> None:
        self._make, self._lock, self._inside = make, threading.Lock(), 0
        self._context: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._context = self._make()
                self._context.__enter__()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._context.__exit__(None, None, None)


# What `torch.compile` has compiled runs as it is written.
eager = ForAllThreads(lambda: torch.compiler.set_stance("force_eager"))

# Models of which something runs that no stand-in replaces.
_STRAYS: weakref.WeakSet[nn.Module] = weakref.WeakSet()


def note_stray(module: nn.Module) -> None:
    """Run this model itself from here on: its stand-in ran parts of the model."""
    _STRAYS.add(module)


def runs_astray(module: nn.Module) -> bool:
    """Whether a pass of this model was seen to run parts that no copy of its modules replaces."""
    return module in _STRAYS


@contextlib.contextmanager
def untouched(module: nn.Module, frozen: bool = False) -> Iterator[nn.Module]:
    """What to run, and to hook, in the place of `module`: in eval mode, and nothing that is done to it stays.

    It is a stand-in, so that no other thread sees anything of the pass; or, where there can be none, the module itself,
    module by module in eval mode, whose modes and buffers come back whatever happens. Either is `held` meanwhile.
    `frozen`: see `StandIn`.
    """
    with held(module):
        twin = None if module in _STRAYS else StandIn(module, frozen).module
        if twin is not None:
            yield twin
            return
        with _switched(module):
            yield module


@contextlib.contextmanager
def _switched(module: nn.Module) -> Iterator[None]:
    """Eval mode module by module; modes and buffers come back whatever happens."""
    modes = [(m, m.training) for m in module.modules()]
    with buffers_kept(module):
        try:
            for m, _ in modes:
                m.training = False
            yield
        finally:
            for m, mode in modes:
                m.training = mode


@contextlib.contextmanager
def buffers_kept(module: nn.Module) -> Iterator[None]:
    """The module's buffers come back whatever happens: those that it has, and what is in them."""
    modules = list(module.modules())
    buffers = [dict(m._buffers) for m in modules]
    copies = [(b, b._version, b.clone()) for d in buffers for b in d.values() if b is not None and not b.is_inference()]
    try:
        yield
    finally:
        for m, own in zip(modules, buffers, strict=True):
            m._buffers.clear()  # one that forward itself registered goes, too
            m._buffers.update(own)
        with torch.no_grad():
            for b, version, copy in copies:
                # A BatchNorm counts no version when it writes its statistics.
                if b._version != version or not torch.equal(b, copy):
                    b.copy_(copy)
