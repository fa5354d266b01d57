"""Which layers the pages of a network are about: the numbered ones of its card, or its convolutions."""

from __future__ import annotations

from deconvviz.errors import DeconvvizValueError
from deconvviz.network.network import Network


def numbered(net: Network, most: int = 5) -> list[str]:
    """Return up to `most` layers that have maps, from the lowest to the highest: the paper's layers 1 to 5.

    These are the aliases that are numbers, if the card has some, else the convolutions at equal steps. Raises
    `DeconvvizValueError` for a network without.
    """
    rows = [row for row in net.layers() if row.size is not None]
    aliases = [alias for row in rows for alias in row.aliases if alias.isdecimal()]
    names = aliases or [row.name for row in rows if row.operator == "Conv2d"]
    if not names:
        raise DeconvvizValueError(
            f"{net.card.name} has no layer with maps: no number among its aliases, no convolution"
        )
    if len(names) <= most:
        return names
    return [names[round(k * (len(names) - 1) / (most - 1))] for k in range(most)]


def pair(net: Network) -> tuple[str, str]:
    """Return the lowest and the highest numbered layer, fully connected ones included: the paper's layers 1 and 7."""
    numbers = sorted((alias for alias in net.card.aliases if alias.isdecimal()), key=int)
    if len(numbers) > 1:
        return numbers[0], numbers[-1]
    maps = numbered(net)
    return maps[0], maps[-1]
