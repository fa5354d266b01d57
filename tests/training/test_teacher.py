"""A teacher is asked for crops and never runs in a step; the student's head leaves no trace."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

import deconvviz
from deconvviz.data.pictures import Pictures
from deconvviz.errors import DeconvvizValueError, UnknownNameError, WeightsError
from deconvviz.models.recipes import Recipe, Teaching
from deconvviz.training import Teacher, load_teacher, train
from deconvviz.training.scaffold import Guess, Head, ends_of
from deconvviz.training.teacher import fit_linear


class Small(nn.Module):
    """Maps of 8x8 places: the mean colours of the picture there."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.AvgPool2d(4)
        self.linear = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(self.maps(x).mean((2, 3)))
        return y


def ramps() -> Pictures:
    """Two pictures of 48 x 64 whose red rises to the right, green downwards; blue tells them apart."""
    x = torch.zeros(2, 3, 48, 64)
    x[:, 0] = torch.linspace(0, 252, 64)
    x[:, 1] = torch.linspace(0, 188, 48)[:, None]
    x[1, 2] = 200
    return Pictures(list(x.round().to(torch.uint8)), torch.tensor([0, 1]), ("a", "b"), ("dark", "blue"))


def small_teacher(teaching: Teaching) -> Teacher:
    net = deconvviz.Network(Small().eval(), 32, mean=[0.0] * 3, std=[1.0] * 3)
    return Teacher(net, ramps(), [1, 0], teaching)


def test_the_maps_of_a_crop_are_those_of_its_area() -> None:
    places = torch.tensor([[0.25, 0.25, 0.75, 0.5], [0.5, 0.125, 0.875, 0.875]])
    found = small_teacher(Teaching()).look([0, 1], places, (2, 3))
    assert found.shape == (2, 3, 2, 3)
    for k, (left, top, right, bottom) in enumerate(places.tolist()):
        # Of a ramp, the value of a cell is that in its middle.
        across = left + (right - left) * (torch.arange(3) + 0.5) / 3
        down = top + (bottom - top) * (torch.arange(2) + 0.5) / 2
        assert torch.allclose(found[k, 0], (across * 252 / 255).expand(2, 3), atol=0.01)
        assert torch.allclose(found[k, 1], (down * 188 / 255)[:, None].expand(2, 3), atol=0.01)
        assert torch.allclose(found[k, 2], torch.tensor(k * 200 / 255), atol=1e-3)


def test_the_maps_of_a_mirrored_crop_are_mirrored() -> None:
    teacher = small_teacher(Teaching())
    plain = teacher.look([0], torch.tensor([[0.25, 0.25, 0.75, 0.5]]), (2, 3))
    mirrored = teacher.look([0], torch.tensor([[0.75, 0.25, 0.25, 0.5]]), (2, 3))
    assert torch.equal(mirrored, plain.flip(3)) and not torch.equal(mirrored, plain)


def test_its_classifier_is_at_the_minimum() -> None:
    g = torch.Generator().manual_seed(0)
    classes = torch.arange(60) % 3
    x = torch.randn(60, 4, generator=g) * torch.tensor([1.0, 10.0, 0.1, 1.0]) + 5
    x[:, 1] += 20 * classes
    weight, bias = fit_linear(x, classes, 3, decay=1e-2)
    weight = (weight * x.std(0)).requires_grad_()  # of standardised inputs, where the decay counts
    bias = (bias + weight.detach() @ (x.mean(0) / x.std(0))).requires_grad_()
    z = (x - x.mean(0)) / x.std(0)
    logits = z @ weight.T + bias
    assert (logits.argmax(1) == classes).float().mean() > 0.7
    (F.cross_entropy(logits, classes) + 1e-2 * weight.pow(2).sum()).backward()
    assert weight.grad is not None and float(weight.grad.abs().max()) < 1e-3


