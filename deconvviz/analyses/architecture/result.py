"""The result of `architecture`: a network as a row of blocks (Fig. 3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from deconvviz.results.base import Result
from deconvviz.results.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    """A network as its `blocks`, from the picture to the output; `parameters` is the number of all of them."""

    kind: ClassVar[str] = "architecture"
    tensors: ClassVar[tuple[str, ...]] = ()
    tuples: ClassVar[tuple[str, ...]] = ("blocks",)

    blocks: tuple[Block, ...]
    parameters: int
    model: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # From a file they come as lists of lists.
        blocks = (Block._make(tuple(v) if isinstance(v, list) else v for v in block) for block in self.blocks)
        object.__setattr__(self, "blocks", tuple(blocks))

    @property
    def title(self) -> str:
        """The model."""
        return f"{self.model.get('name', 'model')} architecture"

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

    def figure(self, **options: Any) -> Figure:
        """Draw the result; see `draw` in `figure.py`."""
        from deconvviz.analyses.architecture.figure import draw

        return draw(self, **options)

    def facts(self) -> dict[str, object]:
        """Return the blocks as dictionaries, ready for JSON."""
        return {**self.plain(), "blocks": [block._asdict() for block in self.blocks]}


def times(sides: tuple[int, int] | None) -> str:
    """Return "7×7" of (7, 7), nothing of None."""
    return "" if sides is None else f"{sides[0]}×{sides[1]}"
