"""What the numbers of `sanity` say in plain words: sentences chosen by thresholds, which stand here and in the docs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from deconvviz.analyses.sanity.result import Sanity

# Of |cosines| and rank correlations, 0 to 1.
SAME = 0.9  # from here on two projections are called the same
RELATED = 0.5  # from here on they have much in common
APART = 0.2  # below this they have little to nothing in common


class Statement(NamedTuple):
    """Whether something is shown; what it is about ("picture", "unit", "weights", "places", "switches"); the words."""

    shows: bool
    about: str
    text: str


def statements(s: Sanity) -> tuple[Statement, ...]:
    """The sentences for a result; what the network's numbers cannot say is left out."""
    found = (_picture(s), _unit(s), _weights(s), _places(s), _switches(s))
    return tuple(one for one in found if one is not None)


def _picture(s: Sanity) -> Statement | None:
    value = s.between_pictures
    if value != value:
        return None
    said = f"|cosine| {value:.2f} with the same unit at the same place of other pictures"
    if value >= SAME:
        why = " No max pool lies on the way." if s.switches == 0 and s.method == "deconvnet" else ""
        return Statement(False, "picture", f"Anything of this picture: it is the same in any other ({said}).{why}")
    if value >= RELATED:
        return Statement(False, "picture", f"This picture rather than another: others give much the same ({said}).")
    if value >= APART:
        return Statement(True, "picture", f"This picture, in part: others give something similar ({said}).")
    return Statement(True, "picture", f"This picture: others give something else ({said}).")


def _unit(s: Sanity) -> Statement | None:
    value = s.between_units
    if value != value:
        return None
    said = f"|cosine| {value:.2f} with other units at the same place"
    if value >= SAME:
        return Statement(False, "unit", f"Which unit it is of: all units give the same ({said}).")
    if value >= RELATED:
        return Statement(False, "unit", f"Clearly which unit it is of: others give much the same ({said}).")
    if value >= APART:
        return Statement(True, "unit", f"The unit, in part: others give something similar ({said}).")
    return Statement(True, "unit", f"The unit: others give something else ({said}).")


def _weights(s: Sanity) -> Statement | None:
    last = float(s.similarity[-1])
    if last != last:
        return None
    said = f"rank correlation {last:.2f} with all weights below the layer random"
    if last >= RELATED:
        return Statement(False, "weights", f"The network's weights: random ones give much the same ({said}).")
    if last >= APART:
        return Statement(
            False, "weights", f"The network's weights alone: part of it comes with random ones, too ({said})."
        )
    gone = next((n for n, v in zip(s.layers, s.similarity.tolist(), strict=True) if v < APART), s.layers[-1])
    return Statement(
        True,
        "weights",
        f"The network's weights: little is left once they are random down to {gone} ({said}).",
    )


def _places(s: Sanity) -> Statement | None:
    """Magnitudes alone: where a projection is strong, whatever its signs."""
    last = float(s.cascading[-1, :, 1].nanmean())
    if last != last:
        return None
    said = f"rank correlation of magnitudes {last:.2f} with random weights"
    if last >= RELATED:
        return Statement(
            False,
            "places",
            f"The weights, by where it is strong: with random ones it is strong there, too ({said}).",
        )
    if last >= APART:
        return Statement(
            False,
            "places",
            f"The weights alone, by where it is strong: with random ones it is strong there in part ({said}).",
        )
    return Statement(
        True, "places", f"The weights, by where it is strong: with random ones it is strong elsewhere ({said})."
    )


def _switches(s: Sanity) -> Statement | None:
    """What is recorded of a picture on the way down: switches, for other methods than the deconvnet masks besides."""
    signal, recorded = s.through_other_switches, s.through_own_switches
    if signal != signal or recorded != recorded:
        return None
    if signal >= SAME:
        said = f"|cosine| {signal:.2f} with this map sent through another picture's pass"
        return Statement(False, "switches", f"Details of this picture: below the layer they leave no mark ({said}).")
    what = "switches" if s.method == "deconvnet" else "switches and masks"
    said = (
        f"|cosine| {recorded:.2f} with another picture's map sent through the {what} of this one, {signal:.2f} with "
        "this map sent through another's"
    )
    if recorded >= RELATED > signal:
        return Statement(False, "switches", f"What the layer sees, for the most part: the {what} draw it ({said}).")
    if recorded > signal:
        return Statement(True, "switches", f"More of its {what} than of the layer's map ({said}).")
    return Statement(True, "switches", f"More of the layer's map than of its {what} ({said}).")
