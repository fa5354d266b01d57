"""A recording read backwards: signals walked from a value through the rules of all operators below it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from deconvviz.engine import costs
from deconvviz.engine.rules import Walk, rule_of
from deconvviz.engine.windows import Signal


def walk_back(walk: Walk, start: int, signal: Signal, end: int, out: Tensor, units: list[int] | None = None) -> None:
    """Send K signals from the value `start` down to the value `end`, each into its own row of `out` (N, …).

    `units` (K,) are those rows; None: all of them, in order. A signal is (C, H, W) or (n,) there.
    """
    walk_by(walk, start, signal, {end: out}, units)


def walk_by(walk: Walk, start: int, signal: Signal, ends: Mapping[int, Tensor], units: list[int] | None = None) -> None:
    """The same to several values in one walk: what arrives at each of `ends`, into its tensor."""
    first = walk.rec.producer[start].index if start in walk.rec.producer else -1
    _walk(walk, {start: signal}, first, ends, list(range(len(signal))) if units is None else units)


def _walk(walk: Walk, pending: dict[int, Signal], last: int, ends: Mapping[int, Tensor], units: list[int]) -> None:
    """From operator `last` down; `pending` holds the signals at values whose producers are still to come."""
    lowest = min(walk.rec.producer[end].index if end in walk.rec.producer else -1 for end in ends)
    for i in range(last, lowest, -1):
        op = walk.rec.ops[i]
        for output, value in enumerate(op.outputs):
            if value is None or value not in pending:
                continue
            signal = pending.pop(value)
            if len(units) > 1 and signal.data.numel() > costs.SIGNAL:
                _split(walk, {**pending, value: signal}, i, ends, units)
                return
            if value in ends:
                _deposit(signal, units, ends[value])
            rule = rule_of(op)
            walk.output = output
            for n, source in enumerate(rule.takes(walk, op)):
                sent = rule.project(walk, op, n, signal)
                if sent is not None:
                    pending[source] = pending[source] + sent if source in pending else sent
            del signal
    for end, out in ends.items():
        if end in pending:
            _deposit(pending[end], units, out)


def _split(walk: Walk, pending: dict[int, Signal], i: int, ends: Mapping[int, Tensor], units: list[int]) -> None:
    """The same in parts of so many units that no signal is too large."""
    largest = max(s.data.numel() for s in pending.values())
    size = max(1, costs.SIGNAL * len(units) // largest)
    size = min(size, len(units) - 1)
    for start in range(0, len(units), size):
        part = list(range(start, min(start + size, len(units))))
        _walk(walk, {v: s.take(part) for v, s in pending.items()}, i, ends, [units[k] for k in part])


def _deposit(signal: Signal, units: list[int], out: Tensor) -> None:
    """Write each signal into its row of `units`."""
    at = signal.windows
    if at is None:
        out[units] = signal.data.reshape(len(units), *out.shape[1:])
        return
    for unit, data, r, c in zip(units, signal.data, at.rows.tolist(), at.cols.tolist(), strict=True):
        out[unit, :, r : r + at.height, c : c + at.width] = data
