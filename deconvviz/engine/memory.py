"""What memory a recording will take, before it is made; what there is; and one line where it is not enough."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from deconvviz.engine import costs
from deconvviz.engine.layers import conditions, record_to
from deconvviz.engine.nested import leaves
from deconvviz.engine.passes import unwrap
from deconvviz.engine.per_module import PerModule
from deconvviz.engine.rules.base import Policy
from deconvviz.engine.stand_ins import StandIn
from deconvviz.errors import DeconvvizError, OutOfMemoryError

# For a layer of a model and a policy: bytes at the worst moment, and bytes kept to the end.
_NEEDS: PerModule[tuple[int, int] | None] = PerModule()


def check_memory(
    module: nn.Module, image: Tensor, layer: str | nn.Module, aliases: Mapping[str, str], policy: Policy, count: int
) -> None:
    """Raise `OutOfMemoryError` if `count` signals cannot be sent back from `layer` in the memory that there is.

    Pictures of few numbers are not asked about. A network that cannot be run without numbers is not known.
    """
    if image.numel() < costs.LARGE_PICTURE:
        return
    needed, there = estimate(module, image, layer, aliases, policy, count), available(image.device)
    if needed is not None and there is not None and needed > there:
        raise OutOfMemoryError(
            f"a picture of {_size(image)} to layer '{layer if isinstance(layer, str) else type(layer).__name__}' takes "
            f"about {_in_gb(needed)} of memory, and {_in_gb(there)} are there: {_HELP}"
        )


_HELP = "take a smaller picture, an earlier layer or fewer units"


@contextlib.contextmanager
def told(image: Tensor) -> Iterator[None]:
    """Say in one line that an allocation has failed, on whatever device."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        known = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)
        if not known or isinstance(error, DeconvvizError):
            raise
        there = available(image.device)
        left = "" if there is None else f" ({_in_gb(there)} are there now)"
        raise OutOfMemoryError(f"the memory does not suffice for a picture of {_size(image)}{left}: {_HELP}") from error


def estimate(
    module: nn.Module, image: Tensor, layer: str | nn.Module, aliases: Mapping[str, str], policy: Policy, count: int
) -> int | None:
    """Bytes that `count` signals sent back from `layer` take besides the network and the picture; None: not known.

    Found by two passes on tensors without numbers, which also show the way to the layer, so that the first true pass
    can end there and keep no more than the walk reads. What single operators need for themselves is not in it.
    """
    module = unwrap(module)
    needs = _NEEDS.of(module)
    key = (layer if isinstance(layer, str) else id(layer), policy, *conditions(module, image, aliases))
    if key not in needs:
        needs[key] = _traced(module, image, layer, aliases, policy)
    found = needs[key]
    if found is None:
        return None
    worst, kept = found
    return max(worst, kept + count * image.numel() * image.element_size())


def _traced(
    module: nn.Module, image: Tensor, layer: str | nn.Module, aliases: Mapping[str, str], policy: Policy
) -> tuple[int, int] | None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    hooked = any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    if hooked or StandIn(module).module is None:
        return None  # what is not ours, and keeps what it is given, is given numbers
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), _Meter() as meter:
            like = torch.empty(image.shape, dtype=image.dtype, device=image.device)
            record_to(module, like, layer, aliases)
            meter.begin()
            rec, _ = record_to(module, like, layer, aliases, policy)
            known = rec.kept_for is not None and not rec.complete
            return (meter.worst, meter.now()) if known else None
    except Exception:  # whatever a network does to tensors without numbers: the true pass will say what is wrong
        return None


