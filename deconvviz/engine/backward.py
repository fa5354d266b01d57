"""A recording read backwards: signals walked from a value through the rules of all operators below it."""

from __future__ import annotations

from torch import Tensor

from deconvviz.engine import costs
from deconvviz.engine.rules import Walk, rule_of
from deconvviz.engine.windows import Signal


def walk_back(walk: Walk, start: int, signal: Signal, end: int, out: Tensor, units: list[int] | None = None) -> None:
    """Send K signals from the value `start` down to the value `end`, each into its own row of `out` (N, …).

    `units` (K,) are those rows; None: all of them, in order. A signal is (C, H, W) or (n,) there.
    """
    first = walk.rec.producer[start].index if start in walk.rec.producer else -1
    _walk(walk, {start: signal}, first, end, list(range(len(signal))) if units is None else units, out)


def _walk(walk: Walk, pending: dict[int, Signal], last: int, end: int, units: list[int], out: Tensor) -> None:
    """From operator `last` down; `pending` holds the signals at values whose producers are still to come."""
    for i in range(last, -1, -1):
        op = walk.rec.ops[i]
        for output, value in enumerate(op.outputs):
            if value is None or value not in pending or value == end:
                continue
            signal = pending.pop(value)
            if len(units) > 1 and signal.data.numel() > costs.SIGNAL:
                _split(walk, {**pending, value: signal}, i, end, units, out)
                return
            rule = rule_of(op)
            walk.output = output
            for n, source in enumerate(rule.takes(walk, op)):
                sent = rule.project(walk, op, n, signal)
                if sent is not None:
                    pending[source] = pending[source] + sent if source in pending else sent
            del signal
    if end in pending:
        _deposit(pending[end], units, out)


def _split(walk: Walk, pending: dict[int, Signal], i: int, end: int, units: list[int], out: Tensor) -> None:
    """The same in parts of so many units that no signal is too large."""
    largest = max(s.data.numel() for s in pending.values())
    size = max(1, costs.SIGNAL * len(units) // largest)
    size = min(size, len(units) - 1)
    for start in range(0, len(units), size):
        part = list(range(start, min(start + size, len(units))))
        _walk(walk, {v: s.take(part) for v, s in pending.items()}, i, end, [units[k] for k in part], out)


def _deposit(signal: Signal, units: list[int], out: Tensor) -> None:
    """Write each signal into its row of `units`."""
    at = signal.windows
    if at is None:
        out[units] = signal.data.reshape(len(units), *out.shape[1:])
        return
    for unit, data, r, c in zip(units, signal.data, at.rows.tolist(), at.cols.tolist(), strict=True):
        out[unit, :, r : r + at.height, c : c + at.width] = data
