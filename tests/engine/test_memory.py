"""What memory is believed to be needed against what is; what there is; and one line where it does not suffice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

import deconvviz
from deconvviz.engine import costs, memory

MB = 1 << 20
# Measured in a process of its own: the largest resident memory beyond what was there before.
SCRIPT = """
import resource, sys, torch
from torch import nn
import deconvviz
from deconvviz.engine import memory
torch.set_num_threads(1)
method, what = sys.argv[1:]
torch.manual_seed(0)
make = lambda i, o: [nn.Conv2d(i, o, 3, padding=1), nn.ReLU()]
model = nn.Sequential(*make(3, 16), *make(16, 16), nn.MaxPool2d(2), *make(16, 32), *make(32, 32)).eval()
deconvviz.project(model, torch.randn(1, 3, 64, 64), "8", top=1, method=method)
x = torch.randn(1, 3, 900, 800)
if what == "estimate":
    print(memory.estimate(model, x, "8", {}, (method, "add", "refused"), 1))
else:
    # Not ru_maxrss, which begins at the size of the process that started this one.
    status = lambda: dict(line.split(":", 1) for line in open("/proc/self/status"))
    peak = lambda: int(status()["VmHWM"].split()[0]) * 1024
    before = peak()
    if what == "limited":
        size = int(status()["VmSize"].split()[0]) * 1024
        resource.setrlimit(resource.RLIMIT_AS, (size + int(60e6), -1))
    if what == "forward":
        with torch.no_grad():
            model[:9](x)
    else:
        try:
            deconvviz.project(model, x, "8", top=1, batch=1, method=method)
        except deconvviz.OutOfMemoryError as error:
            print(error)
            raise SystemExit
    print(peak() - before)
"""
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")


def measured(method: str, what: str) -> str:
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, method, what], capture_output=True, text=True, check=True
    )
    return run.stdout.strip()


@linux
@pytest.mark.parametrize("method", ["deconvnet", "guided", "gradient"])
def test_a_projection_takes_little_more_than_its_pass(method: str) -> None:
    """And the estimate lies between half of it and a quarter more than it."""
    forward, ours = float(measured(method, "forward")), float(measured(method, "project"))
    assert ours < 1.3 * forward
    assert 0.5 * ours < float(measured(method, "estimate")) < 1.25 * ours


@linux
def test_one_line_under_a_limit_of_the_process() -> None:
    line = measured("deconvnet", "limited")
    assert "a picture of 800×900 pixels to layer '8' takes about 0." in line
    assert "GB are there: take a smaller picture, an earlier layer or fewer units" in line
    assert "\n" not in line


def test_small_pictures_are_not_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda device: 0)
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.MaxPool2d(2))
    assert deconvviz.project(model, torch.randn(1, 3, 9, 9), "1", top=1).pixels.shape == (1, 3, 9, 9)
    monkeypatch.setattr(costs, "LARGE_PICTURE", 100)
    with pytest.raises(deconvviz.OutOfMemoryError, match="9×9 pixels to layer '1' takes about 0.0 GB"):
        deconvviz.project(model, torch.randn(1, 3, 9, 9), "1", top=1)


class Watched(nn.Conv2d):
    """Notes whether it was given numbers."""

    ran: ClassVar[list[bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        """Maps."""
        self.ran.append(type(x) is Tensor)
        return super().forward(x)


def test_a_hook_is_given_numbers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """One may keep what it is given."""
    monkeypatch.setattr(costs, "LARGE_PICTURE", 100)
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.MaxPool2d(2))
    given: list[type] = []
    model[0].register_forward_hook(lambda _m, _i, out: given.append(type(out)))
    deconvviz.project(model, torch.randn(1, 3, 9, 9), "1", top=1)
    assert set(given) == {Tensor}


def test_the_way_is_known_before_the_first_true_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends at the layer, and the model is left as it was."""
    monkeypatch.setattr(costs, "LARGE_PICTURE", 100)
    Watched.ran.clear()
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.MaxPool2d(2), Watched(2, 2, 3)).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    p = deconvviz.project(model, torch.randn(1, 3, 9, 9), "2", top=1)
    assert Watched.ran and True not in Watched.ran
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert type(p.pixels) is Tensor


class Branch(nn.Module):
    """Asks for numbers: it cannot run without them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 2, 3), nn.MaxPool2d(2))

    def forward(self, x: Tensor) -> Tensor:
        """Maps."""
        assert float(x.detach().cpu().numpy().sum()) < 1e9
        return self.first(x)  # type: ignore[no-any-return]


def test_a_network_that_cannot_be_estimated_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "LARGE_PICTURE", 100)
    monkeypatch.setattr(memory, "available", lambda device: 0)
    x = torch.randn(1, 3, 9, 9)
    assert memory.estimate(Branch(), x, "first", {}, ("deconvnet", "add", "refused"), 1) is None
    with pytest.raises(deconvviz.UnsupportedOperatorError, match="numpy"):
        deconvviz.project(Branch(), x, "first")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB.\nGPU 0 has"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_failed_allocations_are_said_in_one_line(error: Exception) -> None:
    class Fails(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise error

    with pytest.raises(deconvviz.OutOfMemoryError, match="the memory does not suffice for a picture of 9×7") as caught:
        deconvviz.project(nn.Sequential(nn.Conv2d(3, 2, 1), Fails()), torch.randn(1, 3, 7, 9), "1")
    assert "\n" not in str(caught.value)


GIB = 1 << 30
MEMINFO = "MemTotal: 99 kB\nMemAvailable: 8388608 kB\nSwapFree: 1048576 kB\n"


@pytest.mark.parametrize(
    ("files", "want"),
    [
        ({}, 9 * GIB),
        (
            {
                "/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/b/memory.max": "max\n",
                "/sys/fs/cgroup/a/b/memory.current": "5\n", "/sys/fs/cgroup/a/memory.max": f"{4 * GIB}\n",
                "/sys/fs/cgroup/a/memory.current": f"{3 * GIB}\n",
                "/sys/fs/cgroup/a/memory.stat": f"anon 5\ninactive_file {GIB}\n",
            },
            3 * GIB,  # one left, one of files, one of swap
        ),
        (
            {
                "/proc/self/cgroup": "3:cpu,memory:/c\n2:pids:/x\n",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GIB}",
                "/sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}",
                "/sys/fs/cgroup/memory/c/memory.limit_in_bytes": "9223372036854771712",
                "/sys/fs/cgroup/memory/c/memory.usage_in_bytes": f"{GIB}",
            },
            GIB,
        ),
    ],
)  # fmt: skip
def test_what_there_is(files: dict[str, str], want: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The least of what the system and every control group above leave."""
    known = {"/proc/meminfo": MEMINFO, **files}
    monkeypatch.setattr(memory, "_text", lambda path: known.get(Path(path).as_posix(), ""))
    assert memory.available(torch.device("cpu")) == want
    assert memory.available(torch.device("meta")) is None
