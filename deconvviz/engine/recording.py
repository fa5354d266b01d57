"""Recording one forward pass: every operator that depends on the image, at dispatcher level.

Module hooks say which module is running; a `TorchDispatchMode` sees every operator that really runs, however it was
spelled. Values are numbered as in static single assignment, so an in-place operator makes a new value.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from deconvviz.errors import (
    DeconvvizTypeError,
    DeconvvizValueError,
    UnknownNameError,
    UnsupportedOperatorError,
    suggest,
)


@dataclass(frozen=True)
class Ref:
    """Stands in recorded arguments for the value with this number."""

    value: int


@functools.cache
def _parameters(func: Any) -> dict[str, Any]:
    """What an operator (or a plain function) takes: names in order, each with its default; None where it has none."""
    schema = getattr(func, "_schema", None)
    if schema is None:
        known = inspect.signature(func).parameters
        return {name: None if p.default is p.empty else p.default for name, p in known.items()}
    return {a.name: a.default_value if a.has_default_value() else None for a in schema.arguments}


@dataclass
class Op:
    """One operator that ran: its arguments hold a `Ref` where an image-dependent tensor stood.

    `inputs` are the numbers of those tensors, in the order of the arguments, `outputs` those of its results (None for
    what is no tensor). `position` is its place among all operators of the pass (`Recording.dispatched`), those without
    the image included.
    """

    index: int
    name: str
    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int | None, ...]
    module: str
    position: int

    @functools.cached_property
    def given(self) -> dict[str, Any]:
        """The arguments by the names of the operator's schema, without those left to their defaults."""
        return dict(zip(_parameters(self.func), self.args, strict=False)) | self.kwargs

    def arg(self, name: str, absent: Any = ...) -> Any:
        """The argument of this name, or its default: `op.arg("stride")`.

        `absent` is for a name that this overload does not have ("dim" of a mean over everything); else a KeyError.
        """
        if name in self.given:
            return self.given[name]
        known = _parameters(self.func)
        return known[name] if absent is ... else known.get(name, absent)

    def operand(self, i: int) -> str:
        """Name of the argument that input `i` is: "self" or "other" of a sum. Inputs in lists have none."""
        return [name for name, a in self.given.items() if isinstance(a, Ref)][i]

    def with_args(self, **changed: Any) -> Op:
        """The same operator with other arguments: `op.with_args(weight=w)`."""
        given = {**self.given, **changed}
        args = tuple(given.pop(name) for name in [*self.given][: len(self.args)])
        return replace(self, args=args, kwargs=given)

    def output(self, n: int = 0) -> int:
        """Number of the value that is its `n`-th result."""
        value = self.outputs[n]
        assert value is not None
        return value

    @property
    def in_place(self) -> bool:
        """Whether it writes to its first argument, as `relu_` does."""
        return self.name.endswith("_")

    @property
    def base(self) -> str:
        """Its name, that of an in-place operator without the underscore: "relu" for `relu_`."""
        return self.name.rstrip("_")

    def run(self, change: Callable[[Any], Any]) -> Any:
        """The operator again, with `change` of every argument (also inside lists) in its place."""
        return self.func(*put(change, self.args), **{key: put(change, a) for key, a in self.kwargs.items()})


