"""A network as a row of blocks, its convolutions and linear layers with what stands between them (paper, Fig. 3)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from deconvviz.analyses.architecture.result import Architecture, Block
from deconvviz.network.layers import Layer
from deconvviz.network.network import Network

# More layers than that are drawn in groups, of convolutions with maps of one size.
SINGLE = 12


def architecture(net: Network) -> Architecture:
    """Return a network as blocks: each convolution and linear layer, or, if there are many, groups of them.

    >>> a = deconvviz.architecture(deconvviz.load("zfnet"))
    >>> [block.alias for block in a.blocks[1:4]], a.blocks[1].kernel
    (['conv1', 'conv2', 'conv3'], (7, 7))
    """
    rows = net.layers()
    modules = dict(net.module.named_modules())
    heavy = [k for k, row in enumerate(rows) if isinstance(modules.get(_path(row)), nn.Conv2d | nn.Linear)]
    groups = [[k] for k in heavy] if len(heavy) <= SINGLE else _groups(rows, heavy)
    ends = [group[0] for group in groups[1:]] + [len(rows)]
    card = net.card
    blocks = [Block("input", "", "", 0, card.channels or 3, card.input_size)]
    for group, end in zip(groups, ends, strict=True):
        block = _block([rows[k] for k in group], rows[group[-1] + 1 : end], modules)
        if len(group) > 1:  # of branches, what they are joined to
            block = block._replace(maps=max(row.maps for row in rows[group[0] : end] if row.size == block.size))
        blocks.append(block)
    return Architecture(tuple(blocks), sum(p.numel() for p in net.module.parameters()), model=net.facts())


def _path(row: Layer) -> str:
    return row.name.partition("#")[0]


def _groups(rows: Sequence[Layer], heavy: Sequence[int]) -> list[list[int]]:
    """Convolutions in a row with maps of one size; linear layers alone."""
    groups: list[list[int]] = []
    for k in heavy:
        if groups and rows[k].size is not None and rows[k].size == rows[groups[-1][0]].size:
            groups[-1].append(k)
        else:
            groups.append([k])
    return groups


def _block(group: Sequence[Layer], after: Sequence[Layer], modules: dict[str, nn.Module]) -> Block:
    last = group[-1]
    module = modules[_path(last)]
    single = module if len(group) == 1 and isinstance(module, nn.Conv2d) else None
    named = [alias for alias in last.aliases if not alias.isdecimal()] or list(last.aliases)
    said = [_said(row, modules.get(_path(row)), last.size) for row in after]
    return Block(
        kind="linear" if isinstance(module, nn.Linear) else "convolution",
        name=last.name,
        alias=max(named, key=len) if named else "",
        layers=len(group),
        maps=last.maps,
        size=last.size,
        kernel=None if single is None else _pair(single.kernel_size),
        stride=None if single is None else _pair(single.stride),
        padding=None if single is None or isinstance(single.padding, str) else _pair(single.padding),
        field=last.receptive_field if last.size is not None else None,
        parameters=sum(p.numel() for path in {_path(row) for row in group} for p in modules[path].parameters()),
        after=tuple(dict.fromkeys(words for words in said if words)),
    )


def _pair(sides: tuple[int, ...]) -> tuple[int, int]:
    return int(sides[0]), int(sides[-1])


def _said(row: Layer, module: nn.Module | None, size: tuple[int, int] | None) -> str:
    """What a layer without weights does, in words; nothing for activations and what changes nothing."""
    if isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
        kind = "max" if isinstance(module, nn.MaxPool2d) else "average"
        kernel, stride = (n if isinstance(n, int) else n[0] for n in (module.kernel_size, module.stride))
        return f"{kind} {kernel}×{kernel}, stride {stride}"
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return "average" if row.size != size and row.size == (1, 1) else ""
    if isinstance(module, nn.LocalResponseNorm):
        return "contrast norm"
    if isinstance(module, nn.Dropout):
        return f"dropout {module.p:g}"
    return ""
