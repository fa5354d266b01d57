"""Every registered rule against the Jacobian of its operator, in float64, whole and windowed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import deform_conv2d, ps_roi_align, roi_align

import deconvviz
from deconvviz.engine.recorder import record
from deconvviz.engine.rules import register, registered
from deconvviz.engine.rules.base import Rule

torch.manual_seed(0)
W = torch.randn(4, 4, 3, 3, dtype=torch.float64)
WEIGHT = torch.rand(4, dtype=torch.float64) + 0.5
RECURRENT = [kind(4, 3, batch_first=True).double() for kind in (nn.LSTM, nn.GRU)]
MATRIX = torch.randn(9, 9, dtype=torch.float64)


def conv(x: Tensor) -> Tensor:
    """A fixed convolution, so that in-place operators have a value of their own to write to."""
    return F.conv2d(x, W, padding=1)


@torch.library.custom_op("tests::quarter", mutates_args=())
def quarter(x: Tensor) -> Tensor:
    """An operator that only its author knows."""
    return torch.rot90(x, 1, (2, 3)).clone()


quarter.register_autograd(lambda _context, gradient: torch.rot90(gradient, -1, (2, 3)).clone())


def written(into: Tensor, what: Tensor | float) -> Tensor:
    """A part of `into`, read and written before and after."""
    part = into[:, :2, 1:]
    part[:] = what
    into[:, 3] = part[:, 0, :1] * 2
    return into + 1


def unpooled(x: Tensor) -> Tensor:
    """A volume pooled and put back."""
    pooled, places = F.max_pool3d(x.unsqueeze(1), 2, return_indices=True)
    return F.max_unpool3d(pooled, places, 2, output_size=(4, 9, 9))


def masked(into: Tensor, x: Tensor) -> Tensor:
    """Numbers under a mask, and at places, replaced."""
    into[:, 1, MATRIX > 0] = x[:, 0, MATRIX > 0] * 2
    return into


# Operator names (an in-place twin shares its rule) and a function of a map (1, 4, 9, 9) that dispatches to it.
CASES: list[tuple[str, Callable[[Tensor], Tensor]]] = [
    ("convolution", lambda x: F.conv2d(x, W[:, :2], stride=2, padding=1, dilation=2, groups=2)),
    ("convolution", lambda x: F.conv2d(x, W, stride=(2, 1), padding=(0, 2))),
    ("addmm", lambda x: F.linear(x.flatten(1)[:, :9], MATRIX, MATRIX[0])),
    ("mm", lambda x: x[0, 0] @ MATRIX),
    ("bmm", lambda x: torch.bmm(x[0], MATRIX.expand(4, 9, 9))),
    ("max_pool2d_with_indices", lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True)),
    ("max_pool2d_with_indices", lambda x: F.max_pool2d(x, (2, 3), (1, 2), dilation=2)),
    ("adaptive_max_pool2d", lambda x: F.adaptive_max_pool2d(x, 4)),
    ("avg_pool2d", lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True)),
    ("avg_pool2d", lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False)),
    ("avg_pool2d", lambda x: F.avg_pool2d(x, 2, divisor_override=3)),
    ("_adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, 4)),
    ("upsample_nearest2d", lambda x: F.interpolate(x, scale_factor=2)),
    ("upsample_bilinear2d", lambda x: F.interpolate(x, size=(13, 5), mode="bilinear", antialias=False)),
    ("upsample_bicubic2d", lambda x: F.interpolate(x, size=(13, 5), mode="bicubic")),
    ("relu", lambda x: F.lp_pool2d(x.relu(), 2, 2)),  # where all is zero an infinite slope meets a shut switch
    ("mean", lambda x: x.mean((2, 3))),
    ("sum", lambda x: x.sum(2, keepdim=True)),
    ("relu", lambda x: x.relu()),
    ("relu_", lambda x: conv(x).relu_()),
    ("leaky_relu", lambda x: F.leaky_relu(x, 0.1)),
    ("elu", F.elu),
    ("gelu", F.gelu),
    ("silu", F.silu),
    ("hardswish", F.hardswish),
    ("softplus", F.softplus),
    ("mish", F.mish),
    ("sigmoid", torch.sigmoid),
    ("hardsigmoid", F.hardsigmoid),
    ("tanh", torch.tanh),
    ("threshold", lambda x: F.threshold(x, 0.0, 0.0)),
    ("clamp_min", lambda x: x.clamp_min(0)),
    ("clamp", lambda x: x.clamp(min=-0.3, max=0.4)),
    ("hardtanh", F.hardtanh),
    ("_prelu_kernel", lambda x: F.prelu(x, WEIGHT)),
    ("log_sigmoid_forward", F.logsigmoid),
    ("softshrink", F.softshrink),
    ("hardshrink", F.hardshrink),
    ("exp", torch.exp),
    ("pow", lambda x: x.pow(2)),
    ("sqrt", lambda x: x.relu().add(1).sqrt()),
    ("rsqrt", lambda x: x.relu().add(1).rsqrt()),
    ("log", lambda x: x.relu().add(1).log()),
    ("abs", torch.abs),
    ("reciprocal", lambda x: x.relu().add(1).reciprocal()),
    ("maximum", lambda x: torch.maximum(x, torch.zeros_like(x))),
    ("minimum", lambda x: torch.minimum(x, WEIGHT.view(4, 1, 1))),
    ("minimum", lambda x: torch.minimum(x, conv(x))),
    ("clamp_max", lambda x: x.clamp_max(0.2)),
    ("where", lambda x: torch.where(x > 0, x, 0.1 * x)),
    ("where", lambda x: torch.where(MATRIX > 0, conv(x), x)),
    ("where", lambda x: torch.where(x < 0, x[:, :1], x.mean())),
    ("masked_fill", lambda x: x.masked_fill(x < 0.1, 0.5)),
    ("masked_fill_", lambda x: conv(x).masked_fill_(MATRIX > 0, 0)),
    ("amax", lambda x: x.amax((2, 3))),
    ("amax", lambda x: x.amax(1, keepdim=True)),
    ("amax", lambda x: x.amax((1, -1))),
    ("max", lambda x: x.max(2, keepdim=True).values),
    ("max", lambda x: x.max(1)[0]),
    ("max", lambda x: x.max()),
    ("gt", lambda x: x * (x > 0.2)),
    ("le", lambda x: conv(x) * (x <= 0)),
    ("ge", lambda x: x * (x >= 0.2).to(x.dtype)),
    ("lt", lambda x: x * (x < 0.2)),
    ("eq", lambda x: x * (x.relu() == 0)),
    ("ne", lambda x: x * (x.relu() != 0)),
    ("logical_not", lambda x: x * (x < 0).logical_not()),
    ("logical_and", lambda x: x * torch.logical_and(x > 0, conv(x) > 0)),
    ("logical_or", lambda x: x * torch.logical_or(x > 0, conv(x) > 0)),
    ("sign", lambda x: x * x.sign()),
    ("floor", lambda x: x * x.floor()),
    ("ceil", lambda x: x * x.ceil()),
    ("round", lambda x: x * x.round()),
    ("isnan", lambda x: x * ~x.isnan()),
    ("bitwise_not", lambda x: x * ~(x < 0)),
    ("_softmax", lambda x: x.softmax(1)),
    ("_log_softmax", lambda x: x.log_softmax(1)),
    ("native_batch_norm", lambda x: F.batch_norm(x, WEIGHT - 1, WEIGHT, WEIGHT, WEIGHT)),
    ("native_batch_norm", lambda x: F.batch_norm(x, None, None, WEIGHT, training=True)),
    ("local_response_norm", lambda x: F.local_response_norm(x, 3, alpha=0.5)),
    ("native_layer_norm", lambda x: F.layer_norm(x, (9,), MATRIX[0], MATRIX[1])),
    ("native_group_norm", lambda x: F.group_norm(x, 2, WEIGHT)),
    ("add", lambda x: conv(x) + 2 * x),
    ("add", lambda x: torch.add(x, x[:, :, :1], alpha=3)),
    ("sub", lambda x: conv(x).sub(x, alpha=0.5)),
    ("rsub", lambda x: 3 - x),
    ("cat", lambda x: torch.cat([conv(x), x, torch.zeros_like(x)], 1)),
    ("cat", lambda x: torch.cat([x, x], 2)),
    ("stack", lambda x: torch.stack([x, torch.ones_like(x), conv(x)], 2)),
    ("mul", lambda x: x * (x > 0)),
    ("mul", lambda x: x * WEIGHT.view(4, 1, 1)),
    ("mul", lambda x: x * x.mean((2, 3), keepdim=True).sigmoid()),
    ("mul", lambda x: x * torch.sigmoid(x)),
    ("mul", lambda x: x * x),
    ("div", lambda x: x / 3),
    ("div", lambda x: x / (x.pow(2) + 1)),
    ("neg", lambda x: -x),
    ("view", lambda x: x.view(1, 2, 2, 9, 9)),
    ("_unsafe_view", lambda x: torch.ops.aten._unsafe_view(x, [1, 36, 9])),
    ("unsqueeze", lambda x: x.unsqueeze(1)),
    ("squeeze", lambda x: x.mean(2, keepdim=True).squeeze(2)),
    ("clone", lambda x: x.clone()),
    ("as_strided_", lambda x: conv(x).as_strided_((1, 4, 9, 9), (324, 81, 9, 1))),
    ("permute", lambda x: x.permute(0, 2, 3, 1)),
    ("transpose", lambda x: x.transpose(2, 3)),
    ("t", lambda x: x[0, 0].t()),
    ("expand", lambda x: x.unsqueeze(1).expand(1, 2, 4, 9, 9)),
    ("split", lambda x: x.chunk(2, 1)[1]),
    ("unsafe_split", lambda x: torch.unsafe_chunk(x, 2, 1)[1]),
    ("unsafe_split_with_sizes", lambda x: torch.unsafe_split_with_sizes(x, [1, 3], 1)[1]),
    ("transpose_", lambda x: conv(x).transpose_(2, 3)),
    ("t_", lambda x: conv(x)[0, 0].clone().t_()),
    ("add", lambda x: torch.ones(1, 4, 9, 9, dtype=torch.float64).add_(x).mul_(conv(x))),
    ("split_with_sizes", lambda x: x.split([1, 3], 1)[1]),
    ("unbind", lambda x: x.unbind(1)[2]),
    ("repeat", lambda x: x.repeat(1, 1, 2, 1)),
    ("flip", lambda x: x.flip(3)),
    ("roll", lambda x: x.roll(2, 3)),
    ("index_select", lambda x: x.index_select(1, torch.tensor([2, 0, 2]))),
    ("reflection_pad2d", lambda x: F.pad(x, (1, 2, 0, 3), "reflect")),
    ("replication_pad2d", lambda x: F.pad(x, (1, 2, 0, 3), "replicate")),
    ("constant_pad_nd", lambda x: F.pad(x, (2, 1, 1, -1))),
    ("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2)),
    ("pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 3)),
    ("channel_shuffle", lambda x: F.channel_shuffle(x, 2)),
    ("unfold", lambda x: x.unfold(2, 3, 2)),
    ("slice", lambda x: x[:, 1:3]),
    ("slice", lambda x: x[:, :, ::2, 1:]),
    ("select", lambda x: x[:, 2]),
    # One- and three-dimensional, transposed, with weights made from the image, on maps that are no batch of one.
    ("convolution", lambda x: F.conv1d(x.flatten(2), W[:, :, 0], padding=1, groups=1)),
    ("convolution", lambda x: F.conv3d(x.unsqueeze(2), W.unsqueeze(2), padding=(0, 1, 1))),
    ("convolution", lambda x: F.conv2d(x, W, padding="valid")),
    ("convolution", lambda x: F.conv2d(F.pad(x, (0, 1, 0, 1)), W[:, :1], stride=2, padding="valid", groups=4)),
    ("convolution", lambda x: F.conv_transpose2d(x, W, stride=2, padding=1, output_padding=1)),
    ("convolution", lambda x: F.conv_transpose2d(x, W[:, :2], stride=3, dilation=2, groups=2)),
    ("convolution", lambda x: F.conv2d(x, x[:, :, :3, :3].mean(0) * W, padding=1)),
    ("convolution", lambda x: F.conv2d(torch.ones_like(x), x[:, :, :3, :3], x[0, 0, 0, :1])),
    ("convolution", lambda x: F.conv2d(x.transpose(0, 1), W[:, :1], padding=1)),
    ("max_pool2d_with_indices", lambda x: F.max_pool2d(x.transpose(0, 1), 3, 2)),
    ("avg_pool2d", lambda x: F.avg_pool2d(x.transpose(0, 1), 3, 2)),
    ("max_pool3d_with_indices", lambda x: F.max_pool3d(x.unsqueeze(1), 2)),
    ("adaptive_max_pool3d", lambda x: F.adaptive_max_pool3d(x, 2)),
    ("avg_pool3d", lambda x: F.avg_pool3d(x.unsqueeze(1), 2)),
    ("_adaptive_avg_pool3d", lambda x: F.adaptive_avg_pool3d(x, 2)),
    ("max_unpool2d", lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2, output_size=(9, 9))),
    ("max_unpool3d", unpooled),
    ("upsample_nearest1d", lambda x: F.interpolate(x.flatten(2), scale_factor=2)),
    ("upsample_linear1d", lambda x: F.interpolate(x.flatten(2), 50, mode="linear")),
    ("upsample_nearest3d", lambda x: F.interpolate(x.unsqueeze(1), scale_factor=2)),
    ("upsample_trilinear3d", lambda x: F.interpolate(x.unsqueeze(1), (3, 5, 11), mode="trilinear")),
    ("_upsample_nearest_exact1d", lambda x: F.interpolate(x.flatten(2), 50, mode="nearest-exact")),
    ("_upsample_nearest_exact2d", lambda x: F.interpolate(x, (13, 5), mode="nearest-exact")),
    ("_upsample_nearest_exact3d", lambda x: F.interpolate(x.unsqueeze(1), (3, 5, 11), mode="nearest-exact")),
    ("_upsample_bilinear2d_aa", lambda x: F.interpolate(x, (4, 5), mode="bilinear", antialias=True)),
    ("_upsample_bicubic2d_aa", lambda x: F.interpolate(x, (4, 5), mode="bicubic", antialias=True)),
    ("im2col", lambda x: F.unfold(x, 3, padding=1, stride=2)),
    ("im2col", lambda x: F.unfold(x[0], 3)),
    ("col2im", lambda x: F.fold(F.unfold(x, 3), (9, 9), 3)),
    ("grid_sampler_2d", lambda x: F.grid_sample(x, MATRIX[:8].view(1, 6, 6, 2) / 3, align_corners=False)),
    ("grid_sampler_2d", lambda x: F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1).tanh(), align_corners=True)),
    ("grid_sampler_3d", lambda x: F.grid_sample(x[:, None], MATRIX.view(1, 3, 3, 3, 3) / 3, align_corners=False)),
    ("reflection_pad1d", lambda x: F.pad(x.flatten(2), (2, 3), "reflect")),
    ("replication_pad1d", lambda x: F.pad(x.flatten(2), (2, 3), "replicate")),
    ("reflection_pad3d", lambda x: F.pad(x.unsqueeze(1), (1, 2, 0, 3, 1, 1), "reflect")),
    ("replication_pad3d", lambda x: F.pad(x.unsqueeze(1), (1, 2, 0, 3, 1, 1), "replicate")),
    # Statistics, order, places.
    ("linalg_vector_norm", F.normalize),
    ("linalg_vector_norm", lambda x: torch.linalg.vector_norm(x, dim=(2, 3))),
    ("norm", lambda x: torch.ops.aten.norm(x, 2, [1], True)),
    ("var", lambda x: x.var((2, 3))),
    ("std", lambda x: x.std(1, keepdim=True) * x),
    ("var_mean", lambda x: torch.var_mean(x, 1)[0] + torch.var_mean(x, 1)[1]),
    ("std_mean", lambda x: torch.std_mean(x, (2, 3))[1]),
    ("topk", lambda x: x.flatten(2).topk(3)[0]),
    ("sort", lambda x: x.sort(1)[0]),
    ("kthvalue", lambda x: x.flatten(2).kthvalue(3)[0]),
    ("median", lambda x: x.median(1)[0]),
    ("min", lambda x: x.min(1)[0]),
    ("amin", lambda x: x.amin((2, 3))),
    ("argmax", lambda x: x * x.argmax(1, keepdim=True)),
    ("argmin", lambda x: x * x.argmin(1, keepdim=True)),
    # More activations, comparisons, products.
    *[
        (f.__name__, f)
        for f in (
            torch.erf,
            torch.erfc,
            torch.sin,
            torch.cos,
            torch.atan,
            torch.expm1,
            torch.asinh,
            torch.sinh,
            torch.cosh,
            torch.tan,
            torch.exp2,
        )
    ],
    ("log1p", lambda x: x.abs().log1p()),
    ("log2", lambda x: x.abs().add(1).log2()),
    ("log10", lambda x: x.abs().add(1).log10()),
    ("pow", lambda x: x.abs().add(1).pow(WEIGHT.view(4, 1, 1))),
    ("pow", lambda x: x.abs().add(1).pow(conv(x))),
    ("pow", lambda x: 2**x),
    ("pow", lambda x: x[:, :1].abs().add(1).pow(WEIGHT.view(4, 1, 1))),
    ("rrelu_with_noise", lambda x: F.rrelu(x)),
    ("trunc", lambda x: x * x.trunc()),
    ("isinf", lambda x: x * ~x.isinf()),
    ("logical_xor", lambda x: x * torch.logical_xor(x > 0, conv(x) > 0)),
    ("bitwise_and", lambda x: x * ((x > 0) & (conv(x) > 0))),
    ("bitwise_or", lambda x: x * ((x > 0) | (conv(x) > 0))),
    ("addcmul", lambda x: torch.addcmul(WEIGHT.view(4, 1, 1), WEIGHT.view(4, 1, 1), x, value=2)),
    ("addcmul", lambda x: torch.addcmul(x, conv(x), x, value=2)),
    ("addcdiv", lambda x: torch.addcdiv(x, conv(x), x.pow(2) + 1, value=2)),
    ("lerp", lambda x: torch.lerp(x, conv(x), 0.3)),
    ("lerp", lambda x: torch.lerp(x, conv(x), x.mean((2, 3), keepdim=True).sigmoid())),
    ("glu", lambda x: F.glu(x, 1)),
    ("div", lambda x: WEIGHT.view(4, 1, 1) / (x.abs() + 1)),
    ("div", lambda x: x + x.div(0.3, rounding_mode="floor")),
    ("div", lambda x: x / (x.pow(2).mean(1, keepdim=True) + 1)),
    ("mul", lambda x: x * F.relu6(x + 3) / 6),
    # Moves, writes, ends.
    ("gather", lambda x: x.gather(1, torch.tensor([2, 0, 2]).view(1, 3, 1, 1).expand(1, 3, 9, 9))),
    ("gather", lambda x: x.gather(1, x.argmax(1, keepdim=True))),
    ("take", lambda x: x.take(torch.tensor([2, 0, 300, 2]))),
    ("as_strided", lambda x: x.as_strided((3, 4), (81, 5), 7)),
    ("as_strided_copy", lambda x: torch.ops.aten.as_strided_copy(x, (3, 4), (81, 5), 7)),
    ("diagonal", lambda x: x.diagonal(dim1=2, dim2=3)),
    ("rot90", lambda x: x.rot90(1, (2, 3))),
    ("index", lambda x: x[:, torch.tensor([2, 0, 2])]),
    ("index", lambda x: x[:, :, MATRIX > 0]),
    ("index", lambda x: x[:, torch.tensor([2, 0]), torch.tensor([1, 5])]),
    ("_unsafe_index", lambda x: torch.ops.aten._unsafe_index(x, [None, None, torch.tensor([1, 5])])),
    ("detach", lambda x: x + conv(x).detach()),
    ("copy", lambda x: written(torch.zeros(1, 4, 9, 9, dtype=torch.float64), x[:, :2, 1:])),
    ("copy_", lambda x: conv(x).copy_(x[:, :1])),
    ("write_over", lambda x: written(conv(x), x[:, :2, 1:])),
    ("write_over", lambda x: F.pad(x, (1, 2, 0, 3), mode="circular")),
    ("fill", lambda x: torch.ops.aten.fill(conv(x), x[0, 0, 0, 0])),
    ("fill_", lambda x: written(conv(x), 2.0)),
    ("zero", lambda x: x + torch.ops.aten.zero(x)),
    ("zero_", lambda x: x + conv(x).zero_()),
    # Attention.
    ("_scaled_dot_product_flash_attention_for_cpu", lambda x: F.scaled_dot_product_attention(x, conv(x), 2 * x)),
    ("_scaled_dot_product_flash_attention_for_cpu", lambda x: F.scaled_dot_product_attention(x, x, x, MATRIX)),
    ("_scaled_dot_product_flash_attention_for_cpu", lambda x: F.scaled_dot_product_attention(x, x, x, conv(x))),
    ("bmm", lambda x: torch.bmm(x[0], conv(x)[0])),
    ("baddbmm", lambda x: torch.baddbmm(x[0], conv(x)[0], x[0], beta=0.5, alpha=2)),
    ("addmm", lambda x: torch.addmm(x[0, 0, 0], MATRIX, x[0, 1], beta=0.5, alpha=2)),
    # Samples between places, of torchvision; functions of complex numbers.
    ("torchvision.deform_conv2d", lambda x: deform_conv2d(x, conv(x).repeat(1, 5, 1, 1)[:, :18], W, WEIGHT, padding=1)),
    (
        "torchvision.deform_conv2d",
        lambda x: deform_conv2d(
            x, conv(x).repeat(1, 5, 1, 1)[:, :18], W, padding=1, mask=conv(x).sigmoid().repeat(1, 3, 1, 1)[:, :9]
        ),
    ),
    ("torchvision.roi_align", lambda x: roi_align(x, [torch.tensor([[0.0, 1, 5, 7]], dtype=x.dtype)], 3)),
    ("torchvision.ps_roi_align", lambda x: ps_roi_align(x, [torch.tensor([[0.0, 1, 5, 7]], dtype=x.dtype)], 2)),
    ("abs", lambda x: torch.fft.rfft2(x).abs()),
    ("pow", lambda x: torch.fft.rfft2(x).pow(2).real),
    ("sigmoid", lambda x: torch.fft.rfft2(x).sigmoid().imag),
    # Without a rule: linear, and not.
    ("_fft_r2c", lambda x: torch.fft.irfft2(torch.fft.rfft2(x) * torch.complex(W[0, 0, 0, 0], W[0, 0, 0, 1]))),
    ("cumsum", lambda x: x.cumsum(3)),
    ("tril", lambda x: x.tril()),
    (
        "scatter_add",
        lambda x: conv(x).scatter_add(1, torch.tensor([2, 2]).view(1, 2, 1, 1).expand(1, 2, 9, 9), x[:, :2]),
    ),
    ("index_add", lambda x: conv(x).index_add(1, torch.tensor([2, 0]), x[:, :2])),
    ("index_put_", lambda x: masked(conv(x), x)),
    ("mv", lambda x: torch.mv(MATRIX, x[0, 0, 0])),
    ("logsumexp", lambda x: x.logsumexp(1)),
    ("cumprod", lambda x: x.cumprod(1)),
    ("prod", lambda x: x.prod(1)),
    ("tests.quarter", quarter),
    # Recurrent, made of what is above.
    ("unsafe_split", lambda x: RECURRENT[0](x.flatten(2).transpose(1, 2))[0][:, -1]),
    ("transpose_", lambda x: RECURRENT[1](x.mean(2).transpose(1, 2))[0]),
]


class Case(nn.Module):
    """A convolution, the function under test, then a fixed random projection to four logits."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.stem = nn.Conv2d(3, 4, 3, padding=1).double()
        self.read = nn.Linear(function(torch.randn(1, 4, 9, 9).double()).numel(), 4).double()

    def forward(self, x: Tensor) -> Tensor:
        """Logits (1, 4)."""
        y: Tensor = self.read(self.function(self.stem(x)).reshape(1, -1))
        return y


