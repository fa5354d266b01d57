"""Recording one forward pass: every operator that depends on the image, at dispatcher level.

Module hooks say which module is running; a `TorchDispatchMode` sees every operator that really runs, however it was
spelled.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from deconvviz.engine.diagnosis import check_takes_one_input, described, explain
from deconvviz.engine.nested import leaves, mapped, named
from deconvviz.engine.passes import EndOfPass, plain_mode, untouched, unwrap
from deconvviz.engine.recording import Op, Recording, Ref, op_name, spoken
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, UnsupportedOperatorError

# Operators that hand a tensor's content to Python: what follows could depend on it unseen.
_READS_DATA = {"_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select", "unique"}
# Operators that take shape and dtype from a tensor and nothing of its content: their results are constants.
_FACTORIES = {"new_zeros", "new_ones", "new_full", "new_empty", "zeros_like", "ones_like", "full_like", "empty_like"}


# Methods of a tensor that hand its content out without any operator; only function level sees them.
_HANDS_OUT = {Tensor.numpy, Tensor.tolist, Tensor.__array__}


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's base has no annotations
    def __init__(self, image: Tensor, until: Sequence[str] | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.rec = Recording()
        self.number: dict[int, int] = {}  # id of a tensor → its present value number
        self.held: list[Tensor] = []  # keeps every tensor alive, so that an id is never used twice
        self.alias: dict[int, list[Tensor]] = {}
        self.stale: dict[int, str] = {}
        self.stack: list[str] = []
        self.until, self.paused = until, False
        self.misfit: tuple[RuntimeError | None, str | None] = (None, None)
        self.add_value(image)

    @property
    def where(self) -> str:
        return self.stack[-1] if self.stack else "(the model itself)"

    def add_value(self, tensor: Tensor) -> int:
        self.rec.values.append(tensor)
        number = len(self.rec.values) - 1
        self.number[id(tensor)] = number
        self.held.append(tensor)
        if tensor.layout == torch.strided:
            self.alias.setdefault(tensor.untyped_storage()._cdata, []).append(tensor)
        return number

    def refuse(self, name: str, why: str) -> NoReturn:
        raise UnsupportedOperatorError(f"operator '{name}' in {spoken(self.where)}: {why}")

    def tracked(self, a: Any) -> bool:
        return isinstance(a, Tensor) and id(a) in self.number

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        flat = leaves((args, kwargs))
        name = op_name(func)
        self.rec.dispatched.append(name)
        # Dropout draws its mask on a fresh tensor: nothing of the image is among its arguments.
        if not self.paused and torch.Tag.nondeterministic_seeded in func.tags and "scaled_dot_product" not in name:
            self.refuse(name, "is random; switch it off (for dropout: eval mode)")
        if self.paused or not any(self.tracked(a) for a in flat):
            return func(*args, **kwargs)
        if name in _FACTORIES:
            return func(*args, **kwargs)
        self.check(func, name, flat)
        written = self.written(func, name, args, kwargs)
        record_args = mapped(lambda a: Ref(self.number[id(a)]) if self.tracked(a) else a, (args, kwargs))
        inputs = tuple(self.number[id(a)] for a in flat if self.tracked(a))
        for tensor in written:
            self.save(tensor)
        try:
            out = func(*args, **kwargs)
        except RuntimeError as error:
            op = Op(-1, name, func, tuple(args), dict(kwargs), (), (), self.where, -1)
            self.misfit = (error, explain(self.rec, op))
            raise
        for tensor in written:
            self.mark_stale(tensor, name)
        self.keep(name, func, record_args, inputs, out)
        return out

    def check(self, func: Any, name: str, flat: list[Any]) -> None:
        if name in _READS_DATA:
            self.refuse(name, "reads values back into Python (a data-dependent branch); it cannot be recorded")
        if torch.Tag.nondeterministic_seeded in func.tags and "scaled_dot_product" not in name:
            self.refuse(name, "is random; switch it off (for dropout: eval mode)")
        for a in flat:
            if self.tracked(a) and id(a) in self.stale:
                self.refuse(name, f"reads a tensor that '{self.stale[id(a)]}' changed in place through a view")
            if isinstance(a, Tensor) and (a.is_quantized or a.layout != torch.strided):
                self.refuse(name, "works on a quantised or sparse tensor")

    def written(self, func: Any, name: str, args: Any, kwargs: Any) -> list[Tensor]:
        """Tensors that `func` writes to; one that does not depend on the image yet is an error."""
        found = []
        for i, arg in enumerate(func._schema.arguments):
            if arg.alias_info is None or not arg.alias_info.is_write:
                continue
            value = args[i] if i < len(args) else kwargs.get(arg.name)
            for a in leaves(value):
                if self.tracked(a):
                    found.append(a)
                elif isinstance(a, Tensor):
                    self.refuse(name, "writes image-dependent values into a constant tensor")
        return found

    def save(self, tensor: Tensor) -> None:
        """Before an in-place write: copy the values that share the storage, which live on in the recording."""
        for other in self.alias.get(tensor.untyped_storage()._cdata, []):
            number = self.number[id(other)]
            if self.rec.values[number] is other:
                self.rec.values[number] = other.clone()

    def mark_stale(self, tensor: Tensor, name: str) -> None:
        for other in self.alias.get(tensor.untyped_storage()._cdata, []):
            if other is not tensor and id(other) in self.number:
                self.stale[id(other)] = name

    def keep(self, name: str, func: Any, record_args: Any, inputs: tuple[int, ...], out: Any) -> None:
        outs = out if isinstance(out, (tuple, list)) else (out,)
        numbers = tuple(self.add_value(o) if isinstance(o, Tensor) else None for o in outs)
        index = len(self.rec.ops)
        at = len(self.rec.dispatched) - 1
        op = Op(index, name, func, record_args[0], record_args[1], inputs, numbers, self.where, at)
        self.rec.ops.append(op)
        for n in numbers:
            if n is not None:
                self.rec.producer[n] = op
        if self.until is not None and self.until[index] != name:
            self.until = None  # not the pass that was planned for: record all of it
        if self.until is not None and index + 1 == len(self.until):
            self.rec.complete = False
            raise EndOfPass

    # Module hooks -------------------------------------------------------------------------------------------------

    def enter(self, path: str) -> None:
        self.stack.append(path)

    def leave(self, path: str, out: Any) -> None:
        while self.stack and self.stack.pop() != path:
            pass
        value = self.number[id(out)] if self.tracked(out) else None
        self.rec.calls.setdefault(path, []).append(value)


class _Functions(TorchFunctionMode):
    """Brackets functions that would dispatch into pieces which mean nothing alone."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        r = self.recorder
        if func in _HANDS_OUT and not r.paused and args and r.tracked(args[0]):
            r.refuse(func.__name__, "hands values to Python (what follows could depend on them unseen)")
        if func is not F.local_response_norm or r.paused or not args or not r.tracked(args[0]):
            return func(*args, **kwargs)
        r.paused = True
        try:
            out = func(*args, **kwargs)
        finally:
            r.paused = False
        refs = (Ref(r.number[id(args[0])]), *args[1:])
        r.keep("local_response_norm", func, (refs, kwargs), (r.number[id(args[0])],), out)
        return out


