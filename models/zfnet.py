"""ZFNet, the network of Zeiler & Fergus (ECCV 2014), Fig. 3."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from deconvviz.card import Card

from ._common import IMAGENET_MEAN, IMAGENET_STD, bundled, kaiming, plain_aliases

NAMES = ("zfnet",)

CALTECH101 = tuple(
    """Faces Faces_easy Leopards Motorbikes accordion airplanes anchor ant barrel bass beaver binocular bonsai brain
    brontosaurus buddha butterfly camera cannon car_side ceiling_fan cellphone chair chandelier cougar_body
    cougar_face crab crayfish crocodile crocodile_head cup dalmatian dollar_bill dolphin dragonfly electric_guitar
    elephant emu euphonium ewer ferry flamingo flamingo_head garfield gerenuk gramophone grand_piano hawksbill
    headphone hedgehog helicopter ibis inline_skate joshua_tree kangaroo ketch lamp laptop llama lobster lotus
    mandolin mayfly menorah metronome minaret nautilus octopus okapi pagoda panda pigeon pizza platypus pyramid
    revolver rhino rooster saxophone schooner scissors scorpion sea_horse snoopy soccer_ball stapler starfish
    stegosaurus stop_sign strawberry sunflower tick trilobite umbrella watch water_lilly wheelchair wild_cat
    windsor_chair wrench yin_yang""".split()
)


class ZFNet(nn.Module):
    """Fig. 3 of the paper: (N, 3, 224, 224) to (N, classes) logits; 62,357,608 parameters with the defaults.

    Left open by the paper and chosen here: paddings that reproduce every size of Fig. 3 (pool1 and pool2 in ceil
    mode), and the contrast normalisation's constants (5 maps, k = 2, alpha = 1e-4, beta = 0.75). `avgpool` is the
    identity at 224² and lets other input sizes reach fc6. `conv=(96, 256, 512, 1024, 512)` is the wide variant of
    Tables 2 and 3. `init="kaiming"` suits normalised inputs; `"paper"` is N(0, 1e-2), made for inputs of about
    [-128, 128].
    """

    def __init__(
        self,
        classes: int = 1000,
        conv: tuple[int, int, int, int, int] = (96, 256, 384, 384, 256),
        fc: tuple[int, int] = (4096, 4096),
        init: str = "kaiming",
    ) -> None:
        super().__init__()
        if init not in ("kaiming", "paper"):
            raise ValueError(f"init is {init!r}; allowed: 'kaiming', 'paper'")
        c1, c2, c3, c4, c5 = conv
        self.conv1 = nn.Conv2d(3, c1, 7, stride=2, padding=1)
        self.relu1 = nn.ReLU(inplace=True)
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.norm1 = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0)
        self.conv2 = nn.Conv2d(c1, c2, 5, stride=2)
        self.relu2 = nn.ReLU(inplace=True)
        self.pool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.norm2 = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0)
        self.conv3 = nn.Conv2d(c2, c3, 3, padding=1)
        self.relu3 = nn.ReLU(inplace=True)
        self.conv4 = nn.Conv2d(c3, c4, 3, padding=1)
        self.relu4 = nn.ReLU(inplace=True)
        self.conv5 = nn.Conv2d(c4, c5, 3, padding=1)
        self.relu5 = nn.ReLU(inplace=True)
        self.pool5 = nn.MaxPool2d(3, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.fc6 = nn.Linear(c5 * 36, fc[0])
        self.relu6 = nn.ReLU(inplace=True)
        self.drop6 = nn.Dropout(0.5)
        self.fc7 = nn.Linear(fc[0], fc[1])
        self.relu7 = nn.ReLU(inplace=True)
        self.drop7 = nn.Dropout(0.5)
        self.fc8 = nn.Linear(fc[1], classes)
        kaiming(self)
        if init == "paper":
            for m in self.modules():
                if isinstance(m, nn.Conv2d | nn.Linear):
                    nn.init.normal_(m.weight, 0.0, 0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of normalised pictures (N, 3, H, W)."""
        x = self.norm1(self.pool1(self.relu1(self.conv1(x))))
        x = self.norm2(self.pool2(self.relu2(self.conv2(x))))
        x = self.relu3(self.conv3(x))
        x = self.relu4(self.conv4(x))
        x = self.avgpool(self.pool5(self.relu5(self.conv5(x))))
        x = self.drop6(self.relu6(self.fc6(torch.flatten(x, 1))))
        x = self.drop7(self.relu7(self.fc7(x)))
        return cast(Tensor, self.fc8(x))


def build(
    name: str,
    classes: int = len(CALTECH101),
    conv: tuple[int, int, int, int, int] = (96, 256, 384, 384, 256),
    fc: tuple[int, int] = (512, 1024),
    init: str = "kaiming",
) -> nn.Module:
    """The form that ships, narrow at the top; `classes=1000, fc=(4096, 4096)` is the paper's."""
    return ZFNet(classes, conv, fc, init)


def card(name: str) -> Card:
    """Facts about the form that ships: the 101 categories of Caltech-101."""
    weights = bundled("zfnet")
    return Card(
        name="zfnet",
        labels=CALTECH101,
        input_size=(224, 224),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        aliases=plain_aliases(5, 8),
        weights=weights[0] if weights else None,
        available=weights,
        resize=256,
    )