@dataclass
class Recording:
    """The operators, values and module calls of one forward pass; value 0 is the image (1, C, H, W).

    `dispatched` are the names of all operators in order, also of those that do not depend on the image.
    """

    ops: list[Op] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    producer: dict[int, Op] = field(default_factory=dict)
    calls: dict[str, list[int | None]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    output: int | None = None
    returned: str = "nothing yet"
    complete: bool = True
    dispatched: list[str] = field(default_factory=list)

    def consumers(self, value: int) -> list[Op]:
        """Operators that read `value`."""
        return [op for op in self.ops if value in op.inputs]

    def logits(self, what: str) -> int:
        """The value (1, classes) that came out; if it is something else, an error that says `what` needs logits."""
        shape = () if self.output is None else self.values[self.output].shape
        if self.output is None or len(shape) != 2 or shape[0] != 1:
            raise DeconvvizValueError(
                f"{what} needs a model whose output is logits (N, classes); this one returns {self.returned}"
            )
        return self.output

    def fill(self, op: Op, swap: Mapping[int, Tensor] | None = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments of `op` with the recorded tensors (or those of `swap`, by value number) put back."""

        def back(a: Any) -> Any:
            if isinstance(a, Ref):
                return swap[a.value] if swap is not None and a.value in swap else self.values[a.value]
            return a

        return put(back, op.args), {key: put(back, a) for key, a in op.kwargs.items()}

    def run(self, op: Op, swap: Mapping[int, Tensor]) -> Any:
        """`op` again, with the tensors of `swap` (by value number) in place of the recorded ones."""
        args, kwargs = self.fill(op, swap)
        return op.func(*args, **kwargs)


def put(back: Callable[[Any], Any], given: Any) -> Any:
    """`back` of every argument, also inside lists and tuples; torch's own walk through trees takes ten times longer."""
    if isinstance(given, tuple | list):
        return type(given)([put(back, a) for a in given])
    return back(given)


class _Stop(BaseException):
    """Ends a forward pass early; a BaseException, so that no `except Exception` in a model swallows it."""


# Operators that hand a tensor's content to Python: what follows could depend on it unseen.
_READS_DATA = {"_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select", "unique"}
# Operators that take shape and dtype from a tensor and nothing of its content: their results are constants.
_FACTORIES = {
    "new_zeros",
    "new_ones",
    "new_full",
    "new_empty",
    "zeros_like",
    "ones_like",
    "full_like",
    "empty_like",
}


def spoken(path: str) -> str:
    """A module path as messages say it; "" is the model."""
    return f"layer '{path}'" if path else "the model itself"


# Methods of a tensor that hand its content out without any operator; only function level sees them.
_HANDS_OUT = {Tensor.numpy, Tensor.tolist, Tensor.__array__}


def op_name(func: Any) -> str:
    """Short operator name: `aten.relu_.default` → `relu_`."""
    name = str(func)
    return name.split(".")[1] if name.startswith("aten.") else name.split(".default")[0]


def _leaves(nested: Any) -> list[Any]:
    """What an operator's arguments, nested in lists, tuples and dicts, come to; the general way takes far longer."""
    if isinstance(nested, dict):
        nested = nested.values()
    elif not isinstance(nested, list | tuple):
        return [nested]
    return [leaf for part in nested for leaf in _leaves(part)]


def _mapped(change: Callable[[Any], Any], nested: Any) -> Any:
    """The same nest with every leaf changed."""
    if isinstance(nested, dict):
        return {key: _mapped(change, part) for key, part in nested.items()}
    if isinstance(nested, list | tuple):
        return type(nested)(_mapped(change, part) for part in nested)
    return change(nested)


def _shapes_fail(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether an operator cannot run on arguments of these shapes, whatever their device, dtype and content."""

    def shape_only(a: Any) -> Any:
        return torch.empty(a.shape, device="meta") if isinstance(a, Tensor) else a

    try:
        func(*_mapped(shape_only, args), **_mapped(shape_only, kwargs))
    except RuntimeError:
        return True
    return False


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's base has no annotations
    def __init__(self, image: Tensor, stop: int | None, names: Sequence[str] | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.rec = Recording()
        self.number: dict[int, int] = {}  # id of a tensor → its present value number
        self.held: list[Tensor] = []  # keeps every tensor alive, so that an id is never used twice
        self.alias: dict[int, list[Tensor]] = {}
        self.stale: dict[int, str] = {}
        self.stack: list[str] = []
        self.stop, self.names, self.paused = stop, names, False
        self.misfit: tuple[RuntimeError | None, str | None] = (None, None)
        self.image_shape = tuple(image.shape)
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
        flat = _leaves((args, kwargs))
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
        record_args = _mapped(lambda a: Ref(self.number[id(a)]) if self.tracked(a) else a, (args, kwargs))
        inputs = tuple(self.number[id(a)] for a in flat if self.tracked(a))
        for tensor in written:
            self.save(tensor)
        try:
            out = func(*args, **kwargs)
        except RuntimeError as error:
            self.misfit = (error, self.explain(name, func, args, kwargs))
            raise
        for tensor in written:
            self.mark_stale(tensor, name)
        self.keep(name, func, record_args, inputs, out)
        return out

    def explain(self, name: str, func: Any, args: Any, kwargs: Any) -> str | None:
        """Why an operator cannot take what this image leads to, in one line; None if its shapes are not to blame."""
        if not _shapes_fail(func, args, kwargs):
            return None
        channels, height, width = self.image_shape[1:]
        takes = args[1].shape[1] * args[8] if name == "convolution" else None
        if takes is not None and takes != args[0].shape[1]:
            first = not any(op.name == "convolution" for op in self.rec.ops)
            text = f"image has {channels} channels; the first convolution ('{self.where}') takes {takes}"
            return text if first else None
        image = f"an image of {height}×{width} does not fit this network: layer '{self.where}'"
        if name == "convolution" or "pool" in name or name.endswith("_pad2d"):
            size = "×".join(str(n) for n in args[0].shape[2:])
            return f"{image} ({name}) got a map of {size}, which is too small"
        if name in ("addmm", "mm"):
            return f"{image} takes {args[-1].shape[0]} numbers and got {args[-2].shape[1]}"
        return None

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
            for a in _leaves(value):
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
        if self.names is not None and (index >= len(self.names) or self.names[index] != name):
            self.stop = self.names = None  # not the pass that was planned for: record all of it
        if self.stop is not None and index + 1 == self.stop:
            self.rec.complete = False
            raise _Stop

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


@contextlib.contextmanager
def plain_mode(device: str) -> Iterator[None]:
    """No grad, no inference mode, no autocast, whatever the caller has on."""
    # The meta device has no autocast: shapes alone can be recorded there, without memory or time.
    cast = (
        torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else contextlib.nullcontext()
    )
    with torch.inference_mode(False), torch.no_grad(), cast:
        yield


@contextlib.contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """Eval mode module by module; modes and buffers come back whatever happens."""
    modules = list(module.modules())
    modes = [m.training for m in modules]
    buffers = [dict(m._buffers) for m in modules]
    copies = [(b, b._version, b.clone()) for d in buffers for b in d.values() if b is not None and not b.is_inference()]
    try:
        for m in modules:
            m.training = False
        yield
    finally:
        for m, mode, own in zip(modules, modes, buffers, strict=True):
            m.training = mode
            m._buffers.clear()  # one that forward itself registered goes, too
            m._buffers.update(own)
        with torch.no_grad():
            for b, version, copy in copies:
                if b._version != version:
                    b.copy_(copy)


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


def _takes_one_input(module: nn.Module) -> None:
    """Raise, naming them, if `forward` needs other arguments than one picture."""
    try:
        signature = inspect.signature(module.forward)
    except (TypeError, ValueError):
        return  # not a Python function: its own error will say it
    needed = [
        p.name
        for p in signature.parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    try:
        signature.bind(None)
    except TypeError:
        raise DeconvvizTypeError(
            f"the model's forward needs ({', '.join(needed)}), and is given one picture; "
            "wrap it in a module whose forward takes the picture alone"
        ) from None


def record(
    module: nn.Module,
    image: Tensor,
    stop: int | None = None,
    names: Sequence[str] | None = None,
) -> Recording:
    """Run `module` on `image` (1, C, H, W) once and return what ran.

    `stop` ends the pass after that many operators, if they are the ones of `names` so far. The module is left as it
    was: no hook, mode, grad or buffer changed, also after an exception.
    """
    if not isinstance(module, nn.Module):
        raise DeconvvizTypeError(f"model: expected a torch.nn.Module or a Network, got {type(module).__name__}")
    module = unwrap(module)
    _takes_one_input(module)
    with contextlib.ExitStack() as stack:
        stack.enter_context(plain_mode(image.device.type))
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(untouched(module))
        image = image.detach().clone()
        recorder = _Recorder(image, stop, names)
        stack.enter_context(_hooks(module, recorder))
        try:
            with _Functions(recorder), recorder:
                out = module(image)
        except _Stop:
            return recorder.rec
        except RuntimeError as error:
            (failed, why), recorder.misfit = recorder.misfit, (None, None)
            if failed is not error or why is None:
                raise  # an error of the user's own code keeps its type
            raise DeconvvizValueError(why) from error
        recorder.rec.output = recorder.number[id(out)] if recorder.tracked(out) else None
        recorder.rec.returned = _described(out)
        return recorder.rec


def _described(out: Any) -> str:
    """What a forward pass has returned, in words: a shape, or the parts with theirs."""
    if isinstance(out, Tensor):
        return str(tuple(out.shape))
    parts = None
    if isinstance(out, Mapping):
        parts = [f"{key!r} {_described(value)}" for key, value in out.items()]
    elif isinstance(out, list | tuple):
        parts = [f"[{n}] {_described(value)}" for n, value in enumerate(out)]
    if parts is None:
        return type(out).__name__
    advice = "wrap it in a module that returns the one you mean"
    return f"{type(out).__name__} of {', '.join(parts) or 'nothing'}: {advice}"


# Choosing a layer ---------------------------------------------------------------------------------------------------

_Plan = tuple[int, int, tuple[str, ...], str]
_PLANS: weakref.WeakKeyDictionary[nn.Module, dict[Any, _Plan]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Target:
    """A layer as found in a recording: its value number and the module path it was asked by."""

    value: int
    path: str


def record_to(
    module: nn.Module, image: Tensor, layer: str | nn.Module, aliases: Mapping[str, str]
) -> tuple[Recording, Target]:
    """Record up to `layer` and say which value it is.

    The first time a layer is asked for the whole pass is recorded, since only that shows whether a module is called
    again or a value read twice; later passes of the same model stop at the layer, as long as the same operators run.
    """
    module = unwrap(module)
    # A hook that came or went since may change what runs, or what it returns.
    hooks = tuple(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())
    name = layer if isinstance(layer, str) else (module_path(module, layer),)
    key = (name, tuple(image.shape), image.dtype, tuple(aliases.items()), hooks)
    plans = _PLANS.setdefault(module, {})
    plan = plans.get(key)
    if plan is not None:
        stop, value, names, path = plan
        rec = record(module, image, stop, names)
        if not rec.complete:
            return rec, Target(value, path)
    else:
        rec = record(module, image)
    target = find_layer(rec, module, layer, aliases)
    op = rec.producer.get(target.value)
    if op is not None:
        names = tuple(o.name for o in rec.ops[: op.index + 1])
        plans[key] = (op.index + 1, target.value, names, target.path)
    return rec, target


def find_layer(rec: Recording, module: nn.Module, layer: str | nn.Module, aliases: Mapping[str, str]) -> Target:
    """Resolve an alias, a module path (`path#i` for its i-th call) or a module to a value of `rec`."""
    if not isinstance(layer, str):
        path = module_path(module, layer)
        return Target(_call(rec, path, None), path)
    if layer in aliases:
        path = aliases[layer]
        base, _, call = path.partition("#")
        return Target(follow(rec, _call(rec, base, call or None)), path)
    base, _, call = layer.partition("#")
    if base not in rec.kinds or base == "":
        known = [*aliases, *(p for p in rec.kinds if p)]
        hint = suggest(layer, known) or f"; known are {', '.join(known[:12])}{', …' if len(known) > 12 else ''}"
        raise UnknownNameError(f"unknown layer '{layer}'{hint}")
    return Target(_call(rec, base, call or None), base)


def module_path(module: nn.Module, part: nn.Module) -> str:
    """The first path of a part of the model; an error for a module that is not a part of it."""
    if not isinstance(part, nn.Module):
        raise DeconvvizTypeError(f"layer: expected an alias, a module path or a module, got {type(part).__name__}")
    plain = unwrap(part)
    paths: list[str] = [path for path, m in module.named_modules() if m is plain]
    if not paths:
        raise UnknownNameError(f"layer: this {type(part).__name__} is not a part of the model")
    return paths[0]


def _call(rec: Recording, path: str, call: str | None) -> int:
    calls = rec.calls.get(path, [])
    if path not in rec.kinds:
        raise UnknownNameError(f"unknown layer '{path}'{suggest(path, rec.kinds)}")
    if not calls:
        raise DeconvvizValueError(f"layer '{path}' did not run in this forward pass")
    if call is not None and (not call.isdigit() or int(call) >= len(calls)):
        raise DeconvvizValueError(
            f"layer '{path}' was called {len(calls)} times; '#{call}' is not one of 0 to {len(calls) - 1}"
        )
    value = calls[int(call) if call is not None else -1]
    if value is None:
        raise DeconvvizValueError(f"layer '{path}' does not return one tensor that depends on the image")
    return value


def follow(rec: Recording, value: int) -> int:
    """From a convolution's or linear layer's output on through norm and activation, while each is read only once."""
    from deconvviz.engine.rules import rule_of

    op = rec.producer.get(value)
    if op is None or op.name not in ("convolution", "addmm", "mm"):
        return value
    while True:
        readers = rec.consumers(value)
        if len(readers) != 1 or not readers[0].outputs:
            return value
        kind = rule_of(readers[0]).role if rule_of(readers[0], missing_ok=True) else ""
        following = readers[0].outputs[0]
        if kind not in ("norm", "activation") or following is None:
            return value
        value = following
        if kind == "activation":
            return value