@pytest.mark.parametrize(("name", "function"), CASES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CASES)])
def test_gradient_equals_autograd(name: str, function: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(1)
    model = Case(function).eval()
    x = torch.randn(1, 3, 9, 9, dtype=torch.float64)
    assert name in {op.name for op in record(model, x).ops}, "the case does not reach the operator that it names"
    p = deconvviz.project(model, x, "read", units=[0, 3], method="gradient")
    leaf = x.clone().requires_grad_()
    logits = model(leaf)[0]
    for k, unit in enumerate((0, 3)):
        (want,) = torch.autograd.grad(logits[unit], leaf, retain_graph=True)
        torch.testing.assert_close(p.pixels[k], (want * logits[unit])[0].detach(), rtol=1e-10, atol=1e-12)


def answers(model: nn.Module, x: Tensor, **policy: str) -> list[Tensor | str]:
    """Two units by every method, from a recording of everything and from one for that walk; errors as they are said."""
    found: list[Tensor | str] = []
    for _ in range(2):
        try:
            found.append(deconvviz.project(model, x, "read", units=[0, 3], **policy).pixels)  # type: ignore[arg-type]  # words all
        except deconvviz.UnsupportedOperatorError as error:
            found.append(str(error))
    return found


@pytest.mark.filterwarnings("ignore::deconvviz.DeconvvizWarning")
@pytest.mark.parametrize("method", ["deconvnet", "guided", "gradient"])
@pytest.mark.parametrize(("name", "function"), CASES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CASES)])
def test_a_recording_for_one_walk_answers_as_one_of_everything(
    name: str, function: Callable[[Tensor], Tensor], method: str
) -> None:
    """What a rule says it reads (`keeps`) and what it makes of that (`condense`) is all that it reads."""
    torch.manual_seed(1)
    model = Case(lambda x: function(F.conv2d(F.max_pool2d(x, 3, 1, 1), W, padding=1))).eval()
    x = torch.randn(1, 3, 9, 9, dtype=torch.float64)
    everything, walked = answers(model, x, method=method, attention="constant")
    if isinstance(everything, str) or isinstance(walked, str):
        assert everything == walked
    else:
        assert torch.equal(everything, walked)