def test_the_loss_by_hand() -> None:
    teacher = small_teacher(Teaching(soft=0.25, temperature=2.0, maps=5.0, embedding=3.0))
    maps = teacher.look([0], torch.tensor([[0.0, 0.0, 1.0, 1.0]]), (1, 2))
    crops = maps.mean((2, 3))
    logits, embedding = torch.tensor([[1.0, -1.0]]), torch.tensor([[0.3, 0.1, 0.2]])
    guess = Guess(torch.tensor([0.2, 0.5, 0.1, 0.4, 0.9, 0.3]).view(1, 3, 1, 2), embedding)
    p = [math.exp(v / 2) for v in teacher.scores(crops)[0].tolist()]
    q = [math.exp(v / 2) for v in logits[0].tolist()]
    p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
    divergence = 4 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))

    def apart(a: Tensor, b: Tensor) -> float:
        one, two = a.tolist(), b.tolist()
        return 1 - sum(x * y for x, y in zip(one, two, strict=True)) / math.hypot(*one) / math.hypot(*two)

    places = sum(apart(guess.maps[0, :, 0, k], maps[0, :, 0, k]) for k in range(2)) / 2
    wanted = 0.75 * 0.7 + 0.25 * divergence + 5 * places
    found = teacher.loss(logits, guess, torch.tensor(0.7), maps, teacher.likely(maps))
    assert float(found) == pytest.approx(wanted + 3 * apart(embedding[0], crops[0]), rel=1e-5)
    found = teacher.loss(logits, Guess(guess.maps, None), torch.tensor(0.7), maps, teacher.likely(maps))
    assert float(found) == pytest.approx(wanted, rel=1e-5)


def test_ends_of_networks() -> None:
    lenet = deconvviz.load("lenet", "random").module.train()
    ends = ends_of(lenet, torch.zeros(1, 1, 28, 28))
    assert ends.maps is lenet.features and ends.channels == 16 and ends.linear is lenet.classifier.fc5
    assert all(m.training for m in lenet.modules()) and not any(m._forward_hooks for m in lenet.modules())
    resnet = deconvviz.load("resnet18_32", "random").module
    assert ends_of(resnet, torch.zeros(1, 3, 32, 32)).linear is not None
    with pytest.raises(DeconvvizValueError, match="no layer with places"):
        ends_of(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.zeros(1, 1, 2, 2))


def test_the_head_sees_the_last_vector_and_the_last_maps() -> None:
    lenet = deconvviz.load("lenet", "random").module
    head = Head(lenet, torch.zeros(1, 1, 28, 28), 7)
    x = torch.randn(2, 1, 28, 28)
    lenet(x)
    maps = lenet.features(x)
    vector = lenet.classifier[:4](maps.flatten(1))
    guess = head()
    assert guess.vector is not None and head.vector is not None
    assert torch.allclose(guess.vector, head.vector(vector), atol=1e-6)
    assert torch.allclose(guess.maps, head.maps(maps), atol=1e-6)


def test_a_taught_run_learns_and_resumes_bit_equal(folder: Path, full: Recipe, tmp_path: Path) -> None:
    recipe = replace(full, name="taught", ema=0.5, filter_rms=0.0, stages=((6, 0),))
    lines = train("lenet", folder, tmp_path / "whole", recipe=recipe, teacher="lenet", workers=0)
    assert lines[-1]["loss"] < 0.8 * lines[0]["loss"]

    def stop(line: dict[str, object]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("lenet", folder, tmp_path / "parts", recipe=recipe, teacher="lenet", workers=0, report=stop)
    with pytest.raises(DeconvvizValueError, match="teacher"):
        train("lenet", folder, tmp_path / "parts", recipe=recipe, workers=0, resume=True)
    train("lenet", folder, tmp_path / "parts", recipe=recipe, teacher="lenet", workers=0, resume=True)
    files = [tmp_path / run / "final.safetensors" for run in ("whole", "parts")]
    whole, parts = map(load_file, files)
    assert whole.keys() == parts.keys() and all(torch.equal(whole[k], parts[k]) for k in whole)
    with safe_open(files[0], framework="pt") as file:
        assert set(file.keys()) == set(deconvviz.load("lenet", "random").module.state_dict())
        assert json.loads(file.metadata()["teacher"])[0] == "lenet"
    assert deconvviz.load("lenet", files[0]).card.labels == ("bottom", "middle", "top")


def test_weights_with_other_names_in_the_same_order(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    name = "mobilenetv3_small_050"
    own = timm.create_model(name, pretrained=False)
    state = own.state_dict()
    torch.save({f"_{k}": v for k, v in state.items()}, tmp_path / "w.pth")
    found = load_teacher(name, tmp_path / "w.pth")
    assert not found.module.training and found.card.input_size == (224, 224) and len(found.card.mean) == 3
    assert all(torch.equal(v, state[k]) for k, v in found.module.state_dict().items())
    torch.save({f"_{k}": v for k, v in list(state.items())[::-1]}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="does not match"):
        load_teacher(name, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="needs the file"):
        load_teacher(name, None)
    with pytest.raises(UnknownNameError, match="did you mean 'mobilenetv3_small_050'"):
        load_teacher("mobilenetv3_smal_050", None)
