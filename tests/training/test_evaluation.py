"""Mean per-category accuracy against a plain loop over pictures as `Network.preprocess` makes them."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch
from PIL import Image

import deconvviz
from deconvviz.data.pictures import Pictures
from deconvviz.errors import DeconvvizValueError
from deconvviz.training import accuracy


def pictures() -> Pictures:
    g = torch.Generator().manual_seed(0)
    sizes = [(28, 28), (28, 40), (36, 28)] * 10
    x = [torch.randint(0, 256, (1, *size), generator=g, dtype=torch.uint8) for size in sizes]
    classes = torch.randint(0, 10, (30,), generator=g)
    return Pictures(x, classes, tuple(map(str, range(30))), tuple(map(str, range(10))))


@pytest.mark.parametrize("crops", [1, 10])
def test_against_a_plain_loop(crops: int) -> None:
    net, data = deconvviz.load("lenet"), pictures()
    hits: dict[int, list[bool]] = defaultdict(list)
    chosen = range(3, 30)
    for i in chosen:
        x = data.pixels[i]
        _, h, w = x.shape
        corners = [(0, 0), (0, w - 28), (h - 28, 0), (h - 28, w - 28)]
        centre = (round((h - 28) / 2), round((w - 28) / 2))
        views = [x[0, t : t + 28, left : left + 28] for t, left in ([centre] if crops == 1 else [*corners, centre])]
        views += [v.flip(1) for v in views] if crops == 10 else []
        inputs = [net.preprocess(Image.fromarray(v.contiguous().numpy())) for v in views]
        with torch.no_grad():
            guess = net.module(torch.cat(inputs)).softmax(1).mean(0).argmax()
        hits[int(data.classes[i])].append(int(guess) == int(data.classes[i]))
    wanted = sum(sum(h) / len(h) for h in hits.values()) / len(hits)
    net.module.train()
    assert accuracy(net.module, net.card, data, chosen, 28, crops) == pytest.approx(wanted, abs=1e-12)
    assert net.module.training and wanted > 0


def test_crops_are_one_or_ten() -> None:
    net = deconvviz.load("lenet")
    with pytest.raises(DeconvvizValueError, match="crops is 5; allowed: 1, 10"):
        accuracy(net.module, net.card, pictures(), [0], 28, 5)