@pytest.mark.parametrize(("name", "function"), CASES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CASES)])
def test_replay_equals_the_occluded_passes(name: str, function: Callable[[Tensor], Tensor]) -> None:
    """Every rule, run on windows or on whole maps of several pictures, gives what the network gives."""
    torch.manual_seed(3)
    # A second convolution before it makes the windows of the operator other than those of the picture.
    model = Case(lambda x: function(F.conv2d(x, W, padding=1))).eval()
    x = torch.randn(1, 3, 9, 9, dtype=torch.float64)
    o = deconvviz.occlude(model, x, window=(2, 1), stride=(3, 2), fill=0.7)
    for (row, col), logits in zip(o.origins.tolist(), o.logits, strict=True):
        covered = x.clone()
        covered[:, :, row : row + 2, col : col + 1] = 0.7
        with torch.no_grad():
            torch.testing.assert_close(logits, model(covered)[0], rtol=1e-11, atol=1e-11)


def test_windows_agree_with_autograd_at_every_place() -> None:
    """A unit's window is cut at each border and corner; its projection must not notice."""
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.ZeroPad2d((1, 0, 2, 1)),
        nn.Conv2d(4, 4, 3, dilation=2, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AvgPool2d(2, 1, ceil_mode=True),
    ).double()
    x = torch.randn(1, 3, 33, 27, dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    maps = model.eval()(leaf)[0]
    places = [(r, c) for r in range(maps.shape[1]) for c in range(maps.shape[2])]
    p = deconvviz.project(model, x, "7", units=[1] * len(places), place=places, method="gradient")
    for k, (r, c) in enumerate(places):
        (want,) = torch.autograd.grad(maps[1, r, c], leaf, retain_graph=True)
        torch.testing.assert_close(p.pixels[k], (want * maps[1, r, c])[0].detach(), rtol=1e-10, atol=1e-12)
        top, left, bottom, right = p.boxes[k].tolist()
        outside = p.pixels[k].clone()
        outside[:, top:bottom, left:right] = 0
        assert not outside.any()


# Names that a device, an older release or another call of torch dispatches to; their rule is tested under another name.
TWINS = {
    "reshape", "_reshape_alias", "flatten", "contiguous", "alias", "detach", "_to_copy", "lift_fresh", "copy", "matmul",
    "cudnn_batch_norm", "miopen_batch_norm", "_batch_norm_no_update", "_native_batch_norm_legit", "chunk", "relu6",
    "_native_batch_norm_legit_no_training", "native_channel_shuffle", "prelu", "celu", "selu", "squeeze", "unsqueeze",
    "_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention", "_upsample_lanczos2d_aa",
    "_scaled_dot_product_cudnn_attention", "_scaled_dot_product_fused_attention_overrideable",
    "_scaled_dot_product_attention_math", "_fused_rms_norm",
}  # fmt: skip


def test_every_rule_has_a_case() -> None:
    tested = {name for name, _ in CASES}
    missing = {n for n in registered() if n not in tested | TWINS and n.rstrip("_") not in tested | TWINS}
    assert not missing


def test_register_refuses_a_second_rule() -> None:
    with pytest.raises(deconvviz.DeconvvizValueError, match="'relu' has a rule already"):
        register("relu")(Rule)


def test_deconvnet_by_hand() -> None:
    """One 2×2 pool over a 4×4 map: the signal goes to the switch, is rectified, then filtered."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(1, 1, 2, bias=False))
    with torch.no_grad():
        model[0].weight.fill_(2)
        model[3].weight.copy_(torch.tensor([[[[1.0, -1.0], [3.0, 0.5]]]]))
    x = torch.tensor([[1.0, 2, 0, 1], [0, 1, 3, 0], [-1, -2, 1, 1], [-3, -1, 4, 1]]).view(1, 1, 4, 4)
    p = deconvviz.project(model.eval(), x, "3", units=[0])
    # Pooled: 4, 6, 0, 8; output 4 - 6 + 0 + 4 = 2. Signals 2, -2, 6, 1 at the switches (0,1), (1,2), (2,0), (3,2);
    # the negative one is rectified away; times the filter 2.
    want = torch.zeros(4, 4)
    want[0, 1], want[2, 0], want[3, 2] = 4, 12, 2
    assert p.activations.tolist() == [2]
    torch.testing.assert_close(p.pixels[0, 0], want)
