"""`deconvviz.captum` is there when asked for, says what it needs, and fits where captum's classes do."""

from __future__ import annotations

import doctest
import inspect
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import captum.attr
import matplotlib.pyplot as plt
import pytest
import torch
from captum.attr import NoiseTunnel
from captum.attr import visualization as shown
from captum.metrics import infidelity, sensitivity_max
from torch import Tensor, nn

import deconvviz
import deconvviz.captum
from deconvviz import MissingPackageError

NAMES = deconvviz.captum.__all__
# captum says of its own classes that they hang hooks on the model, and ask the inputs for gradients.
pytestmark = pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU", "ignore:Input Tensor")


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(200, 4)
    ).eval()


X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def both(name: str) -> tuple[Any, Any]:
    """The method of captum, and ours."""
    model = small()
    more = (model[0],) if name.startswith("Neuron") else ()  # type: ignore[index]
    return getattr(captum.attr, name)(model, *more), getattr(deconvviz.captum, name)(model, *more)


def test_it_comes_when_it_is_asked_for() -> None:
    code = (
        "import sys, deconvviz; assert 'captum' not in sys.modules; deconvviz.captum.Occlusion;"
        "deconvviz.rules.register; assert 'captum' in sys.modules; print('done')"
    )
    assert run(code) == "done\n"


def test_without_captum_one_line_says_what_to_install() -> None:
    code = (
        "import sys, deconvviz; sys.modules['captum'] = None\n"
        "deconvviz.project\n"
        "try: deconvviz.captum\n"
        "except deconvviz.MissingPackageError as error: print(error)"
    )
    said = run(code)
    assert said.count("\n") == 1 and "pip install 'deconvviz[compare]'" in said
    assert issubclass(MissingPackageError, ImportError) and issubclass(MissingPackageError, deconvviz.DeconvvizError)


@pytest.mark.parametrize("name", NAMES)
def test_signatures_and_bases_are_those_of_captum(name: str) -> None:
    theirs, ours = getattr(captum.attr, name), getattr(deconvviz.captum, name)
    for function in ("__init__", "attribute"):
        a, b = (inspect.signature(getattr(c, function)).parameters for c in (theirs, ours))
        assert [(p.name, p.default, p.kind) for p in a.values()] == [(p.name, p.default, p.kind) for p in b.values()]
    bases = {c for c in theirs.__mro__ if c.__module__ == "captum.attr._utils.attribution"}
    assert bases and all(issubclass(ours, c) for c in bases)
    assert ours.get_name() == theirs.get_name()
    a, b = both(name)
    assert (a.multiplies_by_inputs, a.has_convergence_delta()) == (b.multiplies_by_inputs, b.has_convergence_delta())


@pytest.mark.parametrize("name", NAMES)
def test_noise_tunnel(name: str) -> None:
    how: dict[str, Any] = {"neuron_selector": (1, 2, 3)} if name.startswith("Neuron") else {"target": [1, 3]}
    how |= {"sliding_window_shapes": (3, 6, 5), "strides": (3, 4, 5)} if name == "Occlusion" else {}
    answers = []
    for method in both(name):
        torch.manual_seed(3)
        answers.append(NoiseTunnel(method).attribute(X, nt_type="smoothgrad_sq", nt_samples=3, stdevs=0.2, **how))
    torch.testing.assert_close(answers[1], answers[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["Deconvolution", "GuidedBackprop", "Occlusion"])
def test_metrics(name: str) -> None:
    how: dict[str, Any] = {"sliding_window_shapes": (3, 6, 5), "strides": (3, 4, 5)} if name == "Occlusion" else {}

    def perturbed(x: Tensor) -> tuple[Tensor, Tensor]:
        noise = torch.randn_like(x) * 0.1
        return noise, x - noise

    numbers = []
    for method in both(name):
        torch.manual_seed(4)
        found = method.attribute(X, target=1, **how).detach()
        far = sensitivity_max(method.attribute, X, n_perturb_samples=2, target=1, **how)
        numbers.append((infidelity(method.forward_func, perturbed, X, found, target=1), far))
    torch.testing.assert_close(numbers[1], numbers[0], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["GuidedBackprop", "Occlusion"])
def test_captum_draws_it(name: str) -> None:
    how: dict[str, Any] = {"sliding_window_shapes": (3, 6, 5)} if name == "Occlusion" else {}
    found = both(name)[1].attribute(X, target=1, **how)[0].permute(1, 2, 0).numpy()
    figure, _ = shown.visualize_image_attr(found, X[0].permute(1, 2, 0).numpy(), sign="all", use_pyplot=False)
    assert figure.axes
    plt.close("all")


def test_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(sorted((Path(__file__).parents[2] / "demos" / "images").glob("*.jpg"))[0], tmp_path / "image.jpg")
    monkeypatch.chdir(tmp_path)
    members = [deconvviz.captum, *(getattr(deconvviz.captum, name).attribute for name in NAMES)]
    for member in members:
        (test,) = doctest.DocTestFinder(recurse=False).find(member, "example", globs={"deconvviz": deconvviz})
        result = doctest.DocTestRunner().run(test)
        assert result.attempted > 1 and not result.failed
