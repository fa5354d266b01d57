"""Names that lead nowhere: the error says which is meant."""

from __future__ import annotations

import pytest

import deconvviz
from deconvviz.errors import UnknownNameError

MEANT = {
    "torchvison:resnet50": "torchvision:resnet50",
    "Torchvision:resnet50": "torchvision:resnet50",
    "hf_hub:me/net": "hf-hub:me/net",
    "huggingface:me/net": "hf-hub:me/net",
    "Timm:resnet50": "timm:resnet50",
    "https://huggingface.co/me/net": "hf-hub:me/net",
    "me/net": "hf-hub:me/net",
    "efficientnet_b0": "torchvision:efficientnet_b0",
    "torchvision/resnet50": "torchvision:resnet50",
    "zfnett": "zfnet",
}


@pytest.mark.parametrize("name", MEANT)
def test_the_name_that_is_meant(name: str) -> None:
    with pytest.raises(UnknownNameError, match=f"did you mean '{MEANT[name]}'") as caught:
        deconvviz.load(name, "random")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["efficientnet_b0", "resnet50.a1_in1k", "timm/resnet50"])
def test_networks_of_timm(name: str) -> None:
    pytest.importorskip("timm")
    with pytest.raises(UnknownNameError, match=rf"'timm:{name.removeprefix('timm/')}'"):
        deconvviz.load(name, "random")


def test_a_module_that_fails_to_import_another_is_not_misspelt(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hub_of_mine.py").write_text("import not_installed\n")  # type: ignore[operator]
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UnknownNameError, match="No module named 'not_installed'$"):
        deconvviz.load("hub_of_mine:make")
