"""Recording one forward pass: every operator that depends on the image, at dispatcher level.

Module hooks say which module is running; a `TorchDispatchMode` sees every operator that really runs, however it was
spelled.
"""

from __future__ import annotations

import contextlib
import functools
import math
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from deconvviz.engine.compact import outline
from deconvviz.engine.diagnosis import check_takes_one_input, described, explain, explain_module
from deconvviz.engine.keeper import Keeper
from deconvviz.engine.nested import leaves, mapped, named
from deconvviz.engine.passes import EndOfPass, eager, note_stray, plain_mode, untouched, unwrap
from deconvviz.engine.recording import OnCopy, Op, Recording, Ref, op_name, spoken, write_over
from deconvviz.engine.rules import Walk
from deconvviz.errors import DeconvvizTypeError, DeconvvizValueError, UnsupportedOperatorError

# Operators that hand a tensor's content to Python: what follows could depend on it unseen.
_READS_DATA = {"_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "allclose", "masked_select", "unique"}
# Operators that take shape and dtype from a tensor and nothing of its content: their results are constants.
_FACTORIES = {"new_zeros", "new_ones", "new_full", "new_empty", "zeros_like", "ones_like", "full_like", "empty_like"}


# Methods of a tensor that hand its content out without any operator; only function level sees them.
_HANDS_OUT = {Tensor.numpy, Tensor.tolist, Tensor.__array__, Tensor.__dlpack__}
# Operators that return as many numbers as the picture says, beside those that torch marks as such.
_COUNTS = {"torchvision.nms"}
# Arguments that are written to and mean nothing afterwards.
_SCRATCH = {"noise"}
_UNFOLLOWED = "neither a method nor occlude can follow it (layers before it can be projected)"


class _StrayPass(BaseException):
    """Parts of the model run in a pass of its stand-in."""


# The number of our own hooks: torch's are not negative.
_OURS = -1
# What calls a module.
_CALL = nn.Module._call_impl.__code__


@dataclass(frozen=True)
class _Write:
    """An in-place write: the value that came of it, and where in the storage that lies."""

    value: int
    places: tuple[Any, ...]
    dtype: torch.dtype


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's base has no annotations
    def __init__(self, image: Tensor, until: Sequence[str] | None, whole: bool, walk: Walk | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.rec = Recording() if walk is None else walk.rec
        self.keeper = None if walk is None else Keeper(walk)
        self.number: dict[int, int] = {}  # id of a tensor → its present value number
        self.held: list[Tensor] = []  # keeps every tensor alive, if values are kept
        self.refs: dict[int, weakref.ref[Tensor]] = {}  # and these tell when one is gone: its id is used again
        self.storages: dict[int, StorageWeakRef] = {}  # these keep the ids of storages from being used again
        self.alias: dict[int, list[weakref.ref[Tensor]]] = {}
        self.writes: dict[int, list[_Write]] = {}  # storage → writes to it, in order
        self.read_at: dict[int, int] = {}  # id of a tensor → how many of them its value has in it
        self.stale: set[int] = set()  # ids of tensors whose values are older than their storages
        self.mixed: set[int] = set()  # storages of constants that hold values of the image by now
        self.stack: list[str] = []
        self.until, self.whole, self.paused = until, whole, False
        self.misfit: tuple[RuntimeError | None, str | None] = (None, None)
        self.customs = _forwards()
        self.frames: list[int] = []  # ids of the frames that call the running modules
        self.outside: frozenset[int] = frozenset()  # ids of the modules whose stand-ins run
        self.generator: Tensor | None = None
        self.add_value(image)
        self.rec.values[0] = image

    @property
    def where(self) -> str:
        return self.stack[-1] if self.stack else ""

    def add_value(self, tensor: Tensor, standing_for: Tensor | None = None) -> int:
        """Number a tensor, the present value of `standing_for` (of itself) from here on."""
        owner = tensor if standing_for is None else standing_for
        self.rec.values.append(tensor if self.keeper is None else outline(tensor))
        number = len(self.rec.values) - 1
        if id(owner) not in self.number:
            self.follow(owner)
        self.number[id(owner)] = number
        if self.writes and owner.layout == torch.strided:
            self.read_at[id(owner)] = len(self.writes.get(_storage(owner), ()))
            self.stale.discard(id(owner))
        return number

    def follow(self, tensor: Tensor) -> None:
        """Know a tensor for as long as it lives: to the end, if values are kept."""
        key = id(tensor)
        self.refs[key] = ref = weakref.ref(
            tensor, functools.partial(_forget, key, self.number, self.read_at, self.stale)
        )
        if self.keeper is None:
            self.held.append(tensor)
        if tensor.layout == torch.strided:
            self.alias.setdefault(_storage(tensor), []).append(ref)

    def sharing(self, tensor: Tensor) -> list[Tensor]:
        """The tensors that share the memory of one, as far as they live."""
        refs = self.alias.get(_storage(tensor), [])
        found = [(ref, ref()) for ref in refs]
        refs[:] = [ref for ref, other in found if other is not None]
        return [other for _, other in found if other is not None]

    def refuse(self, name: str, why: str) -> None:
        """Say that an operator cannot be recorded: at once, or (not `whole`) run on without recording any more."""
        error = UnsupportedOperatorError(f"operator '{name}' in {spoken(self.where)}: {why}")
        if self.whole:
            raise error
        self.rec.refused, self.paused = self.rec.refused or error, True
        self.number.clear()
        self.generator = torch.get_rng_state()

    def tracked(self, a: Any) -> bool:
        return isinstance(a, Tensor) and id(a) in self.number

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.prim.device.default:  # asked of tensors without numbers only
            return func(*args, **kwargs)
        if torch.is_inference_mode_enabled():
            self.note("an inference_mode block")
            with self:  # there composite operators come whole
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        if self.outside and any(f.f_code is _CALL and id(f.f_locals["self"]) in self.outside for f in self.around()):
            raise _StrayPass
        flat = leaves((args, kwargs))
        name = op_name(func)
        self.rec.dispatched.append(name)
        # Dropout draws its mask on a fresh tensor: nothing of the image is among its arguments.
        if not self.paused and _is_random(func, name, args, kwargs):
            self.refuse(name, f"is random; switch it off (for dropout: eval mode), {_UNFOLLOWED}")
        if self.mixed:
            self.adopt(flat)
        if self.paused or not any(self.tracked(a) for a in flat):
            return func(*args, **kwargs)
        if name in _FACTORIES:
            return func(*args, **kwargs)
        self.check(name, flat)
        written = [] if self.paused else self.written(func, name, args, kwargs)
        if self.paused:  # it has been refused
            return func(*args, **kwargs)
        self.watch(name)
        self.count(func, name, args)
        constant = [t for t in written if not self.tracked(t)]
        copies = {id(t): t.clone() for t in constant}
        record_args = mapped(lambda a: self.recorded(a, copies), (args, kwargs))
        inputs = tuple(self.number[id(a)] for a in flat if self.tracked(a))
        if self.keeper is not None:
            self.keeper.before(self.draft(name, func, record_args, inputs), [a for a in flat if self.tracked(a)])
        for tensor in written:
            self.save(tensor)
        try:
            out = func(*args, **kwargs)
        except RuntimeError as error:
            op = Op(-1, name, func, tuple(args), dict(kwargs), (), (), self.where, -1)
            self.misfit = (error, explain(self.rec, op))
            raise
        if constant or (written and not name.endswith("_")):
            func = _writing_nothing(func, flat) or OnCopy(func, self.names(func))
            name = name.removesuffix("_")
            self.mixed.update(self.pinned(t) for t in constant)
        self.keep(name, func, record_args, inputs, out, written)
        return out

    def recorded(self, a: Any, copies: dict[int, Tensor]) -> Any:
        """An argument as it is kept: a number for what depends on the image."""
        return Ref(self.number[id(a)]) if self.tracked(a) else copies.get(id(a), a) if copies else a

    def check(self, name: str, flat: list[Any]) -> None:
        if name in _READS_DATA:
            self.refuse(name, f"reads values back into Python (a data-dependent branch): {_UNFOLLOWED}")
        for a in flat:
            if isinstance(a, Tensor) and (a.is_quantized or a.layout != torch.strided):
                self.refuse(name, f"works on a quantised or sparse tensor: {_UNFOLLOWED}")
            if id(a) in self.stale and self.tracked(a):
                self.refresh(a, name)

    def count(self, func: Any, name: str, args: Any) -> None:
        """Note an operator whose result is of another size for another picture: sizes reach Python unseen."""
        if self.rec.sized is not None or not (name in _COUNTS or torch.Tag.dynamic_output_shape in func.tags):
            return
        masks = name not in ("index", "_unsafe_index")
        masks = masks or any(self.tracked(a) and a.dtype in (torch.bool, torch.uint8) for a in leaves(args[1]))
        if masks:
            why = "returns as many numbers as the picture says: occlude cannot follow it (a method of project can)"
            self.rec.sized = UnsupportedOperatorError(f"operator '{name}' in {spoken(self.where)} {why}")

    def watch(self, name: str) -> None:
        """Note what autograd knows otherwise than the operators say."""
        if self.rec.beyond is not None:
            return
        if name in ("detach", "detach_"):
            self.note("'detach'")
        else:
            self.look_for_customs()

    def note(self, what: str) -> None:
        self.rec.beyond = self.rec.beyond or f"{what} in {spoken(self.where)}"

    def look_for_customs(self) -> None:
        """Whether the `forward` of an autograd.Function runs inside of the running module."""
        if any(frame.f_code in self.customs for frame in self.around()):
            self.note("a custom autograd.Function")

    def around(self) -> Iterator[FrameType]:
        """The frames from here outwards to the one that called the running module."""
        frame: FrameType | None = sys._getframe()
        while frame is not None and id(frame) != self.frames[-1]:
            yield frame
            frame = frame.f_back

    # In-place writes ----------------------------------------------------------------------------------------------

    def names(self, func: Any) -> tuple[str, ...]:
        """Names of the arguments that `func` writes to."""
        return tuple(a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write)

    def written(self, func: Any, name: str, args: Any, kwargs: Any) -> list[Tensor]:
        """Tensors that `func` writes to: its first argument or what is `out`; anything else is an error."""
        found: list[Tensor] = []
        for i, arg in enumerate(func._schema.arguments):
            if arg.alias_info is None or not arg.alias_info.is_write or arg.name in _SCRATCH:
                continue
            value = args[i] if i < len(args) else kwargs.get(arg.name)
            if isinstance(value, Tensor) and (i == 0 or arg.kwarg_only):
                found.append(value)
            elif any(isinstance(a, Tensor) for a in leaves(value)):
                self.refuse(name, f"writes image-dependent values to '{arg.name}' in place: {_UNFOLLOWED}")
        return found

    def save(self, tensor: Tensor) -> None:
        """Before an in-place write: copy the values that share the storage, which live on in the recording."""
        for other in self.sharing(tensor):
            number = self.number[id(other)]
            if self.rec.values[number] is other:
                self.rec.values[number] = other.clone()

    def wrote(self, tensor: Tensor) -> None:
        """Remember a write behind it: whatever shares the storage has an older value from here on."""
        storage = self.pinned(tensor)
        where = (tensor.size(), tensor.stride(), tensor.storage_offset())
        self.writes.setdefault(storage, []).append(_Write(self.number[id(tensor)], where, tensor.dtype))
        self.read_at[id(tensor)] = len(self.writes[storage])
        others = [id(other) for other in self.sharing(tensor) if other is not tensor]
        self.stale.update(others)
        self.stale.discard(id(tensor))

    def adopt(self, flat: list[Any]) -> None:
        """Number what looks like a constant and lies in a storage that values of the image were written to."""
        for a in flat:
            if (
                isinstance(a, Tensor)
                and a.layout == torch.strided
                and not self.tracked(a)
                and _storage(a) in self.mixed
            ):
                self.refresh(a, "a view")

    def refresh(self, tensor: Tensor, name: str) -> None:
        """Bring the value of a tensor up to the writes to its storage since, each as an operator of its own."""
        storage = _storage(tensor)
        size = tensor.untyped_storage().nbytes() // tensor.element_size()
        own = _places((tensor.size(), tensor.stride(), tensor.storage_offset()), size)
        for write in self.writes[storage][self.read_at.get(id(tensor), 0) :]:
            if write.dtype != tensor.dtype:
                self.refuse(name, f"reads numbers that were written in place as another type: {_UNFOLLOWED}")
                return
            index = torch.full((size,), -1)
            index[_places(write.places, size)] = torch.arange(math.prod(write.places[0]))
            source = index[own]
            to = (source >= 0).nonzero()[:, 0]
            if len(to):
                self.written_over(tensor, write.value, to.to(tensor.device), source[to].to(tensor.device))
        self.stale.discard(id(tensor))
        self.read_at[id(tensor)] = len(self.writes[storage])

    def written_over(self, tensor: Tensor, part: int, to: Tensor, source: Tensor) -> None:
        """One such operator: the part of value `part` that lies in `tensor`."""
        copy = torch.Tensor.clone if self.keeper is None else outline
        old = Ref(self.number[id(tensor)]) if self.tracked(tensor) else copy(tensor)
        into = self.rec.values[old.value] if isinstance(old, Ref) else old
        inputs = (*((old.value,) if isinstance(old, Ref) else ()), part)
        made = tensor  # which is that already, once all writes are told
        if self.keeper is None:
            made = torch.empty_like(tensor).copy_(write_over(into, self.rec.values[part], to, source))
        number = self.add_value(made, standing_for=tensor)
        self.append(
            Op(0, "write_over", write_over, (old, Ref(part), to, source), {}, inputs, (number,), self.where, 0),
            (tensor,),
        )

    def pinned(self, tensor: Tensor) -> int:
        """The storage of a tensor, by a number that no other one has as long as this recorder lives."""
        storage = _storage(tensor)
        if storage not in self.storages:
            self.storages[storage] = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]  # torch's own has no annotations
        return storage

    # Keeping ------------------------------------------------------------------------------------------------------

    def draft(self, name: str, func: Any, record_args: Any, inputs: tuple[int, ...]) -> Op:
        """An operator that is about to run, without outputs."""
        args, kwargs = record_args
        return Op(len(self.rec.ops), name, func, args, kwargs, inputs, (), self.where, len(self.rec.dispatched) - 1)

    def keep(
        self, name: str, func: Any, record_args: Any, inputs: tuple[int, ...], out: Any, written: Sequence[Tensor] = ()
    ) -> None:
        outs = out if isinstance(out, (tuple, list)) else (out,)
        numbers = tuple(self.add_value(o) if isinstance(o, Tensor) else None for o in outs)
        for tensor in written:
            if all(o is not tensor for o in outs):
                self.refuse(name, f"writes in place to what it does not return: {_UNFOLLOWED}")
                return
            self.wrote(tensor)
        self.append(Op(0, name, func, record_args[0], record_args[1], inputs, numbers, self.where, 0), outs)

    def append(self, op: Op, outs: Sequence[Any] = ()) -> None:
        op.index, op.position = len(self.rec.ops), len(self.rec.dispatched) - 1
        self.rec.ops.append(op)
        for n in op.outputs:
            if n is not None:
                self.rec.producer[n] = op
        if self.until is not None and self.until[op.index] != op.name:
            self.until = None  # not the pass that was planned for: record all of it
            if self.keeper is not None:
                raise EndOfPass
        last = self.until is not None and op.index + 1 == len(self.until)
        if self.keeper is not None:
            self.keeper.after(op, outs, all_of_it=last)
        if last:
            self.rec.complete = False
            raise EndOfPass

    # Module hooks -------------------------------------------------------------------------------------------------

    def enter(self, path: str) -> None:
        if self.rec.beyond is None:
            self.look_for_customs()  # checkpointing runs modules inside of one
        self.stack.append(path)
        self.frames.append(id(sys._getframe(2)))

    def leave(self, path: str, out: Any) -> None:
        while self.stack:
            self.frames.pop()
            if self.stack.pop() == path:
                break
        if isinstance(out, Tensor) and out.layout == torch.strided and not self.paused:
            if self.mixed:
                self.adopt([out])
            if id(out) in self.stale and self.tracked(out):
                self.refresh(out, "a view")
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
        if func is _SET_GRAD_ENABLED:
            r.note("a no_grad or enable_grad block")
        elif func is Tensor.detach_ and r.tracked(args[0]):
            r.note("'detach_'")  # which no operator tells
        elif func is Tensor.view_as and args[0] is args[1] and r.tracked(args[0]):
            r.note("a custom autograd.Function")  # that hands its input back
        if func in _HANDS_OUT and not r.paused and args and r.tracked(args[0]):
            r.refuse(func.__name__, f"hands values to Python (what follows could depend on them): {_UNFOLLOWED}")
        if func is not F.local_response_norm or r.paused or not args or not r.tracked(args[0]):
            return func(*args, **kwargs)
        r.check(func.__name__, [args[0]])
        r.paused = True
        try:
            out = func(*args, **kwargs)
        finally:
            r.paused = False
        given, inputs = ((Ref(r.number[id(args[0])]), *args[1:]), kwargs), (r.number[id(args[0])],)
        if r.keeper is not None:
            r.keeper.before(r.draft("local_response_norm", func, given, inputs), [args[0]])
        r.keep("local_response_norm", func, given, inputs, out)
        return out


# What `torch.no_grad` and its like call.
_SET_GRAD_ENABLED = torch._C._set_grad_enabled


def _forwards() -> set[CodeType]:
    """The code of `forward` of every custom autograd.Function there is."""
    found: set[CodeType] = set()
    kinds: list[Any] = [torch.autograd.Function]
    while kinds:
        for kind in kinds.pop().__subclasses__():
            kinds.append(kind)
            code = getattr(getattr(kind, "forward", None), "__code__", None)
            if code is not None:
                found.add(code)
    return found


def _writing_nothing(func: Any, flat: list[Any]) -> Any:
    """The operator that makes a new tensor where `func` writes in place (`add` for `add_`); None if there is none."""
    namespace, _, name = func._schema.name.partition("::")
    twin = getattr(getattr(torch.ops, namespace), name.removesuffix("_"), None) if name.endswith("_") else None
    # In place the type stays what it is, whatever the others are.
    alike = len({a.dtype for a in flat if isinstance(a, Tensor)}) == 1
    return getattr(twin, func._overloadname, None) if alike else None


def _forget(key: int, number: dict[int, int], read_at: dict[int, int], stale: set[int], _: object) -> None:
    """A tensor is gone: what is known of it under its id."""
    number.pop(key, None)
    read_at.pop(key, None)
    stale.discard(key)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _places(where: tuple[Any, ...], size: int) -> Tensor:
    """The places in a storage of `size` numbers where a tensor of this size, stride and offset has its own (n,)."""
    return torch.arange(size).as_strided(*where).reshape(-1)


def _is_random(func: Any, name: str, args: Any, kwargs: Any) -> bool:
    """Whether an operator draws random numbers: those that are able to, if they are in training."""
    if torch.Tag.nondeterministic_seeded not in func.tags or "scaled_dot_product" in name:
        return False
    training = [n for n, a in enumerate(func._schema.arguments) if a.name == "training"]
    given = training and (args[training[0]] if training[0] < len(args) else kwargs.get("training", False))
    return not training or bool(given)


@contextlib.contextmanager
def _hooks(module: nn.Module, recorder: _Recorder) -> Iterator[None]:
    hooked: list[nn.Module] = []
    own = threading.get_ident()

    def here() -> bool:
        """Whether it is this pass: another thread may run the model meanwhile, and that is none of ours."""
        return threading.get_ident() == own

    # One module may stand under several names; its calls are known under the first and copied to the others.
    first: dict[int, str] = {}
    try:
        for path, m in module.named_modules(remove_duplicate=False):
            recorder.rec.kinds[path] = type(m).__name__
            if id(m) in first:
                recorder.rec.calls[path] = recorder.rec.calls.setdefault(first[id(m)], [])
                continue
            first[id(m)] = path
            hooked.append(m)
            # Not registered: torch counts hooks without a lock, and a number that two threads get overwrites a hook.
            m._forward_pre_hooks[_OURS] = lambda _m, _a, p=path: recorder.enter(p) if here() else None
            m._forward_hooks[_OURS] = lambda _m, _a, out, p=path: recorder.leave(p, out) if here() else None
        yield
    finally:
        for m in hooked:
            m._forward_pre_hooks.pop(_OURS, None)
            m._forward_hooks.pop(_OURS, None)


def record(
    module: nn.Module,
    image: Tensor,
    until: Sequence[str] | None = None,
    whole: bool = True,
    walk: Walk | None = None,
) -> Recording:
    """Run `module` on `image` (1, C, H, W) once and return what ran.

    `until` ends the pass after these operators (their names), if they are the ones that run. What cannot be recorded is
    an error, or, if not the `whole` pass is needed, ends the recording and is its `refused`. With a `walk` on an empty
    recording, only what that walk reads from the last of those operators on is kept, in that recording; if others run,
    it ends there, and is `complete` but of no use. The module is left as it was: no hook, mode, grad or buffer changed,
    also after an exception; and what runs is a stand-in, see `untouched`.
    """
    if not isinstance(module, nn.Module):
        raise DeconvvizTypeError(f"model: expected a torch.nn.Module or a Network, got {type(module).__name__}")
    module = unwrap(module)
    check_takes_one_input(module)
    try:
        return _record(module, image, until, whole, walk)
    except _StrayPass:
        note_stray(module)
        again = None if walk is None else Walk(Recording(), *walk.policy)
        return _record(module, image, until, whole, again)


def _record(module: nn.Module, image: Tensor, until: Sequence[str] | None, whole: bool, walk: Walk | None) -> Recording:
    with plain_mode(image.device.type), eager, untouched(module) as run, contextlib.ExitStack() as stack:
        image = image.detach().clone()
        recorder = _Recorder(image, until, whole, walk)
        if run is not module:
            recorder.outside = frozenset(map(id, module.modules()))
        recorder.frames.append(id(sys._getframe()))
        stack.enter_context(_hooks(run, recorder))
        try:
            with _Functions(recorder), recorder:
                out = run(image)
        except EndOfPass:
            return recorder.rec
        except Exception as error:
            if recorder.rec.refused is not None:
                return recorder.rec  # what follows is not asked for
            explained = _explained(error, recorder, module)
            if explained is error:
                raise
            raise explained from error
        finally:
            recorder.refs.clear()
            if recorder.generator is not None:
                torch.set_rng_state(recorder.generator)
        recorder.rec.outputs = {name: recorder.number[id(a)] for name, a in named(out) if recorder.tracked(a)}
        recorder.rec.returned = described(out)
        return recorder.rec


def _explained(error: Exception, recorder: _Recorder, module: nn.Module) -> Exception:
    """The error as one line if the image is to blame; an error of the user's own code stays what it is."""
    (failed, why), recorder.misfit = recorder.misfit, (None, None)
    if failed is error and why is not None:
        return DeconvvizValueError(why)
    why = explain_module(recorder.rec, module, recorder.stack) if isinstance(error, RuntimeError) else None
    return error if why is None else DeconvvizValueError(why)
