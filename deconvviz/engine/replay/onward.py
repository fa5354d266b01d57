"""A changed value in the middle of a recorded pass: what follows from it, by the recorded operators as they are."""

from __future__ import annotations

from torch import Tensor

from deconvviz.engine.recording import Recording
from deconvviz.engine.rules.base import laid_out


def onward(rec: Recording, value: int, data: Tensor, keep: int) -> Tensor:
    """What the recorded value `keep` would be if `value` had been `data`: what lies between, and only that, runs again.

    Exact: each operator gets what the network itself would give it, beside the changed way (a skip) what was recorded.
    """
    live = {value: laid_out(data, rec.values[value])}
    for op in rec.ancestors((keep,)):
        if value in op.outputs or not any(v in live for v in op.inputs):
            continue
        given = live
        if op.in_place:  # what is written to may be read again as it was, here or in the recording
            first = op.inputs[0]
            given = {**live, first: laid_out(live.get(first, rec.values[first]), rec.values[first])}
        out = rec.run(op, given)
        for number, made in zip(op.outputs, out if isinstance(out, tuple | list) else (out,), strict=False):
            if number is not None:
                live[number] = made
    return live.get(keep, rec.values[keep])
