"""Sanity checks on networks whose answers are known: by hand, by a plain loop over copies, by construction."""

from __future__ import annotations

import copy
import zlib
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deconvviz
from deconvviz.analyses.sanity.measures import rank_correlation
from deconvviz.analyses.sanity.randomise import Copy, Step, steps_to
from deconvviz.engine.recorder import record


def picture(seed: int = 0, channels: int = 1, side: int = 16) -> Tensor:
    return torch.rand(1, channels, side, side, generator=torch.Generator().manual_seed(seed))


def pooled(maps: int = 4) -> nn.Sequential:
    """Two convolutions, a pool between them; the layers are "0" and "4"."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, maps, 3), nn.ReLU()
    ).eval()


def redrawn(net: nn.Sequential, *paths: str) -> nn.Sequential:
    """A copy whose modules of these paths are as torch initialises them, from the seed that is documented."""
    other = copy.deepcopy(net)
    for path in paths:
        torch.manual_seed(zlib.crc32(f"0 {path}".encode()))
        other.get_submodule(path).reset_parameters()  # type: ignore[operator]  # torch's own layers
    return other


def sent_back(net: nn.Sequential, x: Tensor, s: deconvviz.Sanity, method: str) -> Tensor:
    """The same units, seeded with 1 at the same places, by `project`: below the last rectifier."""
    height, width = net(x).shape[2:]
    seeds = torch.zeros(len(s), height, width)
    seeds[torch.arange(len(s)), s.places[:, 0], s.places[:, 1]] = 1
    return deconvviz.project(net, x, "4", units=s.units, seed=seeds, method=method).pixels


@pytest.mark.parametrize("method", ["deconvnet", "guided", "gradient"])
def test_randomised_layers_by_a_plain_loop_over_copies(method: str) -> None:
    net, x = pooled(), picture()
    s = deconvviz.sanity(net, x, "5", units=[2, 0], method=method)
    assert s.layers == ("4", "0")
    base = sent_back(net, x, s, method)
    for found, ways in ((s.cascading, (["4"], ["4", "0", "1"])), (s.independent, (["4"], ["0", "1"]))):
        for n, paths in enumerate(ways):
            other = sent_back(redrawn(net, *paths), x, s, method)
            for k, (top, left, bottom, right) in enumerate(s.boxes.tolist()):
                inside = (k, slice(None), slice(top, bottom), slice(left, right))
                plain = rank_correlation(base[inside], other[inside]) if other[inside].any() else float("nan")
                assert float(found[n, k, 0]) == pytest.approx(plain, abs=1e-5, nan_ok=True)
    assert s.similarity.tolist() == pytest.approx(s.cascading[:, :, 0].nanmean(1).tolist(), nan_ok=True)


def test_without_a_pool_the_picture_has_no_part() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.ReLU())
    s = deconvviz.sanity(net, picture(), "3", others=[picture(1), picture(2)])
    assert s.switches == 0 and s.between_pictures == pytest.approx(1)
    assert s.through_other_switches == pytest.approx(1) and s.companions == ("picture 1", "picture 2")
    said = {one.about: one for one in s.statements()}
    assert not said["picture"].shows and "No max pool lies on the way" in said["picture"].text
    assert not said["switches"].shows
    guided = deconvviz.sanity(net, picture(), "3", others=[picture(1), picture(2)], method="guided")
    assert guided.between_pictures < 0.99


def test_units_that_are_all_the_same() -> None:
    net = pooled()
    net[4].weight.data[:] = net[4].weight.data[:1]  # type: ignore[union-attr,operator,index]  # a convolution's
    s = deconvviz.sanity(net, picture(), "5", units=[1])
    assert s.between_units == pytest.approx(1)
    assert not next(one for one in s.statements() if one.about == "unit").shows


def test_signal_and_switches_exchanged_by_hand() -> None:
    """A pool alone above a convolution that passes on: what comes back is an unpooling."""
    net = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.MaxPool2d(2))
    net[0].weight.data = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)  # type: ignore[union-attr]  # a convolution's
    a, b = picture(0), picture(1)
    (maps_a, at_a), (maps_b, at_b) = (F.max_pool2d(x, 2, return_indices=True) for x in (a, b))

    def alike(one: Tensor, other: Tensor) -> float:
        return float(F.cosine_similarity(one.flatten(), other.flatten(), dim=0).abs())

    own = F.max_unpool2d(maps_a, at_a, 2)
    s = deconvviz.sanity(net, a, "1", units=[0], others=[b])
    assert s.switches == 1
    assert s.through_own_switches == pytest.approx(alike(own, F.max_unpool2d(maps_b, at_a, 2)))
    assert s.through_other_switches == pytest.approx(alike(own, F.max_unpool2d(maps_a, at_b, 2)))
    row, column = s.places[0].tolist()
    same_place = int(at_a[0, 0, row, column]) == int(at_b[0, 0, row, column])
    assert s.between_pictures == pytest.approx(float(same_place))
    assert s.between_units == pytest.approx(1)  # one filter, twice


def test_a_layer_of_numbers_and_a_module_as_the_layer() -> None:
    net = nn.Sequential(pooled(), nn.Flatten(), nn.Linear(4 * 5 * 5, 3))
    s = deconvviz.sanity(net, picture(), net[2], units=[0, 2])
    assert s.layers == ("2", "0.4", "0.0") and s.boxes.tolist() == [[0, 0, 16, 16]] * 2


def test_some_of_the_layers() -> None:
    layers = [part for _ in range(6) for part in (nn.Conv2d(1, 1, 1), nn.ReLU())]
    for part in layers[::2]:
        part.weight.data[:], part.bias.data[:] = 1, 0.1  # type: ignore[union-attr,index]  # convolutions'
    s = deconvviz.sanity(nn.Sequential(*layers), picture(), "11", most=3)
    assert s.layers == ("10", "6", "0") and s.policy["layers"] == 6


def test_one_unit_alone_has_no_neighbours() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 3), nn.MaxPool2d(2))
    s = deconvviz.sanity(net, picture(), "1")
    assert s.between_units != s.between_units and "unit" not in {one.about for one in s.statements()}
    assert s.facts()["between_units"] is None
    assert s.figure() is not None


def test_the_same_seed_draws_the_same_weights() -> None:
    net, x = pooled(), picture()
    first = deconvviz.sanity(net, x, "5")
    torch.manual_seed(77)
    assert deconvviz.sanity(net, x, "5") == first
    assert not deconvviz.sanity(net, x, "5", seed=1).cascading.equal(first.cascading)


# Drawing anew --------------------------------------------------------------------------------------------------------


class Meddler(nn.Module):
    """A layer of a user's own whose initialisation writes to another one."""

    def __init__(self, other: nn.Conv2d) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(9.0).view(1, 1, 3, 3))
        self.others = (other,)

    def reset_parameters(self) -> None:
        self.others[0].weight.data.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight)


