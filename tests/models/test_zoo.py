"""The zoo: parameter counts, shapes, sizes of Fig. 3, training, cards, ZFNet-512's graph."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deconvviz.models import registry

COUNTS = {
    "lenet": 44_426,
    "alexnet_28": 24_351_434,
    "vgg11_32": 28_512_740,
    "vgg13_32": 28_697_252,
    "vgg16_32": 34_006_948,
    "vgg19_32": 39_316_644,
    "vgg11_bn_32": 28_518_244,
    "vgg13_bn_32": 28_703_140,
    "vgg16_bn_32": 34_015_396,
    "vgg19_bn_32": 39_327_652,
    "googlenet_32": 6_258_500,
    "resnet18_32": 11_220_132,
    "resnet34_32": 21_328_292,
    "resnet50_32": 23_705_252,
    "resnet101_32": 42_697_380,
    "resnet152_32": 58_341_028,
    "resnext50_32": 14_788_772,
    "resnext101_32": 25_303_204,
    "resnext152_32": 33_343_652,
    "seresnet18_32": 11_314_012,
    "seresnet34_32": 21_498_000,
    "seresnet50_32": 26_262_804,
    "seresnet101_32": 47_527_764,
    "seresnet152_32": 65_045_780,
    "zfnet512": 87_250_536,
    "alexnet": 61_100_840,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "googlenet": 6_624_904,
    "resnet50": 25_557_032,
    "resnet152": 60_192_808,
    "resnext50": 25_028_904,
    "resnext101": 88_791_336,
    "senet154": 115_088_984,
}
TIMM = importlib.util.find_spec("timm") is not None


def meta(name: str, **options: object) -> nn.Module:
    if name.startswith("se") and not name.endswith("_32") and not TIMM:
        pytest.skip("needs timm")
    with torch.device("meta"):
        return registry.build(name, **options).eval()


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_count(name: str) -> None:
    assert parameters(meta(name)) == COUNTS[name]


def test_every_small_form_has_a_known_count() -> None:
    assert {n for n in registry.names() if n.endswith(("_32", "_28"))} <= set(COUNTS)


@pytest.mark.parametrize("name", registry.names())
def test_builds_as_its_card_says(name: str) -> None:
    module, card = meta(name), registry.card(name)
    out = module(torch.empty(1, card.channels, *card.input_size, device="meta"))
    assert card.name == name
    assert out.shape == (1, len(card.labels))
    assert len(set(card.labels)) >= len(card.labels) - 2  # ImageNet has two pairs of namesakes
    assert len(card.std) == card.channels
    paths = dict(module.named_modules())
    assert set(card.aliases.values()) <= set(paths)
    assert {"1", "3", "4", "5"} <= set(card.aliases)


@pytest.mark.parametrize("name", [n for n in registry.names() if n.startswith("vgg")])
def test_vgg_aliases_name_the_convolutions_in_order(name: str) -> None:
    module, card = meta(name), registry.card(name)
    named = [path for alias, path in card.aliases.items() if alias.startswith("conv")]
    assert named == [path for path, m in module.named_modules() if isinstance(m, nn.Conv2d)]


@pytest.mark.parametrize("name", [n for n in registry.names() if n == "lenet" or n.endswith(("_28", "_32"))])
def test_learns(name: str) -> None:
    torch.manual_seed(0)
    module, card = registry.build(name), registry.card(name)
    for m in module.modules():
        if isinstance(m, nn.Dropout):
            m.p = 0.0
    x = torch.randn(4, card.channels, *card.input_size)
    y = torch.arange(4)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.005)
    losses = []
    for _ in range(4):
        loss = F.cross_entropy(module(x), y)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_zfnet_sizes_of_figure_3() -> None:
    module = meta("zfnet", classes=1000, fc=(4096, 4096))
    assert parameters(module) == 62_357_608
    sizes: dict[str, tuple[int, ...]] = {}
    handles = [
        child.register_forward_hook(lambda _m, _i, out, key=key: sizes.__setitem__(key, tuple(out.shape[1:])))
        for key, child in module.named_children()
    ]
    module(torch.empty(1, 3, 224, 224, device="meta"))
    for handle in handles:
        handle.remove()
    expected = {
        "conv1": (96, 110, 110),
        "norm1": (96, 55, 55),
        "conv2": (256, 26, 26),
        "norm2": (256, 13, 13),
    }
    expected |= {"conv3": (384, 13, 13), "conv4": (384, 13, 13), "conv5": (256, 13, 13), "pool5": (256, 6, 6)}
    assert {key: sizes[key] for key in expected} == expected
    assert sizes["avgpool"] == (256, 6, 6) and sizes["fc8"] == (1000,)


def test_zfnet_wide_variant() -> None:
    wide = meta("zfnet", classes=1000, fc=(4096, 4096), conv=(96, 256, 512, 1024, 512))
    assert parameters(wide) == 107_627_624


def test_names_need_no_torch() -> None:
    code = "import sys; from deconvviz.models import names; names(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_zfnet512_graph_equals_the_onnx_file() -> None:
    onnx = pytest.importorskip("onnx")
    path = Path(onnx.__file__).parent / "backend/test/data/light/light_zfnet512.onnx"
    graph = onnx.load(str(path)).graph
    module = meta("zfnet512")
    ours = [m for m in module.modules() if not list(m.children())]
    kinds = {
        "Conv": nn.Conv2d,
        "Relu": nn.ReLU,
        "LRN": nn.LocalResponseNorm,
        "MaxPool": nn.MaxPool2d,
        "Gemm": nn.Linear,
    }
    nodes = [n for n in graph.node if n.op_type in kinds]
    assert [kinds[n.op_type] for n in nodes] == [type(m) for m in ours]
    shapes = {i.name: tuple(onnx.numpy_helper.to_array(i)) for i in graph.initializer if i.name.endswith("__SHAPE")}
    for node, m in zip(nodes, ours, strict=True):
        facts = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if isinstance(m, nn.Conv2d | nn.Linear):
            assert shapes[f"{node.input[1]}__SHAPE"] == tuple(m.weight.shape)
        if isinstance(m, nn.Conv2d):
            assert (facts["strides"], facts["pads"]) == (list(m.stride), list(m.padding) * 2)  # type: ignore[arg-type]
        if isinstance(m, nn.MaxPool2d):
            assert facts["kernel_shape"] == [m.kernel_size] * 2 and facts["strides"] == [m.stride] * 2
        if isinstance(m, nn.LocalResponseNorm):
            assert (m.size, m.alpha, m.beta, m.k) == (
                5,
                pytest.approx(facts["alpha"]),
                facts["beta"],
                facts["bias"],
            )


@pytest.mark.skipif(not TIMM, reason="needs timm")
def test_timm_cards_agree_with_timm() -> None:
    import timm

    from deconvviz.models import imagenet_timm

    for name, theirs in imagenet_timm._THEIRS.items():
        config, card = timm.get_pretrained_cfg(theirs), registry.card(name)
        assert (config.mean, config.std, config.license) == (card.mean, card.std, card.available[0].licence)
        assert card.resize == int(224 / config.crop_pct) and config.input_size == (3, 224, 224)


def test_zfnet512_takes_rgb(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    import numpy as np

    from deconvviz.models import zfnet512

    rng = np.random.default_rng(0)
    layers = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
    arrays = {f"gpu_0/{n}_{s}_0": rng.random((2, 3, 7, 7), dtype=np.float32) for n in layers for s in "wb"}
    made = [onnx.numpy_helper.from_array(a, n) for n, a in arrays.items()]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], made)), str(tmp_path / "z.onnx"))
    state = zfnet512.read_onnx(tmp_path / "z.onnx")
    assert list(state) == list(meta("zfnet512").state_dict())
    rgb, kernel = torch.rand(1, 3, 7, 7), torch.from_numpy(arrays["gpu_0/conv1_w_0"])
    expected = F.conv2d(rgb[:, [2, 1, 0]], kernel)
    assert torch.allclose(F.conv2d(rgb, state["features.conv1.weight"]), expected, atol=1e-5)
    assert np.array_equal(state["classifier.fc8.bias"].numpy(), arrays["gpu_0/fc8_b_0"])
    damaged = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], made[1:]))
    onnx.save(damaged, str(tmp_path / "d.onnx"))
    with pytest.raises(ValueError, match="conv1_w_0"):
        zfnet512.read_onnx(tmp_path / "d.onnx")
