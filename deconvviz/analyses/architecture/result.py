"""The result of `architecture`: a network as a row of blocks (Fig. 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from deconvviz.results.base import Result
from deconvviz.results.table import Table


class Block(NamedTuple):
    """One layer with weights, or several `layers`: convolutions in a row with maps of one size. The first is the input.

    `kind`: "input", "convolution" or "linear"; `name` the module path of the last one, `alias` its short name or "";
    `maps`, `size` (height, width) or None; `kernel`, `stride`, `padding` of a single convolution, as (rows, columns);
    `field` the receptive field; `parameters` of all of them; `after`: what comes before the next block, in words.
    """

    kind: str
    name: str
    alias: str
    layers: int
    maps: int
    size: tuple[int, int] | None
    kernel: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    padding: tuple[int, int] | None = None
    field: tuple[int, int] | None = None
    parameters: int = 0
    after: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Architecture(Result):
    """A network as its `blocks`, from the picture to the output; `parameters` is the number of all of them.

    >>> a = deconvviz.architecture(deconvviz.load("lenet"))
    >>> a.parameters, len(a.blocks)
    (44426, 6)
    """

    blocks: tuple[Block, ...]
    parameters: int

    @property
    def title(self) -> str:
        """The model."""
        return f"{self.model_name} architecture"

    def table(self) -> Table:
        """Return the blocks as a table, one row each."""
        columns = ("layer", "kernel", "stride", "padding", "maps", "size", "receptive field", "parameters", "then")
        rows = [
            (
                f"{block.layers} to {block.name}" if block.layers > 1 else block.alias or block.name or block.kind,
                times(block.kernel),
                times(block.stride),
                times(block.padding),
                block.maps,
                times(block.size),
                times(block.field),
                f"{block.parameters:,}" if block.parameters else "",
                ", ".join(block.after),
            )
            for block in self.blocks
        ]
        return Table(columns, rows, align="lcccrccrl")

    def facts(self) -> dict[str, object]:
        """Return the blocks as dictionaries, ready for JSON."""
        return {**self.plain(), "blocks": [block._asdict() for block in self.blocks]}


def times(sides: tuple[int, int] | None) -> str:
    """Return "7×7" of (7, 7), nothing of None."""
    return "" if sides is None else f"{sides[0]}×{sides[1]}"
