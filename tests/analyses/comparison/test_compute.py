"""Curves and numbers of `compare` against the plain loop, captum's infidelity, and networks with known answers."""

from __future__ import annotations

import itertools
from typing import Any

import captum.metrics
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as TF

import deconvviz
from deconvviz.analyses.comparison import compute
from deconvviz.analyses.comparison.changes import Changes, Grid
from deconvviz.analyses.comparison.methods import METHODS, attributions
from deconvviz.analyses.comparison.question import ask

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE = 24


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 5, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(200, 5),
    ).double()  # fmt: skip


def picture(seed: int = 1) -> Tensor:
    return 2 * torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def blurred(x: Tensor) -> Tensor:
    sigma = SIDE // 4 / 4
    side = min(2 * int(np.ceil(3 * sigma)) + 1, 2 * SIDE - 1)
    return TF.gaussian_blur(x, [side, side], [sigma, sigma])  # type: ignore[no-any-return]


# Curves ---------------------------------------------------------------------------------------------------------------


def looped(net: nn.Module, begin: Tensor, end: Tensor, worth: Tensor, steps: int, target: int) -> list[float]:
    """The probability after each step, one picture after the other."""
    order, found = worth.flatten().argsort(descending=True), []
    for step in range(1, steps + 1):
        x = begin.clone().flatten(2)
        now = order[: round(step * len(order) / steps)]
        x[..., now] = end.flatten(2)[..., now]
        with torch.no_grad():
            found.append(float(net(x.view(begin.shape)).softmax(1)[0, target]))
    return found


def test_curves_are_those_of_the_plain_loop() -> None:
    net, x = network(), picture()
    names = ["gradient", "input-x-gradient", "occlusion", "random"]
    found = deconvviz.compare(net, x, names, target=3, steps=7, batch=5, subsets=0)
    colour = torch.zeros_like(x)
    for m, name in enumerate(names):
        worth = found.maps[m].abs() if name == "gradient" else found.maps[m]
        if name == "occlusion":  # equal under each square: by chance
            worth = worth - 1e-9 * by_chance(found.policy["seed"]).view(worth.shape)
        lost, won = looped(net, x, colour, worth, 7, 3), looped(net, blurred(x), x, worth, 7, 3)
        assert found.deletion[m].tolist() == pytest.approx(lost, abs=1e-6)
        assert found.insertion[m].tolist() == pytest.approx(won, abs=1e-6)
    with torch.no_grad():
        assert found.baseline == pytest.approx(float(net(x).softmax(1)[0, 3]))
        assert found.blurred == pytest.approx(float(net(blurred(x)).softmax(1)[0, 3]))
    assert found.policy["ranked_by"] == dict(zip(names, ["size", *["signed value"] * 3], strict=True))


def by_chance(seed: Any) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).permutation(SIDE * SIDE)).double()


@pytest.mark.parametrize(("order", "fill"), [("signed", [0.5, 0.0, -1.0]), ("absolute", "blur")])
def test_order_and_fill(order: str, fill: Any) -> None:
    net, x = network(), picture()
    found = deconvviz.compare(net, x, "input-x-gradient", target=0, steps=4, order=order, fill=fill, subsets=0)
    end = blurred(x) if fill == "blur" else torch.tensor(fill).double().view(1, 3, 1, 1).expand_as(x)
    worth = found.maps[0].abs() if order == "absolute" else found.maps[0]
    assert found.deletion[0].tolist() == pytest.approx(looped(net, x, end, worth, 4, 0), abs=1e-6)


def test_blocks_go_by_their_mean() -> None:
    net, x = network(), picture()
    found = deconvviz.compare(net, x, "input-x-gradient", target=0, steps=3, block=8, subsets=0)
    cells = found.maps[0].view(3, 8, 3, 8).mean((1, 3))
    worth = cells.repeat_interleave(8, 0).repeat_interleave(8, 1)
    # Three blocks a step; which pixels of one block come first does not matter then.
    assert found.deletion[0].tolist() == pytest.approx(looped(net, x, torch.zeros_like(x), worth, 3, 0), abs=1e-6)


