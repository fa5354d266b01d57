"""What units do to the classes, against autograd in float64 and by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import deconvviz
from deconvviz import Network, PanelSource
from deconvviz.scanning.store import Store

SIZE = 20


class Pooled(nn.Module):
    """Two convolutions, averaged over the map and weighed (with an in-place ReLU, a branch and a norm on the way)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 5, 3)
        self.norm = nn.BatchNorm2d(5)
        self.last = nn.Conv2d(5, 6, 3, padding=1)
        self.skip = nn.Conv2d(5, 6, 1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.first(x)))
        x = self.relu(self.last(x) + self.skip(x))
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


def make() -> Network:
    torch.manual_seed(2)
    module = Pooled().eval()
    module.norm.running_mean = torch.rand(5)
    return Network(module, SIZE, (0.4,) * 3, (0.3,) * 3)


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("classes")
    for n in range(6):
        path = place / "photos" / "ab"[n % 2] / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(n).integers(0, 256, (24, 22, 3), dtype=np.uint8)).save(path)
    layers = ["first", "norm", "relu", "head"]
    deconvviz.scan(make(), place / "photos", layers, top=3, store=place / "s.db", workers=0).close()
    return place / "s.db"


@pytest.mark.parametrize("at_once", [64, 3])
def test_weights_where_a_layer_feeds_a_linear_one(scanned: Path, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deconvviz.analyses.panels.classes._CLASSES", at_once)
    net = make()
    with Store.open(scanned) as store:
        source = PanelSource(net, store)
        direct = {layer.name: source.direct(layer) for layer in store.layers()}
        # The last ReLU is averaged, which is linear; its mean activation times the weight is what is added.
        found = direct.pop("relu")
        assert found is not None and np.allclose(found, net.module.head.weight.detach().numpy(), atol=1e-6)
        assert set(direct) == {"first", "norm", "head"} and not any(w is not None for w in direct.values())
        means = store.units("relu").mean
        x = torch.cat([source.input(picture) for picture in store.pictures()])
    logits = net.module(x).mean(0).detach().numpy() - net.module.head.bias.detach().numpy()
    assert np.allclose((found * means).sum(1), logits, atol=1e-5), "all that is added is the mean logit"


def test_shares_are_autograds(scanned: Path) -> None:
    net = make()
    with Store.open(scanned) as store:
        source, layers = PanelSource(net, store), store.layers()[:3]
        pictures = list(store.pictures())
        found = list(source.shares(layers, pictures))
        inputs = [source.input(picture).double() for picture in pictures]
    module = make().module.double()
    assert len(found) == 6
    for x, (number, shares) in zip(inputs, found, strict=True):
        kept: dict[str, Tensor] = {}

        def keep(name: str, kept: dict[str, Tensor] = kept) -> object:
            def hook(_module: nn.Module, _given: object, out: Tensor) -> Tensor:
                kept[name] = out.clone().requires_grad_() if not out.requires_grad else out.clone()
                kept[name].retain_grad()
                return kept[name].clone()

            return hook

        handles = [getattr(module, name).register_forward_hook(keep(name)) for name in ("first", "norm", "relu")]
        logits = module(x)
        for handle in handles:
            handle.remove()
        assert number == int(logits.argmax())
        logits[0, number].backward()
        for layer, share in zip(layers, shares, strict=True):
            value = kept[layer.name]
            assert value.grad is not None
            expected = (value * value.grad).sum((0, 2, 3)).detach().numpy()
            assert np.allclose(share, expected, rtol=1e-4, atol=1e-6), layer.name


def test_many_places_of_one_weight_each_are_not_direct(tmp_path: Path) -> None:
    """A map that is flattened has a weight for every place: what it adds does not follow from its mean."""
    torch.manual_seed(0)
    net = Network(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 18 * 18, 3)), SIZE, (0.4,) * 3, (0.3,) * 3
    )
    Image.new("RGB", (24, 24), (200, 90, 10)).save(tmp_path / "a.png")
    with deconvviz.scan(net, tmp_path, ["0", "1"], top=1, store=tmp_path / "s.db", workers=0) as store:
        source = PanelSource(net, store)
        assert source.direct(store.layer("0")) is None
        weights = source.direct(store.layer("1"))
        assert weights is not None and np.allclose(weights, net.module[2].weight.detach().numpy())


def test_without_class_scores_there_is_nothing_to_say(tmp_path: Path) -> None:
    net = Network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), SIZE, (0.4,) * 3, (0.3,) * 3)
    one = Network(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 18 * 18, 1)), SIZE, (0.4,) * 3, (0.3,) * 3
    )
    Image.new("RGB", (24, 24), (200, 90, 10)).save(tmp_path / "a.png")
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(0))
    for n, empty in enumerate((one, Network(module, SIZE, (0.4,) * 3, (0.3,) * 3))):
        with deconvviz.scan(empty, tmp_path, ["0"], top=1, store=tmp_path / f"{n}.db", workers=0) as store:
            source = PanelSource(empty, store)
            assert source.direct(store.layer("0")) is None
            assert list(source.shares(store.layers(), list(store.pictures()))) == []
    # Maps of class scores at every place are scores: their mean.
    with deconvviz.scan(net, tmp_path, ["0"], top=1, store=tmp_path / "dense.db", workers=0) as store:
        (found,) = PanelSource(net, store).shares(store.layers(), list(store.pictures()))
        assert found[0] in range(4)
