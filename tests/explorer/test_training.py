"""A page of a model that trains: its mode is its own, and answers are of the weights as they are."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from deconvviz import Network, explore, project

from .conftest import Page, picture, small


def trainable() -> tuple[Network, nn.Module]:
    """The small network with dropout, which shows the mode, in training."""
    net = small()
    module = nn.Sequential(*list(net.module)[:-1], nn.Dropout(0.5), net.module[-1])
    module.requires_grad_(True)
    card = net.card
    return Network(module.train(), 32, mean=card.mean, std=card.std, labels=card.labels), module


def test_weights_that_have_changed_are_noticed(tmp_path: Path) -> None:
    net, module = trainable()
    with explore(net, picture(0)) as explorer:
        page = Page(explorer, net, tmp_path)
        id = page.json("model")["pictures"][0]["id"]
        before = page.json(f"pictures/{id}")["answer"]
        assert page.json(f"pictures/{id}")["answer"] == before and module.training
        optimiser = torch.optim.SGD(module.parameters(), 0.5)
        module(net.preprocess(picture(0))).logsumexp(1).sum().backward()
        optimiser.step()
        after = page.json(f"pictures/{id}")["answer"]
        with torch.no_grad():
            own = module.eval()(net.preprocess(picture(0)))[0]
        assert after != before
        assert {one["class"]: one["logit"] for one in after} == pytest.approx(
            {int(k): float(own[k]) for k in own.argsort(descending=True)[:5]}, abs=1e-5
        )
        found = page.json(f"pictures/{id}/projection", layer="3", unit=5)
        assert found["activation"] == pytest.approx(float(project(net, picture(0), "3", [5]).activations[0]), abs=1e-5)
        page.http.close()


def test_it_may_train_meanwhile(tmp_path: Path) -> None:
    net, module = trainable()
    modes, end = set(), threading.Event()

    def train() -> None:
        optimiser, x = torch.optim.SGD(module.parameters(), 1e-4), torch.rand(2, 3, 32, 32)
        while not end.is_set():
            modes.add(tuple(part.training for part in module.modules()))
            optimiser.zero_grad()
            module(x).pow(2).sum().backward()
            optimiser.step()
            time.sleep(0.02)

    with explore(net, picture(0)) as explorer:
        page = Page(explorer, net, tmp_path)
        id = page.json("model")["pictures"][0]["id"]
        thread = threading.Thread(target=train)
        thread.start()
        try:
            answers = [page.get(f"pictures/{id}/projection", layer="3", unit=k % 12) for k in range(30)]
            answers += [page.get(f"pictures/{id}/cover", row=k, col=k, window="8,8") for k in range(10)]
        finally:
            end.set()
            thread.join(30)
        for answer in answers:
            assert answer.status_code == 200 or (
                answer.status_code == 422 and "the model has changed since" in answer.json()["error"]
            ), answer.text
        assert modes == {(True,) * len(list(module.modules()))}
        # When it rests, all is answered.
        assert page.get(f"pictures/{id}/cover", row=0, col=0, window="8,8").status_code == 200
        page.http.close()
