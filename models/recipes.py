"""Training recipes as data: how each network of the zoo was, or can be, trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Stage:
    """`epochs` epochs on square pictures of side `size`, in pixels."""

    epochs: int
    size: int


@dataclass(frozen=True)
class Augmentation:
    """How a training view is drawn from a picture.

    `mode`: "area" takes a random rectangle of `area` (share of the picture's area) and of `aspect`, resized
    to the stage's size; "shift" moves the picture by up to `shift` pixels over black, as usual for small
    pictures; "crops" takes one of the paper's ten crops (corners and centre, flipped or not). `brightness`
    is added (share of half the range), `contrast` and `saturation` multiply; `grey` and `erase` are
    probabilities of a view without colour, and of a mean-coloured rectangle of `erase_side` (share of a side).
    """

    mode: str = "area"
    area: tuple[float, float] = (0.3, 1.0)
    aspect: tuple[float, float] = (0.75, 4 / 3)
    shift: int = 0
    flip: bool = True
    brightness: float = 0.0
    contrast: tuple[float, float] = (1.0, 1.0)
    saturation: tuple[float, float] = (1.0, 1.0)
    grey: float = 0.0
    erase: float = 0.0
    erase_side: tuple[float, float] = (0.1, 0.35)


@dataclass(frozen=True)
class Teaching:
    """Weights of the three losses when a teacher is given.

    `labels` weighs the labels' cross-entropy, `soft` the divergence from the teacher's own prediction at
    `temperature`, `embedding` one minus the cosine between a linear image of the output of the module `at`
    and the teacher's pooled features.
    """

    at: str
    labels: float = 0.5
    soft: float = 0.5
    embedding: float = 3.0
    temperature: float = 2.0


@dataclass(frozen=True)
class Recipe:
    """Everything a training run is made of, besides the data, the teacher's file and the seed.

    `start`: "data" (data-dependent initialisation of the convolutions), "own" (the network's), or "paper"
    (N(0, 1e-2)). `schedule`: "cosine" to 1 % of `rate`, or "steps": times `factor` at each of `milestones`
    (epochs). `multipliers`: by module path, times the rate; `undecayed`: module paths without weight decay,
    to which, unless `decay_all`, every bias and norm is added. `batchnorm`: convolutions and linear layers
    with a BatchNorm while training, folded into them on export. `dropout`: probabilities by path, for a
    Dropout module or, for another module, of its input. `rms_limit`: filters of a convolution whose RMS
    passes it are rescaled to it (the paper's renormalisation), by module path. `input_scale`: the paper's
    inputs are about [-128, 128]; its initialisation of the first convolution and its limit are multiplied by
    this for scaled inputs. `ema`: decay of the averaged weights, which are the ones evaluated and exported;
    0 for none. `clip`: the largest norm of the gradient. `options`: what the network is built with.
    """

    name: str
    note: str
    stages: tuple[Stage, ...]
    batch: int = 64
    optimiser: str = "adamw"
    rate: float = 1e-3
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.05
    decay_all: bool = False
    schedule: str = "cosine"
    milestones: tuple[int, ...] = ()
    factor: float = 0.1
    warmup: int = 0
    multipliers: Mapping[str, float] = field(default_factory=dict)
    undecayed: tuple[str, ...] = ()
    label_smoothing: float = 0.0
    ema: float = 0.0
    clip: float | None = None
    start: str = "own"
    batchnorm: tuple[str, ...] = ()
    dropout: Mapping[str, float] = field(default_factory=dict)
    rms_limit: Mapping[str, float] = field(default_factory=dict)
    input_scale: float = 1.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    teaching: Teaching | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    keep: tuple[int, ...] = (1, 2, 5, 10, 20, 30, 40, 64)

    @property
    def epochs(self) -> int:
        """Number of epochs of all stages."""
        return sum(stage.epochs for stage in self.stages)

    def size_at(self, epoch: int) -> int:
        """Side of the pictures in `epoch`, counted from 0; the last stage's afterwards."""
        for stage in self.stages:
            if epoch < stage.epochs:
                return stage.size
            epoch -= stage.epochs
        return self.stages[-1].size

    def facts(self) -> dict[str, Any]:
        """The recipe as plain JSON values."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


_COLOUR = Augmentation(
    brightness=0.25, contrast=(0.75, 1.3), saturation=(0.5, 1.4), grey=0.1, erase=0.25, aspect=(0.75, 1.333)
)

# What the weights that ship were trained with: 33 epochs, EfficientNet-Lite0 as the teacher.
ZFNET = Recipe(
    name="zfnet",
    note="data-dependent start, growing pictures, AdamW with low rates for low layers; a teacher if given",
    stages=(Stage(22, 112), Stage(8, 160), Stage(3, 224)),
    warmup=200,
    multipliers={"conv1": 0.15, "conv2": 0.5},
    undecayed=("conv1",),
    label_smoothing=0.1,
    ema=0.998,
    clip=5.0,
    start="data",
    batchnorm=("conv2", "conv3", "conv4", "conv5", "fc6", "fc7"),
    dropout={"fc6": 0.3, "drop6": 0.25, "drop7": 0.25},
    augmentation=_COLOUR,
    teaching=Teaching(at="relu7"),
    options={"fc": [512, 512]},
)

# Zeiler & Fergus, section 3. "Annealed by hand at plateaus" is open: here the rate falls at 40 % and 75 %
# of the 70 epochs. The inputs here have unit deviation, about 1/57 of the paper's.
ZFNET_PAPER = Recipe(
    name="zfnet-paper",
    note="the paper's own: SGD, N(0, 1e-2), ten crops, filters renormalised to RMS 1e-1",
    stages=(Stage(70, 224),),
    batch=128,
    optimiser="sgd",
    rate=1e-2,
    weight_decay=0.0,
    schedule="steps",
    milestones=(28, 52),
    start="paper",
    dropout={"drop6": 0.5, "drop7": 0.5},
    rms_limit={f"conv{i}": 0.1 for i in range(1, 6)},
    input_scale=57.0,
    augmentation=Augmentation(mode="crops"),
    options={"fc": [4096, 4096]},
)

# The article's recipe for CIFAR-100: the rate is divided by five at epochs 60, 120 and 160.
SMALL = Recipe(
    name="small",
    note="200 epochs of SGD with Nesterov's momentum for 32² pictures",
    stages=(Stage(200, 32),),
    batch=128,
    optimiser="sgd",
    rate=0.1,
    nesterov=True,
    weight_decay=5e-4,
    decay_all=True,
    schedule="steps",
    milestones=(60, 120, 160),
    factor=0.2,
    augmentation=Augmentation(mode="shift", shift=4),
)

LENET = Recipe(
    name="lenet",
    note="Fashion-MNIST: AdamW, mirrored pictures, averaged weights",
    stages=(Stage(20, 28),),
    batch=128,
    rate=4e-3,
    weight_decay=0.01,
    warmup=200,
    ema=0.998,
    augmentation=Augmentation(mode="shift", shift=0),
)

RECIPES: Mapping[str, Recipe] = {r.name: r for r in (ZFNET, ZFNET_PAPER, SMALL, LENET)}


def recipe_for(model: str) -> Recipe:
    """The recipe that a network of the zoo is trained with unless another is named."""
    if model in ("zfnet", "lenet"):
        return RECIPES[model]
    return SMALL if model.endswith(("_28", "_32")) else ZFNET_PAPER