@contextlib.contextmanager
def _hooks(module: nn.Module, recorder: _Recorder) -> Iterator[None]:
    handles: list[Any] = []
    # One module may stand under several names; its calls are known under the first and copied to the others.
    first: dict[int, str] = {}
    try:
        for path, m in module.named_modules(remove_duplicate=False):
            recorder.rec.kinds[path] = type(m).__name__
            if id(m) in first:
                recorder.rec.calls[path] = recorder.rec.calls.setdefault(first[id(m)], [])
                continue
            first[id(m)] = path
            handles.append(m.register_forward_pre_hook(lambda _m, _a, p=path: recorder.enter(p)))
            handles.append(m.register_forward_hook(lambda _m, _a, out, p=path: recorder.leave(p, out)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def record(module: nn.Module, image: Tensor, until: Sequence[str] | None = None) -> Recording:
    """Run `module` on `image` (1, C, H, W) once and return what ran.

    `until` ends the pass after these operators (their names), if they are the ones that run. The module is left as it
    was: no hook, mode, grad or buffer changed, also after an exception.
    """
    if not isinstance(module, nn.Module):
        raise DeconvvizTypeError(f"model: expected a torch.nn.Module or a Network, got {type(module).__name__}")
    module = unwrap(module)
    check_takes_one_input(module)
    with contextlib.ExitStack() as stack:
        stack.enter_context(plain_mode(image.device.type))
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(untouched(module))
        image = image.detach().clone()
        recorder = _Recorder(image, until)
        stack.enter_context(_hooks(module, recorder))
        try:
            with _Functions(recorder), recorder:
                out = module(image)
        except EndOfPass:
            return recorder.rec
        except RuntimeError as error:
            (failed, why), recorder.misfit = recorder.misfit, (None, None)
            if failed is not error or why is None:
                raise  # an error of the user's own code keeps its type
            raise DeconvvizValueError(why) from error
        recorder.rec.outputs = {name: recorder.number[id(a)] for name, a in named(out) if recorder.tracked(a)}
        recorder.rec.returned = described(out)
        return recorder.rec
