"""Calls of a model through captum's own functions, and whose fault it is if they fail."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, in_one_line
from deconvviz.network.network import Network


class ArgumentError(DeconvvizValueError, AssertionError, IndexError):
    """Arguments that do not fit the model: what captum says by an `AssertionError`, and torch by an `IndexError`."""


class Model:
    """A model to be called by captum's functions, which tells its own errors from theirs."""

    def __init__(self, forward: Callable[..., Any], ready: Callable[[Tensor], Tensor] | None = None) -> None:
        self.forward, self.ready = forward, ready
        self.__signature__ = inspect.signature(forward)  # captum calls what takes nothing with nothing
        self.failed: BaseException | None = None

    def __call__(self, *given: Any) -> Any:
        """The model's answer; `ready` is done before to every tensor."""
        if self.ready is not None:
            given = tuple(self.ready(a) if isinstance(a, Tensor) else a for a in given)
        try:
            return self.forward(*given)
        except BaseException as error:
            self.failed = error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self.forward, name)  # such as the `device_ids` of a DataParallel

    @contextlib.contextmanager
    def arguments(self) -> Iterator[None]:
        """What fails in here, and not in the model, are the arguments."""
        try:
            yield
        except (AssertionError, IndexError) as error:
            if error is self.failed:
                raise
            raise ArgumentError(in_one_line(error)) from error


def module_of(model: object) -> nn.Module:
    """The module of what is given as a model."""
    if isinstance(model, Network):
        return model.module
    if not isinstance(model, nn.Module):
        raise ModelTypeError(f"model is a {type(model).__name__}; allowed: a torch.nn.Module or a Network")
    return model


class ModelTypeError(DeconvvizTypeError, AssertionError):
    """Something else than a model, which captum refuses by an `AssertionError`."""


def tensors_of(inputs: object) -> tuple[Tensor, ...]:
    """The inputs as a tuple."""
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    for n, one in enumerate(given):
        if not isinstance(one, Tensor):
            which = f"inputs[{n}]" if isinstance(inputs, tuple) else "inputs"
            raise ModelTypeError(f"{which} is a {type(one).__name__}; allowed: a tensor, or a tuple of tensors")
    return given