def test_initialisation_of_a_users_own_is_not_run_and_weights_change_places() -> None:
    first = nn.Conv2d(1, 1, 3)
    net = nn.Sequential(first, Meddler(first))
    before = first.weight.clone()
    copied = Copy(net, 0)
    held = copied.randomise(Step("1", ("1",)))
    fresh = copied.module.get_parameter("1.weight")
    assert sorted(fresh.flatten().tolist()) == list(range(9)) and not fresh.equal(net.get_parameter("1.weight"))
    assert first.weight.equal(before)
    copied.restore(held)
    assert copied.module.get_parameter("1.weight") is net.get_parameter("1.weight")


def test_shared_weights_stay_shared() -> None:
    one, two = nn.Conv2d(1, 1, 3, bias=False), nn.Conv2d(1, 1, 3, bias=False)
    two.weight = one.weight
    copied = Copy(nn.Sequential(one, two), 0)
    copied.randomise(Step("0", ("0",)))
    parts: Any = copied.module
    assert parts[0].weight is parts[1].weight and not parts[0].weight.equal(one.weight)


@pytest.mark.parametrize("wrapped", ["weight_norm", "spectral_norm"])
def test_parametrised_weights_are_drawn(wrapped: str) -> None:
    net = nn.Sequential(
        getattr(nn.utils.parametrizations, wrapped)(nn.Conv2d(1, 3, 3)), nn.ReLU(), nn.MaxPool2d(2)
    ).eval()
    s = deconvviz.sanity(net, picture(), "2")
    assert s.layers == ("0",) and float(s.similarity[0]) < 0.9


def test_norms_go_with_the_layer_before_them_and_what_leads_elsewhere_stays() -> None:
    net = nn.Sequential(pooled(), nn.Conv2d(4, 2, 1))
    rec = record(net, picture())
    assert steps_to(rec, rec.calls["0.4"][-1] or 0, net, {"top": "0.4"}) == [
        Step("top", ("0.4",)),
        Step("0.0", ("0.0", "0.1")),
    ]


ELSEWHERE = nn.Conv2d(1, 2, 3)


class Global(nn.Module):
    """Its convolution is reached as a global: no copy of its modules is without it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = ELSEWHERE
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(ELSEWHERE(x))  # type: ignore[no-any-return]


def test_what_cannot_be_checked_says_so() -> None:
    with pytest.raises(deconvviz.DeconvvizValueError, match="nothing to randomise"):
        deconvviz.sanity(nn.Sequential(nn.MaxPool2d(2)), picture(), "0")
    with pytest.raises(deconvviz.DeconvvizValueError, match="this picture alone"):
        deconvviz.sanity(pooled(), picture(), "5", others=[picture()])
    with pytest.raises(deconvviz.DeconvvizValueError, match="sizes"):
        deconvviz.sanity(pooled(), picture(), "5", others=[picture(side=18)])
    with pytest.raises(deconvviz.DeconvvizTypeError, match="units is 'class'"):
        deconvviz.sanity(pooled(), picture(), "5", units="class")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(deconvviz.UnsupportedOperatorError, match="no copy of this model"):
        deconvviz.sanity(Global(), picture(), "pool")
