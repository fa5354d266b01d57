"""What works on which network: recorded, layers, each method and occlusion, against references that know no rule.

One small model of every module of timm, torchvision's classifiers and dense models, networks of users and wrappers, at
random weights in float64. `gradient` is compared with autograd, `deconvnet` and `guided` with autograd in which
activations, norms and gates are replaced as functions (`Reference`), occlusion with a loop over occluded pictures. What
is refused must be by name, in one line. Run it in parts; it goes on where it was:

    python benchmarks/coverage.py [--only timm] [--most 20] [--results coverage.jsonl]   # and writes docs/coverage.md
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import deconvviz
from deconvviz.engine.nested import named
from deconvviz.engine.recorder import record

METHODS = ("deconvnet", "guided", "gradient")
COLUMNS = ("record", "layers", *METHODS, "occlude")
PAGE = Path(__file__).parents[1] / "docs" / "coverage.md"
# Float64, and sums of as many terms as a network has weights; some networks go through float32 whatever they are given.
TOLERANCE, SINGLE = 1e-8, 1e-6


# References -----------------------------------------------------------------------------------------------------------


class _Rectified(torch.autograd.Function):
    """An activation whose gradient is rectified, in `guided` also multiplied by its derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[[Tensor], Tensor], guided: bool) -> Tensor:
        ctx.save_for_backward(x.clone())  # the caller may write over it
        ctx.function, ctx.guided = function, guided
        return function(x.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        passed = gradients[0].clamp_min(0)
        if ctx.guided:
            with torch.enable_grad():
                leaf = x.detach().clone().requires_grad_()
                (slope,) = torch.autograd.grad(ctx.function(leaf.clone()).sum(), leaf)
            passed = passed * slope
        return passed, None, None


_ACTIVATIONS = {
    torch.relu, torch.relu_, F.relu, F.relu6, F.leaky_relu, F.leaky_relu_, F.elu, F.elu_, F.gelu, F.silu, F.hardswish,
    F.mish, F.softplus, F.selu, F.celu, torch.tanh, Tensor.tanh, Tensor.relu, Tensor.relu_, Tensor.tanh_, F.prelu,
}  # fmt: skip
_GATES = {torch.sigmoid, Tensor.sigmoid, Tensor.sigmoid_, F.hardsigmoid, torch.softmax, F.softmax, Tensor.softmax,
          torch.sigmoid_, F.sigmoid}  # fmt: skip
_STATISTICS = {torch.linalg.vector_norm, torch.norm, Tensor.norm, torch.rsqrt, Tensor.rsqrt}


class Reference(TorchFunctionMode):
    """The policies of `deconvnet` and `guided` at the level of functions, with autograd for all else."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.guided = method == "guided"

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        bounded = func is F.hardtanh and kwargs.get("min_val", *args[1:2]) == 0.0  # ReLU6 is one
        if (func in _ACTIVATIONS or bounded) and isinstance(args[0], Tensor):
            rest = {k: v for k, v in kwargs.items() if k != "inplace"}
            plain = _out_of_place(func)
            others = args[1 : {F.elu: 2, F.leaky_relu: 2, F.celu: 2, F.hardtanh: 3}.get(func)]
            out = _Rectified.apply(args[0], lambda x: plain(x, *others, **rest), self.guided)
            return args[0].copy_(out) if kwargs.get("inplace") or func.__name__.endswith("_") else out
        if func in _GATES or func in _STATISTICS:
            if func.__name__.endswith("_"):
                return args[0].copy_(getattr(torch, func.__name__[:-1])(args[0]).detach())
            return func(*args, **kwargs).detach()
        if func is F.layer_norm:
            return self.norm(func, args, kwargs, args[0].dim() - len(kwargs.get("normalized_shape") or args[1]))
        if func is F.group_norm or (func is F.batch_norm and kwargs.get("training")):
            return self.grouped(func, args, kwargs)
        if func is F.local_response_norm:
            return args[0] + (func(*args, **kwargs) - args[0]).detach()
        return func(*args, **kwargs)

    def norm(self, func: Any, args: Any, kwargs: Any, first: int) -> Tensor:
        """x · weight / σ of constant statistics; the value itself is that of the norm."""
        x, out = args[0], func(*args, **kwargs).detach()
        weight = kwargs.get("weight", args[2] if len(args) > 2 else None)
        eps = kwargs.get("eps", args[4] if len(args) > 4 else 1e-5)
        scale = torch.rsqrt(x.detach().var(tuple(range(first, x.dim())), unbiased=False, keepdim=True) + eps)
        sent = x * (scale if weight is None else scale * weight)
        return sent + (out - sent).detach()

    def grouped(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        """The same of groups of maps."""
        x, out = args[0], func(*args, **kwargs).detach()
        groups = args[1] if func is F.group_norm else x.shape[1]
        given = list(args) + [None] * 5
        weight = kwargs.get("weight", given[2] if func is F.group_norm else given[3])
        eps = kwargs.get("eps", (given[4] if func is F.group_norm else None) or 1e-5)
        parts = x.detach().reshape(x.shape[0], groups, -1)
        scale = torch.rsqrt(parts.var(2, unbiased=False) + eps).repeat_interleave(x.shape[1] // groups, 1)
        scale = scale if weight is None else scale * weight
        sent = x * scale.view(*scale.shape, *[1] * (x.dim() - 2))
        return sent + (out - sent).detach()


class _InOrder(TorchFunctionMode):
    """Gradients of batch norms laid out plainly: torch 2.14's is wrong for one that comes from tokens of one picture.

    `(bn(x).flatten(2).transpose(1, 2) * w).sum()` in eval mode shows it: the weights are taken in another order.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in (F.batch_norm, torch.batch_norm) and out.requires_grad:
            out.register_hook(lambda g: g.clone(memory_format=torch.contiguous_format))
        return out


def _out_of_place(func: Any) -> Callable[..., Tensor]:
    name = func.__name__
    plain: Callable[..., Tensor] = getattr(F, name[:-1], None) or getattr(torch, name[:-1]) if name[-1] == "_" else func
    return plain


def value_at(module: nn.Module, x: Tensor, layer: str) -> Tensor:
    """What the last call of a layer returns."""
    found: list[Tensor] = []
    part = module.get_submodule(layer)
    handle = part.register_forward_hook(lambda _m, _a, out: found.append(out.clone()))
    try:
        module(x)
    finally:
        handle.remove()
    return found[-1]


def wanted(module: nn.Module, x: Tensor, layer: str, unit: int, place: tuple[int, int], method: str) -> Tensor:
    """One unit's projection by autograd, (C, H, W)."""
    leaf = x.clone().requires_grad_()
    with contextlib.nullcontext() if method == "gradient" else Reference(method), _InOrder():
        value = value_at(module, leaf * 1, layer)
    one = value[0, unit, place[0], place[1]] if value.dim() == 4 else value[0, unit]
    (found,) = torch.autograd.grad(one, leaf)
    return (found * one.detach())[0]


# One network ----------------------------------------------------------------------------------------------------------


def examine(module: nn.Module, x: Tensor, outcome: dict[str, str] | None = None) -> dict[str, str]:
    """What each column says of a network: "ok", "unlike …" (a wrong answer), "ran" (no reference), or the refusal."""
    outcome = {} if outcome is None else outcome
    module = module.double().eval()
    x = x.double()
    plain = getattr(module, "_orig_mod", module)
    plain = plain.module if isinstance(plain, nn.DataParallel) else plain
    rec: Any = None

    def recorded() -> str:
        nonlocal rec
        rec = record(module, x)
        with torch.no_grad():
            theirs = {name: value for name, value in named(plain(x)) if isinstance(value, Tensor)}
        if rec.outputs.keys() != theirs.keys():
            return f"unlike: recorded {list(rec.outputs)} of the outputs {list(theirs)}"
        said = {_alike(rec.values[number], theirs[name]) for name, number in rec.outputs.items()}
        return "ok" if said == {"ok"} else ", ".join(said - {"ok"})

    def layers() -> str:
        net = deconvviz.Network(module, tuple(x.shape[2:]))
        return "ok" if net.layers() else "unlike: no layer"

    _note(outcome, "record", recorded)
    _note(outcome, "layers", layers)
    layer = None if rec is None else _last_layer(rec)
    single = rec is not None and any(v.dtype == torch.float32 for v in rec.values)
    tolerance = SINGLE if single else TOLERANCE
    for method in METHODS:
        _note(outcome, method, lambda m=method: _projected(module, plain, x, layer, m, tolerance))  # type: ignore[misc]
    _note(outcome, "occlude", lambda: _occluded(module, plain, x, tolerance))
    outcome["attention"] = "yes" if rec is not None and _attends(rec) else "no"
    return outcome


def _note(outcome: dict[str, str], column: str, check: Callable[[], str]) -> None:
    try:
        outcome[column] = check()
    except deconvviz.DeconvvizError as error:
        line = str(error)
        outcome[column] = f"refused: {line}" if "\n" not in line else f"unlike: several lines: {line!r}"
    except Exception as error:  # any other is a fault, to be seen in the table
        outcome[column] = f"unlike: {type(error).__name__}: {error}".splitlines()[0]


def _attends(rec: Any) -> bool:
    both = ("bmm", "mm", "baddbmm", "matmul")
    return any("scaled_dot" in op.name or (op.name in both and len(op.inputs) > 1) for op in rec.ops)


def _last_layer(rec: Any) -> str | None:
    """The last leaf module that returns maps or numbers of one picture."""
    found = [
        (calls[-1], path)
        for path, calls in rec.calls.items()
        if path and calls and calls[-1] is not None and rec.values[calls[-1]].dim() in (2, 4)
        and rec.values[calls[-1]].shape[0] == 1 and rec.values[calls[-1]].is_floating_point() and calls[-1]
    ]  # fmt: skip
    return max(found)[1] if found else None


def _projected(module: nn.Module, plain: nn.Module, x: Tensor, layer: str | None, method: str, tolerance: float) -> str:
    if layer is None:
        return "refused: no layer with maps"
    p = deconvviz.project(module, x, layer, top=2, method=method)
    faults = []
    for k in range(len(p.units)):
        place = (int(p.places[k, 0]), int(p.places[k, 1]))
        try:
            theirs = wanted(plain, x, layer, int(p.units[k]), place, method)
        except RuntimeError as error:  # autograd allows no write over what it has kept
            return f"ran: autograd itself cannot: {error}".splitlines()[0]
        faults.append(_distance(p.pixels[k], theirs))
    if max(faults) <= tolerance:
        return "ok"
    # The reference knows gates and activations by their functions only: networks that spell them out are told apart.
    return f"unlike: {max(faults):.1e}" if method == "gradient" else f"ran: {max(faults):.1e} from the reference"


def _occluded(module: nn.Module, plain: nn.Module, x: Tensor, tolerance: float) -> str:
    side = max(x.shape[2] // 3, 1)
    try:
        o = deconvviz.occlude(module, x, window=side, stride=side)
    except deconvviz.DeconvvizValueError as error:
        if "logits" not in str(error):
            raise
        pooled = _Pooled(plain)
        return _occluded(pooled, pooled, x, tolerance)
    faults = []
    for (row, col), logits in zip(o.origins.tolist()[::3], o.logits[::3], strict=True):
        covered = x.clone()
        covered[:, :, row : row + side, col : col + side] = 0
        with torch.no_grad():
            faults.append(_distance(logits, _Pooled(plain)(covered)[0]))  # of dense ones the mean is asked for
    return "ok" if max(faults) <= tolerance else f"unlike: {max(faults):.1e}"


class _Pooled(nn.Module):
    """A network without logits, with its maps (of several outputs: the first) averaged."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """(N, C)."""
        out: Any = self.module(x)
        while not isinstance(out, Tensor):
            out = next(iter(out.values() if isinstance(out, dict) else out))
        return out.flatten(2).mean(2) if out.dim() > 2 else out


def _distance(ours: Tensor, theirs: Tensor) -> float:
    both = ours.isnan() & theirs.isnan()
    ours, theirs = ours.masked_fill(both, 0), theirs.masked_fill(both, 0)
    size = float(theirs.abs().max())
    return float((ours - theirs).abs().max()) / (size if size > 0 else 1.0)


def _alike(ours: Tensor, theirs: Any) -> str:
    if not isinstance(theirs, Tensor):
        return "ran"
    fault = _distance(ours, theirs)
    return "ok" if fault <= TOLERANCE else f"unlike: {fault:.1e}"


# The networks ---------------------------------------------------------------------------------------------------------


Entry = tuple[str, Callable[[], tuple[nn.Module, Tensor]]]


def picture(size: tuple[int, int, int]) -> Tensor:
    """A smooth random picture (1, C, H, W)."""
    coarse = torch.randn(1, size[0], 8, 8, generator=torch.Generator().manual_seed(0))
    return F.interpolate(coarse, size[1:], mode="bicubic") + 0.1


# Vision towers of language models, of hundreds of millions of weights: narrow ones of two blocks, at this size.
TOWERS = {"deepseek_vit": 56, "gemma4_vit": 96, "qwen3_vit": 64}


def timm_entries() -> Iterator[Entry]:
    """The smallest model of every module of timm, at the smallest size that it takes."""
    import timm

    for module in timm.list_modules():
        names = timm.list_models(module=module)
        if names and module in TOWERS:
            yield f"timm: {module}", lambda names=names, side=TOWERS[module]: _narrow(names[0], side)  # type: ignore[misc]
        elif names:
            yield f"timm: {module}", lambda names=names: _smallest(names)  # type: ignore[misc]


def _narrow(name: str, side: int) -> tuple[nn.Module, Tensor]:
    import timm

    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10, embed_dim=64, depth=2, num_heads=4, img_size=side)
    return model, picture((3, side, side))


def _smallest(names: list[str]) -> tuple[nn.Module, Tensor]:
    import timm

    def parameters(name: str) -> int:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return sum(p.numel() for p in timm.create_model(name).parameters())

    counts: dict[str, int] = {}
    for name in names[:12]:
        with contextlib.suppress(Exception):  # some cannot be made on the meta device
            counts[name] = parameters(name)
    name = min(counts, key=counts.__getitem__) if counts else names[0]
    model = timm.create_model(name, num_classes=10).eval()
    size = model.default_cfg.get("input_size", (3, 224, 224)) if hasattr(model, "default_cfg") else (3, 224, 224)
    for side in sorted({64, 96, 128, size[1]}):
        x = picture((size[0], side, side))
        # Some take any size, others have to be told.
        for given in ({}, {"img_size": side}):
            with contextlib.suppress(Exception), torch.no_grad():
                torch.manual_seed(0)
                model = timm.create_model(name, num_classes=10, **given).eval()
                model(x)
                return model, x
    return model, picture(tuple(size))


def torchvision_entries() -> Iterator[Entry]:
    """Its classifiers (the smallest of each family) and dense models."""
    from torchvision import models

    small = (
        "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3",
        "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18",
        "resnet50", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11",
        "vgg11_bn", "vit_b_32", "wide_resnet50_2",
    )  # fmt: skip
    dense = ("fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large")
    for name in (*small, *dense):
        side = 224 if name in ("maxvit_t", "vit_b_32") else 96
        given: dict[str, Any] = {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}
        given |= {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
        given |= {"weights_backbone": None} if name in dense else {}
        yield f"torchvision: {name}", lambda n=name, g=given, s=side: (  # type: ignore[misc]
            models.get_model(n, weights=None, num_classes=10, **g), picture((3, s, s)),
        )  # fmt: skip


class Plain(nn.Module):
    """A small network with a skip, to be wrapped."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm, self.conv2 = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1)
        self.act, self.head = nn.ReLU(), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = self.act(self.norm(self.conv1(x)))
        x = x + self.act(self.conv2(x))
        out: Tensor = self.head(x.mean((2, 3)))
        return out


class LowRank(nn.Module):
    """A convolution with a low-rank addition, as LoRA makes them."""

    def __init__(self, base: nn.Conv2d) -> None:
        super().__init__()
        self.base = base
        self.down, self.up = nn.Conv2d(base.in_channels, 2, 1, bias=False), nn.Conv2d(2, base.out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The sum."""
        out: Tensor = self.base(x) + 0.5 * self.up(self.down(x))
        return out


class Step(nn.Module):
    """A training module that holds the network and its loss, as Lightning's do."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.loss = Plain(), nn.CrossEntropyLoss()

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        out: Tensor = self.model(x)
        return out


class Cast(nn.Module):
    """Autocast inside of forward, to bfloat16: of single precision, which is all that autocast changes."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Plain()

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        with torch.autocast("cpu", torch.bfloat16):
            out: Tensor = self.model.float()(x.float())
        return out


def wrapper_entries() -> Iterator[Entry]:
    """One network in what users wrap networks in."""
    from torch.nn.utils import parametrizations, prune

    def with_conv(change: Callable[[nn.Conv2d], nn.Module]) -> nn.Module:
        model = Plain()
        model.conv2 = change(model.conv2)  # type: ignore[assignment]  # a wrapper stands for the convolution
        return model

    def pruned(conv: nn.Conv2d) -> nn.Module:
        return prune.l1_unstructured(conv, "weight", 0.5)  # type: ignore[no-any-return, no-untyped-call]

    makers: dict[str, Callable[[], nn.Module]] = {
        "plain": Plain,
        "torch.compile": lambda: torch.compile(Plain()),  # type: ignore[return-value]
        "torch.fx": lambda: torch.fx.symbolic_trace(Plain()),
        "DataParallel": lambda: nn.DataParallel(Plain()),
        "a training module": Step,
        "weight norm": lambda: with_conv(parametrizations.weight_norm),  # type: ignore[arg-type]
        "spectral norm": lambda: with_conv(parametrizations.spectral_norm),
        "pruning": lambda: with_conv(pruned),
        "LoRA": lambda: with_conv(LowRank),
        "channels last": lambda: Plain().to(memory_format=torch.channels_last),  # type: ignore[call-overload, no-any-return]
        "autocast": Cast,
        "a copy": lambda: copy.deepcopy(Plain()),
    }
    for name, make in makers.items():
        yield f"wrapper: {name}", lambda m=make: (_seeded(m), picture((3, 20, 18)))  # type: ignore[misc]


def _seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make()


def entries(only: str = "") -> list[Entry]:
    """All networks whose names contain `only`."""
    every = [*wrapper_entries(), *torchvision_entries(), *timm_entries()]
    return [(name, make) for name, make in every if only in name]


# The page -------------------------------------------------------------------------------------------------------------


def page(rows: list[dict[str, str]]) -> str:
    """The table, and what share of the networks each column holds for."""
    free = [row for row in rows if row.get("attention") == "no"]
    lines = [
        "# Coverage",
        "",
        "What works on which network, as `python benchmarks/coverage.py` measured it: small models at random weights",
        "in float64, `gradient` against autograd, `deconvnet` and `guided` against autograd with functions replaced,",
        "occlusion against the plain loop. ✓ equal to the reference; ○ runs, and differs from a reference that knows",
        "gates, norms and activations by their functions only, not spelt out (their rules have tests of their own);",
        "– refused by name; ✗ wrong. The gradient that torch 2.14's batch norm sends back from tokens of one picture",
        "is wrong (three of these networks meet it): there the reference lays it out plainly, and `gradient` needs no",
        "such care. Autocast is measured in single precision, with bfloat16 inside; of the vision towers of language",
        "models (deepseek_vit, gemma4_vit, qwen3_vit) narrow ones of two blocks stand for those of 90 million weights",
        "and more. Detectors (Faster R-CNN, SSD) read back into Python which boxes to keep: no method and no occlusion",
        "follows that, and each says so by name; their layers before can be projected.",
        "",
        f"| of {len(rows)} networks, {len(free)} without attention | " + " | ".join(COLUMNS) + " |",
        "|---|" + "---|" * len(COLUMNS),
    ]
    for title, some in (("all", rows), ("without attention", free)):
        lines.append(f"| {title} | " + " | ".join(_share(some, column) for column in COLUMNS) + " |")
    lines += ["", "| network | " + " | ".join(COLUMNS) + " | refused because |", "|---|" + "---|" * (len(COLUMNS) + 1)]
    for row in rows:
        why = next((row[c].partition(": ")[2] for c in COLUMNS if row.get(c, "").startswith("refused")), "")
        signs = " | ".join(_sign(row.get(column, "")) for column in COLUMNS)
        lines.append(f"| {row['name']} | {signs} | {why.replace('|', '/')} |")
    return "\n".join(lines) + "\n"


def _sign(said: str) -> str:
    return {"ok": "✓", "ran": "○", "refused": "–"}.get(said.partition(":")[0], "✗")


def _share(rows: list[dict[str, str]], column: str) -> str:
    good = sum(row.get(column, "").partition(":")[0] in ("ok", "ran") for row in rows)
    return f"{100 * good / len(rows):.0f} %" if rows else "none"


def main() -> None:
    """Examine what has not been yet, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="networks whose names contain this")
    parser.add_argument("--most", type=int, default=math.inf, help="no more networks than these in this run")
    parser.add_argument("--results", type=Path, default=Path("coverage.jsonl"), help="where results are kept")
    given = parser.parse_args()
    rows = [json.loads(line) for line in given.results.read_text().splitlines()] if given.results.exists() else []
    known = {row["name"] for row in rows}
    examined = 0
    for name, make in entries(given.only):
        if name in known or examined >= given.most:
            continue
        examined += 1
        row = {"name": name}
        try:
            module, x = make()
            examine(module, x, row)
        except Exception as error:  # a network that cannot be made here
            row["record"] = f"unlike: not made: {type(error).__name__}: {error}".splitlines()[0]
        rows.append(row)
        with given.results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(name, "".join(_sign(row.get(column, "")) for column in COLUMNS), flush=True)
    PAGE.write_text(page(sorted(rows, key=lambda row: row["name"])))


if __name__ == "__main__":
    main()