class _Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's base has no annotations
    """Adds up the storages that operators make, as long as they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.begin()

    def begin(self) -> None:
        """Count from here on."""
        self.live: dict[int, tuple[StorageWeakRef, int]] = {}
        self.worst = 0

    def now(self) -> int:
        """Bytes alive."""
        for key in [key for key, (ref, _) in self.live.items() if ref.expired()]:  # type: ignore[no-untyped-call]  # torch's own has no annotations
            del self.live[key]
        return sum(size for _, size in self.live.values())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {a.untyped_storage()._cdata for a in leaves((args, kwargs or {})) if isinstance(a, Tensor)}
        out = func(*args, **(kwargs or {}))
        for made in leaves(out):
            if isinstance(made, Tensor) and made.device.type != "meta":
                storage = made.untyped_storage()
                if storage._cdata not in given:
                    ref = StorageWeakRef(storage)  # type: ignore[no-untyped-call]  # torch's own has no annotations
                    self.live.setdefault(storage._cdata, (ref, storage.nbytes()))
        self.worst = max(self.worst, self.now() + _in_passing(func, args, out))
        return out


def _in_passing(func: Any, args: Any, out: Any) -> int:
    """Bytes that an operator takes while it runs, where that is much and known: a convolution by oneDNN.

    Unless maps lie channels last it brings its input into an order of its own, and what comes out back from that (as
    measured, torch 2.14). The kernels of 1×1 convolutions do without.
    """
    if func is not torch.ops.aten.convolution.default or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch's own has no annotations
        return 0
    x, weight = args[0], args[1]
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and x.dim() == 4 and x.is_contiguous()
    if not plain or not torch.backends.mkldnn.enabled or tuple(weight.shape[2:]) == (1, 1):
        return 0
    return max(_bytes(out), _bytes(x) if x.shape[1] > 4 else 0)


def _bytes(x: Tensor) -> int:
    return x.numel() * x.element_size()


# What there is ------------------------------------------------------------------------------------------------------


def available(device: torch.device) -> int | None:
    """Bytes that can still be had on a device: by the system, by control groups, by limits of the process."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    if device.type != "cpu":
        return None
    known = [n for n in (_of_system(), *_of_groups(), *_of_process()) if n is not None]
    return max(0, min(known)) if known else None


def _of_system() -> int | None:
    found = _fields(Path("/proc/meminfo"))
    return None if "MemAvailable" not in found else 1024 * (found["MemAvailable"] + found.get("SwapFree", 0))


def _of_groups() -> Iterator[int | None]:
    """What the memory controllers of control groups leave, group by group up to the root; version 2 and version 1."""
    for line in _text(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, most, used = Path("/sys/fs/cgroup"), "memory.max", "memory.current"
            swap = _fields(Path("/proc/meminfo")).get("SwapFree", 0) * 1024
        elif "memory" in controllers.split(","):
            root, most, used = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"
            swap = 0
        else:
            continue
        group = root / path.lstrip("/")
        for each in (group, *(up for up in group.parents if up == root or root in up.parents)):
            yield _of_group(each, most, used, swap)


def _of_group(group: Path, most: str, used: str, swap: int) -> int | None:
    limit, now = _text(group / most).strip(), _text(group / used).strip()
    if not (limit.isdigit() and now.isdigit()):  # "max", or no such file
        return None
    stat = _fields(group / "memory.stat")
    # Pages of files that have not been used for long go when they are needed.
    return int(limit) - int(now) + stat.get("total_inactive_file", stat.get("inactive_file", 0)) + swap


def _of_process() -> Iterator[int | None]:
    try:
        import resource
    except ImportError:  # Windows
        return
    status = _fields(Path("/proc/self/status"))
    for limit, name in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        soft = resource.getrlimit(limit)[0]
        yield None if soft == resource.RLIM_INFINITY or name not in status else soft - 1024 * status[name]


def _fields(path: Path) -> dict[str, int]:
    """The numbers of a file of lines "name: number" or "name number"."""
    rows = (line.replace(":", " ").split() for line in _text(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _size(image: Tensor) -> str:
    return f"{image.shape[-1]}×{image.shape[-2]} pixels"


def _in_gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