def test_cells_that_are_cut_at_the_border() -> None:
    grid = Grid((1, 2, 6, 9), 3)
    x = torch.arange(100.0).view(10, 10)
    assert grid.shape == (2, 3)
    wanted = [x[r : min(r + 3, 6), c : min(c + 3, 9)] for r in (1, 4) for c in (2, 5, 8)]
    assert grid.sums(x).tolist() == [float(w.sum()) for w in wanted]
    assert grid.means(x).tolist() == pytest.approx([float(w.mean()) for w in wanted])
    changes = Changes(grid, np.array([[5, 4, 3, 2, 1, 0]]), np.array([0, 0]), np.array([1, 0]))
    assert changes.window(0) == (4, 8, 2, 1) and changes.mask(0).sum() == 2 and not changes.mask(1).any()


def test_the_area_under_a_curve() -> None:
    net, x = network(), picture()
    found = deconvviz.compare(net, x, ["gradient", "random"], steps=5, subsets=0)
    for curves, before, areas in (
        (found.deletion, found.baseline, found.deletion_auc),
        (found.insertion, found.blurred, found.insertion_auc),
    ):
        for curve, area in zip(curves.tolist(), areas.tolist(), strict=True):
            points = [before, *curve]
            by_hand = sum((a + b) / 2 * 0.2 for a, b in itertools.pairwise(points))
            assert area == pytest.approx(by_hand, abs=1e-6)


def test_a_unit_is_measured_by_its_activation_in_its_field() -> None:
    net, x = network(), picture()
    found = deconvviz.compare(net, x, ["gradient", "random"], mode="unit", layer="4", unit=2, steps=6, subsets=3)
    top, left, bottom, right = found.box
    maps = net[:5](x).detach()[0, 2]
    assert found.place == divmod(int(maps.argmax()), 5) and found.score == found.baseline == float(maps.max())
    order = found.maps[1, top:bottom, left:right].flatten().argsort(descending=True)
    for step in range(1, 7):
        changed = x.clone()
        window = changed[..., top:bottom, left:right].flatten(2)
        window[..., order[: round(step * len(order) / 6)]] = 0
        changed[..., top:bottom, left:right] = window.view(1, 3, bottom - top, right - left)
        wanted = float(net[:5](changed).detach()[0, 2][found.place])
        assert float(found.deletion[1, step - 1]) == pytest.approx(wanted, abs=1e-6)
    assert "unit 2" in found.asked and found.measure == "activation"


# A network with a known answer ----------------------------------------------------------------------------------------


