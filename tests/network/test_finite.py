"""NaN and infinity that arise in a pass of finite weights and pictures."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import deconvviz

X = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def overflowing() -> nn.Sequential:
    """Its second convolution returns infinity, its output NaN."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 4),
    ).eval()  # fmt: skip
    with torch.no_grad():
        for n in (0, 2):
            model[n].weight.mul_(1e20)
        assert not model(X).isfinite().all() and model[:2](X).isfinite().all()
    return model


WHERE = r"the first to be so is operator 'convolution' in layer '2', inf at \(0, \d, \d, \d\); allowed with allow_non"


def test_the_layer_where_it_began_is_named() -> None:
    model = overflowing()
    with pytest.raises(deconvviz.DeconvvizValueError, match=rf"^'3' is not finite for this picture \(inf .*{WHERE}"):
        deconvviz.project(model, X, "3", top=1)
    with pytest.raises(deconvviz.DeconvvizValueError, match=rf"^the output is not finite .* \(nan .*{WHERE}") as caught:
        deconvviz.occlude(model, X, window=4, stride=4)
    assert "\n" not in str(caught.value)
    with pytest.raises(deconvviz.DeconvvizValueError, match=r"^'3' is not finite"):
        deconvviz.occlude(Ending(model), X, window=4, stride=4, layer="3")


class Ending(nn.Sequential):
    """The same layers; what they come to is finite."""

    def __init__(self, model: nn.Sequential) -> None:
        super().__init__(*model[:4], nn.Sigmoid(), *model[4:])


def test_it_may_be_allowed() -> None:
    net = deconvviz.Network(overflowing(), allow_nonfinite=True)
    assert not deconvviz.project(net, X, "3", top=1).activations.isfinite().all()
    assert not deconvviz.occlude(net, X, window=4, stride=4).logits.isfinite().all()


def test_what_becomes_finite_again_is_no_error() -> None:
    o = deconvviz.occlude(Ending(overflowing()), X, window=4, stride=4)
    assert o.logits.isfinite().all()


class Masked(nn.Module):
    """Places that do not count are minus infinity, a layer of its own and two of its classes as well."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.mask = nn.Conv2d(3, 5, 3), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        y = self.mask(y.masked_fill(torch.eye(10, dtype=torch.bool), -torch.inf))
        return y.amax((2, 3)).masked_fill(torch.arange(5) > 2, -torch.inf)


def test_minus_infinity_is_a_mask() -> None:
    torch.manual_seed(0)
    model = Masked().eval()
    assert deconvviz.project(model, X, "mask", top=2, method="gradient").pixels.isfinite().all()
    o = deconvviz.occlude(model, X, window=4, stride=4, layer="mask")
    assert o.logits[:, :3].isfinite().all() and o.logits[:, 3:].eq(-torch.inf).all()


def test_an_infinite_derivative_is_a_warning() -> None:
    """The root's at 0, as in autograd."""

    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.read = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.read((self.conv(x) * 0).sqrt())
            return y

    model = Root()
    with pytest.warns(deconvviz.DeconvvizWarning, match=r"unit 1 of 'read' is not finite: on the way a derivative"):
        p = deconvviz.project(model, X, "read", units=[1], method="gradient")
    top, left, bottom, right = p.boxes[0].tolist()
    leaf = X.clone().requires_grad_()
    (want,) = torch.autograd.grad(model(leaf)[0, 1, 0, 0], leaf)
    assert want[0, :, top:bottom, left:right].isnan().all() and p.pixels[0, :, top:bottom, left:right].isnan().all()
    deconvviz.project(deconvviz.Network(model, allow_nonfinite=True), X, "read", units=[1], method="gradient")
