"""What drives an answer, on networks whose answer is known: one corner alone, a planted watermark, plain passes."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deconvviz
from deconvviz.analyses.explanation.stages import stages_of
from deconvviz.engine.recorder import record
from deconvviz.network.network import Network


def corner_net() -> nn.Sequential:
    """Class 1 is the sum of the left upper 4 × 4 pixels, through map 1; map 0 is the whole picture, read by nobody."""
    conv, fc = nn.Conv2d(1, 2, 1, bias=False), nn.Linear(2 * 8 * 8, 2)
    conv.weight.data = torch.tensor([5.0, 1.0]).view(2, 1, 1, 1)
    fc.weight.data.zero_()
    fc.bias.data.zero_()
    fc.weight.data.view(2, 2, 8, 8)[1, 1, :2, :2] = 4  # the mean of each 2 × 2 pixels, 4 times
    return nn.Sequential(conv, nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), fc)


def test_a_network_that_uses_only_one_corner() -> None:
    x = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)) + 0.5
    e = deconvviz.explain(corner_net(), x, target=1, layers=["0", "1"], top=2, window=4, stride=4, checks=False)
    total = float(x[0, 0, :4, :4].sum())
    assert e.target == 1 and e.logits.tolist() == pytest.approx([0, total])
    heat = e.occlusion.heatmap()
    assert heat[:4, :4].flatten().tolist() == pytest.approx([total] * 16) and heat.count_nonzero() == 16
    assert e.cam is not None and int(e.cam.argmax()) == int((e.cam == e.cam.max()).flatten().nonzero()[0])
    for stage in e.stages:
        assert stage.projection.units.tolist() == [1, 0]
        assert stage.contributions.tolist() == pytest.approx([total, 0]) == stage.drops.tolist()
        assert stage.projection.places[0].tolist() == [int(n) for n in divmod(int(x[0, 0, :4, :4].argmax()), 4)]
        assert stage.sanity is None
    assert e.table().rows[0][:4] == ("1", "1", f"{total:+.3g}", f"{-total:+.3g}")


def watermarked(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noise of two classes that differ a little in brightness; class 1 has a chequered mark in its last corner."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    pictures = torch.rand(count, 1, 24, 24, generator=g) * 0.6 + 0.02 * labels.view(-1, 1, 1, 1)
    mark = (torch.arange(5)[:, None] + torch.arange(5)) % 2 * 1.0
    pictures[labels == 1, :, 18:23, 18:23] = mark
    return pictures, labels


@pytest.fixture(scope="module")
def cheat() -> nn.Sequential:
    """A small network that has learned the mark: on marked pictures it is sure, without the mark it is not."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(8 * 4 * 4, 2),
    )  # fmt: skip
    pictures, labels = watermarked(128, 1)
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(net(pictures), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return net.eval()


def test_a_planted_watermark_is_found(cheat: nn.Sequential) -> None:
    pictures, labels = watermarked(8, 2)
    assert bool((cheat(pictures).argmax(1) == labels).all())  # it works, one would think
    x = pictures[1:2]
    e = deconvviz.explain(cheat, x, top=2, window=6, stride=2, method="guided")
    assert e.target == 1
    row, column = divmod(int(e.occlusion.heatmap().argmax()), 24)
    assert row >= 16 and column >= 16
    lowest = e.occlusion.origins[int(e.occlusion.probability.argmin())].tolist()
    assert all(at + 6 > 18 for at in lowest) and float(e.occlusion.probability.min()) < 0.5
    assert e.cam is not None and min(divmod(int(e.cam.argmax()), 24)) >= 14
    assert [stage.layer for stage in e.stages] == ["1", "2", "4", "5"]  # the last of each size: 22, 11, 9, 4
    for stage in e.stages[2:]:
        bottom, right = stage.projection.boxes[0, 2:].tolist()
        assert bottom > 18 and right > 18 and float(stage.drops[0]) > 0.5
        strong = stage.projection.pixels[0].abs().sum(0)
        assert float(strong[17:, 17:].sum()) > 0.5 * float(strong.sum())
        assert stage.sanity is not None and stage.sanity.units.equal(stage.projection.units)
        assert stage.sanity.places.equal(stage.projection.places)
    unmarked = x.clone()
    unmarked[:, :, 18:23, 18:23] = watermarked(2, 3)[0][0, :, 18:23, 18:23]
    assert int(cheat(unmarked).argmax()) == 0  # and that is all it goes by


def test_ablated_units_by_a_plain_loop(cheat: nn.Sequential) -> None:
    x = watermarked(2, 2)[0][1:]
    e = deconvviz.explain(cheat, x, layers=["1", "3"], top=8, window=12, stride=12, checks=False)
    for stage in e.stages:
        assert sorted(stage.projection.units.tolist()) == list(range(8))
        for unit, drop in zip(stage.projection.units.tolist(), stage.drops.tolist(), strict=True):
            other = copy.deepcopy(cheat)

            def without(module: nn.Module, given: object, out: Tensor, unit: int = unit) -> Tensor:
                return out.index_fill(1, torch.tensor([unit]), 0)

            other.get_submodule(stage.layer).register_forward_hook(without)
            with torch.no_grad():
                assert drop == pytest.approx(float(cheat(x)[0, 1] - other(x)[0, 1]), abs=1e-5)


def test_units_by_activation_times_gradient(cheat: nn.Sequential) -> None:
    x = watermarked(2, 2)[0][1:]
    e = deconvviz.explain(cheat, x, layers=["4"], top=8, window=12, stride=12, checks=False)
    maps = cheat[:5](x).detach().requires_grad_()
    cheat[5:](maps)[0, 1].backward()
    assert maps.grad is not None
    shares = (maps * maps.grad).sum((0, 2, 3))
    units = e.stages[0].projection.units
    torch.testing.assert_close(e.stages[0].contributions.float(), shares[units].detach(), rtol=1e-4, atol=1e-5)
    assert e.stages[0].contributions.tolist() == sorted(shares.tolist(), reverse=True) or bool(
        (e.stages[0].contributions.diff() <= 1e-6).all()
    )


# Stages -------------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, maps: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(maps, out, 3, stride, padding=1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv(x))  # type: ignore[no-any-return]


def blocks() -> nn.Sequential:
    return nn.Sequential(
        Block(1, 3, 2), Block(3, 3, 1), Block(3, 4, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )


@pytest.mark.parametrize(
    "aliases, layers, expected",
    [
        ({}, None, ["1", "2"]),  # the last of the outermost modules that return a size, not its parts; no 1 × 1
        ({"1": "0.conv", "2": "2.conv", "3": "5", "stem": "0"}, None, ["0.conv", "2.conv"]),  # as far as they have maps
        ({"stem": "0"}, ["2", "stem"], ["2", "0"]),
    ],
)
def test_stages(aliases: dict[str, str], layers: list[str] | None, expected: list[str]) -> None:
    net = Network(blocks(), 16, aliases=aliases)
    rec = record(net.plain, torch.rand(1, 1, 16, 16))
    assert rec.output is not None
    assert [one.path for one in stages_of(net, rec, rec.output, layers)] == expected


def test_what_only_scales_the_picture_is_no_stage_and_calls_are_told_apart() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.conv = nn.AvgPool2d(1), nn.Conv2d(1, 1, 3, 2, padding=1)
            self.fc = nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.conv(self.conv(self.scale(x))).flatten(1))  # type: ignore[no-any-return]

    x = torch.rand(1, 1, 16, 16)
    found = deconvviz.explain(Twice(), x, window=8, stride=8)
    assert [stage.layer for stage in found.stages] == ["conv#0", "conv#1"]
    again = deconvviz.explain(Twice(), x, layers=["conv#0", "scale"], window=8, stride=8)
    assert [stage.layer for stage in again.stages] == ["conv#0", "scale"]
    assert again.stages[0].size == (8, 8) and again.stages[0].sanity is not None
    assert again.stages[0].sanity.boxes.equal(again.stages[0].projection.boxes)
    assert again.stages[1].sanity is None


def test_the_method_follows_the_photograph() -> None:
    x = torch.rand(1, 1, 16, 16)
    made = deconvviz.explain(blocks(), x, window=8, stride=8, checks=False)
    assert [stage.projection.policy["method"] for stage in made.stages] == ["guided", "guided"]
    asked = deconvviz.explain(blocks(), x, window=8, stride=8, checks=False, method="gradient")
    assert {stage.projection.policy["method"] for stage in asked.stages} == {"gradient"}


def test_errors() -> None:
    x = torch.rand(1, 1, 16, 16)
    with pytest.raises(deconvviz.DeconvvizValueError, match="layer '5' has no map"):
        deconvviz.explain(blocks(), x, layers=["5"])
    with pytest.raises(deconvviz.UnknownNameError, match="unknown layer 'conv'"):
        deconvviz.explain(blocks(), x, layers=["conv"])
    with pytest.raises(deconvviz.UnknownNameError, match="method is 'deconv'"):
        deconvviz.explain(blocks(), x, method="deconv")
    with pytest.raises(deconvviz.DeconvvizValueError, match="target is 2; allowed: 0 to 1"):
        deconvviz.explain(blocks(), x, target=2)
    with pytest.raises(deconvviz.DeconvvizValueError, match="top is 0"):
        deconvviz.explain(blocks(), x, top=0)


def test_a_stage_is_not_the_first_step_of_the_next_one() -> None:
    """A block widens its maps before it halves them: the last layer of a size is the block before."""

    class Inverted(nn.Module):
        def __init__(self, maps: int, out: int) -> None:
            super().__init__()
            self.widen, self.halve = nn.Conv2d(maps, 6, 1), nn.Conv2d(6, out, 3, 2, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.halve(self.widen(x))  # type: ignore[no-any-return]

    net = Network(nn.Sequential(Block(1, 3, 1), Inverted(3, 4), Inverted(4, 2)))
    rec = record(net.plain, torch.rand(1, 1, 16, 16))
    assert rec.output is not None
    assert [one.path for one in stages_of(net, rec, rec.output, None)] == ["0", "1"]