class Corner(nn.Module):
    """Looks at the upper left corner alone, a sixteenth of the picture: red without green there is class 0."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1, bias=False)
        self.conv.weight.data = torch.tensor([1.0, -0.5, 0.0]).view(1, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.conv(x).relu()[:, :, :4, :4].mean((1, 2, 3))
        return torch.stack([200 * seen, torch.zeros_like(seen) + 32], 1)


def chequered() -> Tensor:
    """Red in every other pixel, which is nothing once it is blurred; all else nearly nothing."""
    x = 0.1 * torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    x[0, 0] += 2 * ((torch.arange(16)[:, None] + torch.arange(16)) % 2) - 1
    return x


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("grad-cam", "edges", "random")])
def test_a_network_that_uses_one_corner(method: str) -> None:
    """Whatever knows the network names the corner first, and the class is gone at once; noise names anything."""
    found = deconvviz.compare(Corner(), chequered(), [method, "random"], target=0, steps=16, subsets=0)
    worth, reach = found.maps[0].abs(), 5 if method == "occlusion" else 4  # squares reach beyond their place
    assert float(worth[:reach, :reach].sum()) == pytest.approx(float(worth.sum())) and float(worth.sum()) > 0
    gone = float(torch.tensor([0.0, 32.0]).softmax(0)[0])
    assert found.baseline > 0.9 and found.blurred < 0.3
    at = 0 if reach == 4 else 1
    assert found.deletion[0, at:].tolist() == pytest.approx([gone] * (16 - at), abs=1e-6)
    assert float(found.insertion[0, at:].min()) >= found.baseline - 1e-6
    assert found.deletion[1, 1] > 0.5 > found.insertion[1, 1]
    assert found.deletion_auc[0] < found.deletion_auc[1] - 0.2 and found.insertion_auc[0] > found.insertion_auc[1] + 0.2


def test_grad_cam_does_not_find_the_corner() -> None:
    """Its weights are of whole maps: a map that counts in the corner alone counts everywhere. LayerCAM is not blind."""
    found = deconvviz.compare(Corner(), chequered(), ["grad-cam", "layer-cam"], target=0, steps=16, subsets=0)
    shares = found.maps[:, :4, :4].sum((1, 2)) / found.maps.sum((1, 2))
    assert float(shares[0]) < 0.2 and float(shares[1]) == pytest.approx(1)
    assert found.deletion_auc[0] > 3 * found.deletion_auc[1]


def test_a_linear_network_is_explained_whole() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 3)).double()
    names = ["input-x-gradient", "gradient", "integrated-gradients", "random"]
    found = deconvviz.compare(net, picture(), names, steps=2)
    assert found.sensitivity_n is not None and found.infidelity is not None
    shares = found.sensitivity_n[[0, 2]]
    assert torch.allclose(shares, torch.ones_like(shares)) and found.sensitivity_n[3].abs().max() < 0.7
    # A derivative foretells what covering does as soon as it is multiplied with the change.
    assert found.infidelity[:3].abs().max() < 1e-9 and found.infidelity[3] > 0.8


# Random sets ----------------------------------------------------------------------------------------------------------


def sets_of(x: Tensor, count: int) -> tuple[Changes, Changes]:
    """The random sets of `compare` with seed 0, as it draws them."""
    grid, chance = Grid((0, 0, SIDE, SIDE), 1), np.random.default_rng(1)
    return compute._scattered(grid, count, chance), compute._squares(grid, count, chance)


def test_infidelity_is_captums() -> None:
    net, x = network(), picture()
    names = ["gradient", "input-x-gradient", "occlusion"]
    found = deconvviz.compare(net, x, names, target=1, steps=1, subsets=8)
    _, squares = sets_of(x, 8)
    masks = torch.stack([torch.from_numpy(squares.mask(k)) for k in range(len(squares))])[:, None].double()
    with torch.no_grad():
        drops = (net(x) - net(x * (1 - masks)))[:, 1]
    assert found.infidelity is not None
    for m, name in enumerate(names):
        one = attributions(ask(deconvviz.Network.of(net), x, target=1), name)
        derivative = METHODS[name].kind == "sensitivity"
        # What is a share of the score is multiplied with 1 for a pixel: a third in each channel of a map.
        given = one if one.shape[0] == 3 else one.expand(3, -1, -1) / 3
        factor = masks * x if derivative else masks.expand(-1, 3, -1, -1)

        def perturb(inputs: Tensor, factor: Tensor = factor) -> tuple[Tensor, Tensor]:
            return factor, inputs * (1 - masks)

        wanted = captum.metrics.infidelity(
            net, perturb, x, given[None], target=1, n_perturb_samples=len(masks), normalize=True
        )
        assert float(found.infidelity[m]) == pytest.approx(float(wanted / drops.square().mean()), abs=1e-6)


def test_sensitivity_n_by_its_definition() -> None:
    net, x = network(), picture()
    found = deconvviz.compare(net, x, ["input-x-gradient", "gradient"], target=1, steps=1, subsets=8)
    scattered, _ = sets_of(x, 8)
    assert found.sensitivity_n is not None and found.sizes == compute.SIZES
    for n, share in enumerate(found.sizes):
        sums: list[list[float]] = [[], []]
        drops = []
        for k in range(8 * n, 8 * n + 8):
            mask = torch.from_numpy(scattered.mask(k))
            assert int(mask.sum()) == round(share * SIDE * SIDE)
            for one, of in zip(found.maps, sums, strict=True):
                of.append(float(one[mask].sum()))
            with torch.no_grad():
                drops.append(float((net(x) - net(x * ~mask))[0, 1]))
        for m in (0, 1):
            assert float(found.sensitivity_n[m, n]) == pytest.approx(np.corrcoef(sums[m], drops)[0, 1], abs=1e-6)


def test_squares_lie_inside_and_have_their_sizes() -> None:
    squares = compute._squares(Grid((0, 0, 28, 28), 1), 20, np.random.default_rng(0))
    for k in range(len(squares)):
        top, left, height, width = squares.window(k)
        assert height == width == (2, 4, 8)[k // 20] and squares.mask(k).sum() == height * width
        assert top + height <= 28 and left + width <= 28


def test_what_cannot_be_said() -> None:
    a = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    assert np.isnan(compute.correlation(a, torch.ones(3, dtype=torch.float64)))
    assert compute.unexplained(torch.zeros(3), a.float()) == 1 and np.isnan(
        compute.unexplained(a, torch.zeros(3).double())
    )
    assert compute.unexplained(2 * a, a) == pytest.approx(0)


# Several pictures, and what is refused --------------------------------------------------------------------------------


def test_several_pictures_are_each_as_alone() -> None:
    net, x = network(), torch.cat([picture(1), picture(2)])
    found = deconvviz.compare(net, x, ["gradient", "edges"], target=[0, 2], steps=3, subsets=4)
    assert isinstance(found, deconvviz.Comparisons) and found.names == ("picture 1", "picture 2")
    alone = [deconvviz.compare(net, x[n], ["gradient", "edges"], target=2 * n, steps=3, subsets=4) for n in (0, 1)]
    assert list(found) == alone and found.deletion_auc.shape == (2, 2)


def test_progress_comes_to_its_end() -> None:
    told: list[tuple[int, int]] = []
    deconvviz.compare(
        network(), torch.cat([picture(1), picture(2)]), ["gradient", "random"], steps=3, subsets=2, batch=4,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    each = 2 * 2 * 3 + 2 * 8
    assert told[-1] == (2 * each, 2 * each) and [d for d, _ in told] == sorted({d for d, _ in told})


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"methods": ["gradiant"]}, "did you mean 'gradient'"),
        ({"methods": []}, "one name or more"),
        ({"methods": ["random", "random"]}, "each once"),
        ({"methods": [3]}, "names of methods"),
        ({"mode": "layer"}, "mode is 'layer'"),
        ({"mode": "unit"}, "give the layer"),
        ({"mode": "unit", "layer": "3", "target": 1}, "target goes with"),
        ({"unit": 3}, "unit goes with"),
        ({"mode": "unit", "layer": "3", "unit": 8}, "unit 8 does not exist"),
        ({"order": "up"}, "order is 'up'"),
        ({"steps": 0}, "steps is 0"),
        ({"subsets": -1}, "subsets is -1"),
        ({"target": 5}, "target is 5"),
        ({"fill": "gray"}, "fill is 'gray'"),
    ],
)
def test_what_is_refused(how: dict[str, Any], said: str) -> None:
    with pytest.raises(deconvviz.DeconvvizError, match=said):
        deconvviz.compare(network(), picture(), **{"methods": ["random"], "steps": 2, **how})


def test_float32_and_a_network_of_any_side() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    found = deconvviz.compare(net, torch.rand(1, 3, 5), ["gradient", "occlusion", "edges"], steps=20, subsets=2)
    assert found.maps.dtype == torch.float32 and found.maps.shape == (3, 3, 5) and found.deletion.shape == (3, 20)
