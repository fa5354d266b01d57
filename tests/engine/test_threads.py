"""A pass is recorded in one thread; what others do with the model meanwhile is none of its own."""

from __future__ import annotations

import threading

import torch
from torch import Tensor, nn

from deconvviz.engine.recorder import record


def test_another_thread_may_run_the_model_meanwhile() -> None:
    inside, done = threading.Event(), threading.Event()

    class Waits(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if threading.current_thread().name == "recording":
                inside.set()
                assert done.wait(60)
            return x * 2

    module = nn.Sequential(nn.Conv2d(1, 2, 3), Waits(), nn.ReLU()).eval()
    x, found = torch.rand(1, 1, 8, 8), []
    thread = threading.Thread(target=lambda: found.append(record(module, x)), name="recording")
    thread.start()
    assert inside.wait(60)
    with torch.no_grad():
        other = module(torch.rand(1, 1, 5, 5))
    done.set()
    thread.join()
    (rec,) = found
    alone = module(x).detach()
    assert other.shape == (1, 2, 3, 3)
    assert {path: len(calls) for path, calls in rec.calls.items()} == {"": 1, "0": 1, "1": 1, "2": 1}
    assert rec.output is not None and torch.equal(rec.values[rec.output], alone)
    assert [op.name for op in rec.ops] == ["convolution", "mul", "relu"]
