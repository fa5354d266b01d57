"""Everything that runs a model gives on CUDA what it gives on the CPU; skipped where there is no such device."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import deconvviz.captum
from deconvviz import Network, project, receptive_field

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class Gate(nn.Module):
    """Squeeze and excitation, in short."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.squeeze(x.mean((2, 3), keepdim=True)).sigmoid()  # type: ignore[no-any-return]


class Select(nn.Module):
    """A ReLU spelled as a choice, plus a maximum over maps."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, 0.0) + x.amax(1, keepdim=True)


def network() -> nn.Sequential:
    """One layer for each way in which a rule makes tensors of its own."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.LocalResponseNorm(3), nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(6, 6, 3, groups=2), nn.BatchNorm2d(6, track_running_stats=False), Gate(), Select(), nn.AvgPool2d(2),
        nn.ReflectionPad2d(1), nn.GroupNorm(2, 6), nn.SiLU(), nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(24, 5),
    )  # fmt: skip
    return net.double().eval()


IMAGE = torch.randn(1, 3, 33, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layer", ["2", "4", "8", "12", "15"])
@pytest.mark.parametrize("seed", ["activation", "map"])
@pytest.mark.parametrize("overlap", ["add", "overwrite", "max"])
@pytest.mark.parametrize("method", ["deconvnet", "guided", "gradient"])
def test_projection_equals_that_of_the_cpu(method: str, overlap: str, seed: str, layer: str) -> None:
    net = network()
    want = project(net, IMAGE, layer, top=4, method=method, overlap=overlap, seed=seed)
    got = project(copy.deepcopy(net).cuda(), IMAGE, layer, top=4, method=method, overlap=overlap, seed=seed)
    assert got.pixels.is_cuda and got.activations.is_cuda
    assert got.units.equal(want.units) and got.places.equal(want.places) and got.boxes.equal(want.boxes)
    torch.testing.assert_close(got.pixels.cpu(), want.pixels, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_dtypes(dtype: torch.dtype) -> None:
    # Half types have no 3-d average pool everywhere, of which the response normalisation is made.
    net = nn.Sequential(*(m for m in network() if not isinstance(m, nn.LocalResponseNorm)))
    p = project(net.to("cuda", dtype), IMAGE, "7", top=4)
    assert p.pixels.dtype == torch.float32 and p.pixels.isfinite().all() and p.pixels.abs().sum() > 0


def test_a_picture_its_classes_and_its_files(tmp_path: Path) -> None:
    labels = [f"label {n}" for n in range(5)]
    net = Network(network().float().cuda(), (33, 30), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), labels, {"2": "12"})
    picture = Image.radial_gradient("L").convert("RGB")
    assert net.preprocess(picture).is_cuda
    assert len(net.layers()) == 16
    assert receptive_field(net, "0", (0, 0)) == (0, 0, 2, 2)
    p = project(net, picture, "2", units="class", target="label 3", top=4)
    assert type(p).load(p.save(tmp_path / "p.npz")).pixels.equal(p.pixels.cpu())
    assert p.save(tmp_path / "p.png").stat().st_size > 0
    assert p.images().shape == (4, 33, 30, 3)


def test_given_seeds_and_places() -> None:
    net = network().cuda()
    seed = torch.rand(2, 17, 15, dtype=torch.float64)
    p = project(net, IMAGE, "2", units=torch.tensor([1, 2], device="cuda"), seed=seed)
    q = project(net, IMAGE, "2", units=[1, 2], seed=seed.cuda(), place=torch.tensor([3, 4], device="cuda"))
    assert p.pixels.equal(q.pixels) and q.places.tolist() == [[3, 4], [3, 4]]


@pytest.mark.parametrize("name", ["Deconvolution", "GuidedBackprop", "Occlusion"])
def test_captums_interface_equals_that_of_the_cpu(name: str) -> None:
    net = nn.Sequential(network()[:5], nn.ReLU6(), nn.Flatten(), nn.Linear(6 * 72, 5)).double().eval()
    how = {"sliding_window_shapes": (2, 9, 8), "strides": (1, 8, 7)} if name == "Occlusion" else {}
    method = getattr(deconvviz.captum, name)
    want = method(net).attribute(IMAGE, target=1, **how)
    got = method(copy.deepcopy(net).cuda()).attribute(IMAGE.cuda(), target=1, **how)
    assert got.is_cuda
    torch.testing.assert_close(got.cpu(), want, rtol=1e-5, atol=1e-9)
