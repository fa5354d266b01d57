"""How the networks of the zoo are trained, as data. `deconvviz.training` carries it out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Augmentation:
    """Random views of a picture. Everything off by default.

    `area`: least and greatest share of the picture that a crop covers; `ratio`: the crop's greatest
    width over height, and least height over width; `flip`: probability of a mirror image; `colour`: 0 to 1,
    strength of the changes of brightness, contrast and saturation; `erase`: probability that a rectangle
    is set to the mean colour.
    """

    area: tuple[float, float] = (1.0, 1.0)
    ratio: float = 1.0
    flip: float = 0.0
    colour: float = 0.0
    erase: float = 0.0


@dataclass(frozen=True)
class Teaching:
    """What a network learns from a teacher, if it has one.

    The loss is (1 - `soft`) of the labels' cross entropy, `soft` of the divergence from the teacher's class
    probabilities, both softened by `temperature`, `maps` times one minus the cosine between the teacher's maps of the
    same crop and what a linear head makes of the network's last maps, place by place, and `embedding` times the same
    for the mean of the teacher's maps and what enters the network's last layer.
    """

    soft: float = 0.7
    temperature: float = 2.0
    maps: float = 2.0
    embedding: float = 2.0


@dataclass(frozen=True)
class Recipe:
    """How to train.

    `stages`: (epochs, input size) one after the other; size 0 is the network's own.
    `optimiser`: "adamw" or "sgd" (Nesterov if `nesterov`). `schedule`: "cosine" (down to `floor` times the
    rate), or "step" (times `decay` at each of `milestones`, shares of the whole training); `warmup` steps
    rise linearly. `factors`: (prefix of a parameter's name, factor on the rate); 0 leaves a layer as it started.
    `initialisation`: "model" (the network's own), "normal" (N(0, 0.01), biases 0), or "data"
    (`deconvviz.training.initialisation`). `batch_norm`: train with a BatchNorm behind every convolution but the
    first and every linear layer but the last, folded into them in what is written. `filter_rms`: a
    convolutional filter whose RMS grows beyond it is scaled back to it (section 3 of the paper); 0 is off.
    `input_scale`: how many times larger the inputs are that "normal" and `filter_rms` were made for; the
    first layer is scaled by it. `ema`: decay of the moving average of the weights that is evaluated and
    written; 0 is off. `clip`: greatest norm of the gradient; 0 is off. `dropout`: probability of every
    dropout layer while training; None leaves the network's own; `dropout_inputs`: probability of one more,
    in front of the first linear layer. `undecayed`: prefixes of parameters without weight decay, as biases
    and BatchNorms always are. `mixup`: pairs of views are blended, with a share from Beta(mixup, mixup), during the
    first `mixup_until` of the training; 0 is off (Zhang et al. 2018). `head`: in so many of the epochs, at the end,
    only the linear layers learn, from a third of the rate down. `balance`: at the end the last biases are freed of how
    frequent the categories were (`deconvviz.training.balance`). `then`: name of the recipe that goes on from the
    weights of this one. `teaching`: how to learn from a teacher. `precision`:
    "float32", or "bfloat16" for the convolutions and products of a training step (twice as fast on a processor that
    has it, many times slower on one that has not).
    """

    name: str
    stages: tuple[tuple[int, int], ...]
    batch: int = 128
    optimiser: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    floor: float = 0.0
    milestones: tuple[float, ...] = ()
    decay: float = 0.1
    warmup: int = 0
    factors: tuple[tuple[str, float], ...] = ()
    smoothing: float = 0.0
    ema: float = 0.0
    clip: float = 0.0
    dropout: float | None = None
    dropout_inputs: float = 0.0
    undecayed: tuple[str, ...] = ()
    mixup: float = 0.0
    mixup_until: float = 1.0
    head: int = 0
    balance: bool = False
    then: str = ""
    teaching: Teaching = Teaching()
    augmentation: Augmentation = Augmentation()
    initialisation: str = "model"
    batch_norm: bool = False
    filter_rms: float = 0.0
    input_scale: float = 1.0
    precision: str = "float32"

    @property
    def epochs(self) -> int:
        """Epochs of all stages together."""
        return sum(count for count, _ in self.stages)

    def size_at(self, epoch: int) -> int:
        """Input size of `epoch`, counted from 0; 0 is the network's own."""
        for count, size in self.stages:
            if epoch < count:
                return size
            epoch -= count
        return self.stages[-1][1]


# Of the bundled `zfnet`, in both of its recipes.
_VIEWS = Augmentation(area=(0.25, 1.0), ratio=4 / 3, flip=0.5, colour=1.0, erase=0.25)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        # The bundled `zfnet` was trained so, and then as the next one says, with EfficientNet-Lite0 as its teacher.
        Recipe(
            name="zfnet",
            stages=((56, 128), (24, 160), (14, 224)),
            batch=64,
            optimiser="adamw",
            lr=1e-3,
            weight_decay=0.05,
            floor=0.01,
            warmup=300,
            factors=(("conv1.", 0.0),),
            smoothing=0.1,
            ema=0.998,
            clip=5.0,
            dropout=0.2,
            dropout_inputs=0.2,
            mixup=0.2,
            mixup_until=0.8,
            head=6,
            augmentation=_VIEWS,
            initialisation="data",
            batch_norm=True,
            then="zfnet-fine",
            precision="bfloat16",
        ),
        # What the first recipe leaves for the end: the whole network at full size, still with blended views.
        Recipe(
            name="zfnet-fine",
            stages=((8, 224),),
            batch=64,
            optimiser="adamw",
            lr=1.5e-4,
            weight_decay=0.05,
            floor=0.01,
            warmup=100,
            factors=(("conv1.", 0.0),),
            smoothing=0.1,
            ema=0.995,
            clip=5.0,
            dropout=0.3,
            dropout_inputs=0.3,
            mixup=0.3,
            balance=True,
            augmentation=_VIEWS,
            precision="bfloat16",
        ),
        # Section 3 of the paper. There the rate fell by hand when the error stood still; here at fixed
        # shares of the training. Its inputs are about [-128, 128], 58 times the normalised ones.
        Recipe(
            name="paper",
            stages=((70, 0),),
            lr=1e-2,
            schedule="step",
            milestones=(0.4, 0.7, 0.9),
            augmentation=Augmentation(area=(0.75, 0.8), flip=0.5),
            initialisation="normal",
            filter_rms=0.1,
            input_scale=58.0,
        ),
        # The usual one for CIFAR-100: 200 epochs, the rate divided by 5 at epochs 60, 120 and 160.
        Recipe(
            name="small",
            stages=((200, 0),),
            nesterov=True,
            schedule="step",
            milestones=(0.3, 0.6, 0.8),
            decay=0.2,
            augmentation=Augmentation(area=(0.6, 1.0), ratio=1.25, flip=0.5),
        ),
        # No mirrored pictures: all shoes of Fashion-MNIST point the same way.
        Recipe(
            name="lenet",
            stages=((13, 0),),
            optimiser="adamw",
            lr=3e-3,
            weight_decay=1e-3,
            floor=0.01,
            warmup=100,
            ema=0.99,
        ),
    )
}


def recipe_for(model: str) -> str:
    """Name of the recipe that suits the network `model`: its own, or "small"."""
    return model if model in RECIPES else "small"
