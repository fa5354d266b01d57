"""Training of a network of the zoo on a folder of pictures: checkpoints, resume, kept epochs.

What is random is drawn from (seed, epoch, picture), so that a run that was stopped and resumed gives the same
weights, bit for bit, as one that was not.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as TF

from .card import Card
from .checkpoints import KEPT, checkpoint_name, write_weights
from .errors import DeconvvizValueError, ImageError, UnknownNameError, WeightsError, suggest
from .images import SUFFIXES, read_image
from .initialisation import Response, initialise
from .models import registry
from .models.recipes import RECIPES, Augmentation, Recipe, recipe_for
from .network import load_state, read_weights

LEFT_OUT = ("BACKGROUND_Google",)
# Categories of Caltech-101 with the same photographs, differently cut: a pair stays on one side of a split.
SAME_PICTURES = {"Faces_easy": "Faces"}

# Data ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pictures:
    """Pictures decoded once. `pixels`: uint8 (C, h, w) each; `classes`: (N,) indices into `labels`; `names`:
    file names within their category; `given`: True where the data set itself says "test", or None."""

    pixels: Sequence[Tensor]
    classes: Tensor
    names: tuple[str, ...]
    labels: tuple[str, ...]
    unreadable: tuple[str, ...] = ()
    given: Tensor | None = None

    def fingerprint(self) -> str:
        """SHA-256 over categories and names: whether two runs saw the same data."""
        said = json.dumps([self.labels, self.classes.tolist(), self.names])
        return hashlib.sha256(said.encode()).hexdigest()


def read_data(path: str | os.PathLike[str], channels: int = 3, side: int = 256, workers: int = 1) -> Pictures:
    """Pictures of a folder with one sub-folder per category, or of a folder in the idx format of MNIST.

    The shorter side is brought down to `side` (`channels` 1: grey, 3: RGB). A picture that cannot be
    read is listed in `unreadable`. Raises `DeconvvizValueError` if there are fewer than two categories.
    """
    root = Path(path)
    if not root.is_dir():
        raise DeconvvizValueError(f"the data folder {root} does not exist")
    if any(root.glob("*-idx3-ubyte*")):
        return _read_idx(root, channels)
    labels = tuple(sorted(d.name for d in root.iterdir() if d.is_dir() and d.name not in LEFT_OUT and d.name[0] != "."))
    files = [(c, f) for c, label in enumerate(labels) for f in _pictures_of(root / label)]
    if len({c for c, _ in files}) < 2:
        raise DeconvvizValueError(f"{root} must hold one folder of pictures per category, two or more")

    def decode(file: Path) -> Tensor | str:
        try:
            return _decode(file, channels, side)
        except ImageError as error:
            return str(error)

    with ThreadPoolExecutor(max(workers, 1)) as pool:
        decoded = list(pool.map(decode, [f for _, f in files]))
    good = [(c, f.name, x) for (c, f), x in zip(files, decoded, strict=True) if isinstance(x, Tensor)]
    empty = set(range(len(labels))) - {c for c, _, _ in good}
    if empty:
        raise DeconvvizValueError(f"no readable picture in the category '{labels[min(empty)]}' of {root}")
    return Pictures(
        [x for _, _, x in good],
        torch.tensor([c for c, _, _ in good]),
        tuple(name for _, name, _ in good),
        labels,
        tuple(x for x in decoded if isinstance(x, str)),
    )


def _pictures_of(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)


def _decode(file: Path, channels: int, side: int) -> Tensor:
    picture = read_image(file)
    scale = side / min(picture.size)
    if scale < 1:
        size = (max(round(picture.width * scale), side), max(round(picture.height * scale), side))
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    picture = picture.convert("L" if channels == 1 else "RGB")
    flat = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return flat.view(picture.height, picture.width, channels).permute(2, 0, 1).contiguous()


def _read_idx(root: Path, channels: int) -> Pictures:
    parts = []
    for part in ("train", "t10k"):
        x, y = _idx(root, f"{part}-images-idx3-ubyte"), _idx(root, f"{part}-labels-idx1-ubyte")
        if x.dim() != 3 or y.dim() != 1 or len(x) != len(y):
            raise DeconvvizValueError(f"{root}: the {part} pictures and labels do not belong together")
        parts.append((x[:, None].expand(-1, channels, -1, -1), y.long()))
    classes = torch.cat([y for _, y in parts])
    given = torch.cat([torch.full((len(y),), k == 1) for k, (_, y) in enumerate(parts)])
    names = tuple(f"{'test' if t else 'train'}{i}" for i, t in enumerate(given.tolist()))
    labels = tuple(str(k) for k in range(int(classes.max()) + 1))
    return Pictures([x for part, _ in parts for x in part], classes, names, labels, given=given)


def _idx(root: Path, name: str) -> Tensor:
    """An array in the idx format (big endian: two zeros, type 8 for bytes, rank, sizes), zipped or not."""
    path = next((p for p in (root / f"{name}.gz", root / name) if p.is_file()), None)
    if path is None:
        raise DeconvvizValueError(f"{root} has no {name}.gz")
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zeros, kind, rank = struct.unpack(">HBB", data[:4])
        sizes = struct.unpack(f">{rank}I", data[4 : 4 + 4 * rank])
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise DeconvvizValueError(f"{path} is damaged: {error}") from error
    if zeros != 0 or kind != 8 or len(data) != 4 + 4 * rank + math.prod(sizes):
        raise DeconvvizValueError(f"{path} is not an idx file of bytes, or is cut short")
    return torch.frombuffer(bytearray(data[4 + 4 * rank :]), dtype=torch.uint8).view(sizes)


def split(
    data: Pictures, fraction: float = 0.12, per_category: int | None = None, most: int = 50
) -> tuple[list[int], list[int]]:
    """Indices (train, test), by a hash of category and name: the same on every machine.

    A share `fraction` of each category is for testing; or, with `per_category`, that many pictures of each
    train and at most `most` others test (the protocol of section 4.3 of the paper); a category without others
    keeps the share `fraction` for testing. A split that the data set gives itself is taken as it is. Raises
    `DeconvvizValueError`.
    """
    if data.given is not None and per_category is None:
        return (~data.given).nonzero()[:, 0].tolist(), data.given.nonzero()[:, 0].tolist()
    if not 0 < fraction < 1:
        raise DeconvvizValueError(f"the test fraction is {fraction}; allowed: between 0 and 1")
    if per_category is not None and per_category < 1:
        raise DeconvvizValueError(f"per_category is {per_category}; allowed: 1 and above")
    train: list[int] = []
    test: list[int] = []
    for members in _groups(data):
        ranked = _ranked(data, members)
        names = sorted({(key, name) for key, name, _ in ranked})
        count = math.ceil(fraction * len(names))
        if per_category is not None and len(names) > per_category:
            count = len(names) - per_category
        if len(names) - count < 1:
            raise DeconvvizValueError(
                f"category '{data.labels[members[0]]}' has only {len(names)} picture; it needs one to train on and "
                "one to test on"
            )
        tests = {name for _, name in names[: count if per_category is None else min(count, most)]}
        trains = {name for _, name in names[count:]}
        train += [i for _, name, i in ranked if name in trains]
        test += [i for _, name, i in ranked if name in tests]
    return sorted(train), sorted(test)


def _groups(data: Pictures) -> list[list[int]]:
    """Categories, those with the same photographs together."""
    groups: dict[str, list[int]] = {}
    for c, label in enumerate(data.labels):
        groups.setdefault(SAME_PICTURES.get(label, label), []).append(c)
    return list(groups.values())


def _ranked(data: Pictures, members: Sequence[int]) -> list[tuple[int, str, int]]:
    """(hash, name, index) of the pictures of these categories; the hash ignores which of them it is."""
    shared = SAME_PICTURES.get(data.labels[members[0]], data.labels[members[0]])
    found = torch.isin(data.classes, torch.tensor(members)).nonzero()[:, 0].tolist()
    keys = [int(hashlib.sha256(f"{shared}/{data.names[i]}".encode()).hexdigest()[:8], 16) for i in found]
    return sorted((key, data.names[i], i) for key, i in zip(keys, found, strict=True))


# Views -----------------------------------------------------------------------------------------------------


def _seed(*parts: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big")


def augment(picture: Tensor, size: int, how: Augmentation, generator: torch.Generator) -> Tensor:
    """A random view, float (C, size, size) in 0..1, of `picture`, uint8 (C, h, w).

    NaN marks an erased rectangle: its colour is the mean that only the normalisation knows.
    """
    draws: Iterator[float] = iter(torch.rand(40, generator=generator).tolist())

    def draw(low: float, high: float) -> float:
        return low + (high - low) * next(draws)

    height, width = picture.shape[1:]
    for _ in range(8):
        area = height * width * draw(*how.area)
        ratio = math.exp(draw(-math.log(how.ratio), math.log(how.ratio)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            break
    else:
        w = h = min(height, width)
    top, left = int(draw(0, height - h + 1)), int(draw(0, width - w + 1))
    view = picture[:, top : top + h, left : left + w]
    if view.shape[1:] != (size, size):
        view = TF.resize(view, [size, size], antialias=True)
    x = view.float() / 255
    if draw(0, 1) < how.flip:
        x = x.flip(2)
    if how.colour:
        x = _recolour(x, how.colour, draw)
    if draw(0, 1) < how.erase:
        h, w = int(draw(0.1, 0.35) * size), int(draw(0.1, 0.35) * size)
        top, left = int(draw(0, size - h)), int(draw(0, size - w))
        x[:, top : top + h, left : left + w] = torch.nan
    return x


def _recolour(x: Tensor, strength: float, draw: Callable[[float, float], float]) -> Tensor:
    light = draw(-0.125, 0.125) * strength
    contrast, saturation = 1 + draw(-0.25, 0.3) * strength, 1 + draw(-0.5, 0.4) * strength
    if draw(0, 1) < 0.1 * strength:
        saturation = 0.0
    if x.shape[0] == 3:
        grey = (x * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0, keepdim=True)
        x = grey + (x - grey) * saturation
    mean = x.mean()
    return ((x - mean) * contrast + mean + light).clamp(0, 1)


def normalise(x: Tensor, card: Card) -> Tensor:
    """Network inputs (N, C, H, W) of pictures in 0..1; NaN becomes the mean colour, 0."""
    low, high = card.value_range
    mean, std = torch.tensor(card.mean).view(-1, 1, 1), torch.tensor(card.std).view(-1, 1, 1)
    return ((x * (high - low) + low - mean) / std).nan_to_num(0.0)


class _Views(Dataset[tuple[Tensor, int]]):
    """Random views of one epoch, each drawn from (seed, epoch, picture) alone."""

    def __init__(
        self, data: Pictures, indices: Sequence[int], how: Augmentation, size: int, seed: int, epoch: int
    ) -> None:
        self.data, self.indices, self.how, self.size = data, indices, how, size
        self.seed, self.epoch = seed, epoch

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        index = self.indices[position]
        generator = torch.Generator().manual_seed(_seed(self.seed, self.epoch, index))
        view = augment(self.data.pixels[index], self.size, self.how, generator)
        return view, int(self.data.classes[index])


def centre(picture: Tensor, resize: int, size: int) -> Tensor:
    """The centre crop, uint8 (C, size, size), of `picture` with its shorter side at `resize`."""
    return TF.center_crop(_shorter(picture, resize), [size, size])  # type: ignore[no-any-return]


def _shorter(picture: Tensor, resize: int) -> Tensor:
    if min(picture.shape[1:]) == resize:
        return picture
    return TF.resize(picture, [resize], antialias=True)  # type: ignore[no-any-return]


def ten_crops(picture: Tensor, resize: int, size: int) -> Tensor:
    """(10, C, size, size): the four corners and the centre of `picture`, and their mirror images."""
    return torch.stack(TF.ten_crop(_shorter(picture, resize), [size, size]))


@torch.no_grad()
def accuracy(module: nn.Module, card: Card, data: Pictures, indices: Sequence[int], size: int, crops: int = 1) -> float:
    """Mean per-category accuracy, 0..1, at input size `size`, on one centre crop or the mean of ten."""
    if crops not in (1, 10):
        raise DeconvvizValueError(f"crops is {crops}; allowed: 1, 10")
    resize = round((card.resize or max(card.input_size)) * size / max(card.input_size))
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    hits: list[Tensor] = []
    for part in torch.split(torch.tensor(indices), max(256 // crops, 1)):
        chosen = [data.pixels[i] for i in part.tolist()]
        if crops == 1:
            x = torch.stack([centre(p, resize, size) for p in chosen])
        else:
            x = torch.cat([ten_crops(p, resize, size) for p in chosen])
        scores = _logits(module, normalise(x.float() / 255, card)).softmax(1)
        guess = scores.view(len(chosen), crops, -1).mean(1).argmax(1)
        hits.append(guess == data.classes[part])
    for m, mode in modes:
        m.training = mode
    right, truth = torch.cat(hits).double(), data.classes[torch.tensor(indices)]
    return float(torch.stack([right[truth == c].mean() for c in torch.unique(truth)]).mean())


def _logits(module: nn.Module, x: Tensor) -> Tensor:
    y = module(x)
    return y if isinstance(y, Tensor) else y[0]  # some networks return further heads while training


# BatchNorm that exists only while training -----------------------------------------------------------------


class Norms(nn.Module):
    """BatchNorm behind convolutions and linear layers of `model` as hooks: its modules and keys stay.

    Behind every convolution but the first and every linear layer but the last, if they have a bias. A
    model with a BatchNorm of its own gets none. `responses`, of `initialise`, start the statistics so that
    the first forward pass in eval mode is unchanged.
    """

    def __init__(self, model: nn.Module, responses: Mapping[str, Response] | None = None) -> None:
        super().__init__()
        self.layers: dict[str, nn.Conv2d | nn.Linear] = {}
        self.norms = nn.ModuleDict()
        own = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
        convs: list[tuple[str, nn.Conv2d | nn.Linear]]
        lines: list[tuple[str, nn.Conv2d | nn.Linear]]
        convs = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d)]
        lines = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)]
        for name, layer in [] if own else [*convs[1:], *lines[:-1]]:
            if layer.bias is None:
                continue
            norm = self._norm(layer, (responses or {}).get(name))
            self.layers[name] = layer
            self.norms[name.replace(".", "/")] = norm  # a module's name must not hold a dot
            layer.register_forward_hook(lambda _, __, y, norm=norm: norm(y))

    @staticmethod
    def _norm(layer: nn.Conv2d | nn.Linear, response: Response | None) -> nn.BatchNorm2d | nn.BatchNorm1d:
        if isinstance(layer, nn.Conv2d):
            norm: nn.BatchNorm2d | nn.BatchNorm1d = nn.BatchNorm2d(layer.out_channels)
        else:
            norm = nn.BatchNorm1d(layer.out_features)
        norm = norm.to(layer.weight)
        if response is not None:
            assert norm.running_mean is not None and norm.running_var is not None
            with torch.no_grad():
                norm.running_mean.copy_(response.mean)
                norm.running_var.copy_(response.std**2)
                norm.weight.copy_((norm.running_var + norm.eps).sqrt())
                norm.bias.copy_(response.mean)
        return norm

    def fold(self, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`state` of the model with the BatchNorms of the state `own` folded in: the same function in eval
        mode."""
        folded = {key: value.clone() for key, value in state.items()}
        for name in self.layers:
            key = f"norms.{name.replace('.', '/')}"
            norm = self.norms[name.replace(".", "/")]
            assert isinstance(norm, nn.BatchNorm2d | nn.BatchNorm1d)
            scale = own[f"{key}.weight"] / (own[f"{key}.running_var"] + norm.eps).sqrt()
            weight, bias = folded[f"{name}.weight"], folded[f"{name}.bias"]
            folded[f"{name}.weight"] = weight * scale.view(-1, *[1] * (weight.dim() - 1))
            folded[f"{name}.bias"] = (bias - own[f"{key}.running_mean"]) * scale + own[f"{key}.bias"]
        return folded


@torch.no_grad()
def renormalise(model: nn.Module, radius: float, input_scale: float = 1.0) -> int:
    """Scale each convolutional filter with an RMS above `radius` back to it; the first layer's radius is
    `input_scale` times that (section 3 of the paper). Returns how many were scaled."""
    count = 0
    for k, conv in enumerate(m for m in model.modules() if isinstance(m, nn.Conv2d)):
        limit = radius * (input_scale if k == 0 else 1.0)
        rms = conv.weight.pow(2).mean((1, 2, 3), keepdim=True).sqrt()
        over = rms > limit
        conv.weight.copy_(torch.where(over, conv.weight * (limit / rms), conv.weight))
        count += int(over.sum())
    return count


# Speed -----------------------------------------------------------------------------------------------------


def quicken(module: nn.Module) -> None:
    """Let the contrast normalisations of `module` (N, C, H, W) take a faster way to the same numbers."""
    for m in module.modules():
        if isinstance(m, nn.LocalResponseNorm):
            m.forward = partial(_ContrastNorm.apply, m.size, m.alpha, m.beta, m.k)  # type: ignore[method-assign]


class _ContrastNorm(torch.autograd.Function):
    """x · (k + alpha/size · sum of x² over `size` neighbouring maps)^-beta.

    torch's own walks a padded five-dimensional copy; here the sum is a 1x1 convolution with a band of ones.
    """

    @staticmethod
    def forward(ctx: Any, size: int, alpha: float, beta: float, k: float, x: Tensor) -> Tensor:
        base = F.conv2d(x * x, _band(x, size)).mul_(alpha / size).add_(k)
        power = base.pow(-beta)
        ctx.save_for_backward(x, base, power)
        ctx.size, ctx.factor = size, 2 * alpha * beta / size
        return x * power

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, base, power = ctx.saved_tensors
        direct = grads[0] * power
        shared = F.conv2d((direct * x).div_(base), _band(x, ctx.size).transpose(0, 1))
        return None, None, None, None, direct.sub_(shared.mul_(x), alpha=ctx.factor)


def _band(x: Tensor, size: int) -> Tensor:
    """(C, C, 1, 1): 1 where map j is among the `size` around map i, as `F.local_response_norm` counts them."""
    index = torch.arange(x.shape[1], device=x.device)
    offset = index[None] - index[:, None]
    return ((offset >= -(size // 2)) & (offset <= (size - 1) // 2)).to(x.dtype)[:, :, None, None]


# The run ---------------------------------------------------------------------------------------------------


@dataclass
class _Run:
    """All that a checkpoint has to hold, and the fixed things around it."""

    model: nn.Module
    norms: Norms
    optimiser: torch.optim.Optimizer
    ema: dict[str, Tensor]
    settings: dict[str, Any]
    card: Card
    options: dict[str, Any]
    epoch: int = 0
    step: int = 0
    metrics: list[dict[str, Any]] = field(default_factory=list)

    def state(self) -> dict[str, Tensor]:
        """Current values of the model ("model.…") and of its norms ("norms.…")."""
        both = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        return both | {f"norms.{k}": v for k, v in self.norms.state_dict().items()}

    def facts(self) -> dict[str, Any]:
        """What is written into the files of weights besides the weights."""
        return {"labels": list(self.card.labels), "options": self.options}

    def averaged(self) -> dict[str, Tensor]:
        """The state dict of the network as it is written: moving average, norms folded."""
        state = self.ema or self.state()
        model = {k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")}
        own = {k.removeprefix("norms."): v for k, v in state.items() if k.startswith("norms.")}
        return self.norms.fold(model, own)


def train(
    model: str,
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    recipe: str | Recipe | None = None,
    epochs: int | None = None,
    size: int | None = None,
    batch: int | None = None,
    lr: float | None = None,
    stages: Sequence[tuple[int, int]] | None = None,
    precision: str | None = None,
    seed: int = 0,
    workers: int = 1,
    fraction: float = 0.12,
    per_category: int | None = None,
    weights: str | os.PathLike[str] | None = None,
    resume: bool = False,
    fresh: bool = False,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Train the network `model` of the zoo on the pictures of the folder `data`; returns the metrics.

    Into the folder `out` go `last.pt` after every epoch, for `resume`; `epochN.safetensors` after the
    epochs `KEPT`, and `final.safetensors` (float16) at the end, all for `deconvviz.load(model, path)`;
    `metrics.jsonl`, one line an epoch; `unreadable.txt` if there were such pictures. `recipe`: a name or
    a `Recipe`; the four settings after it change it. `weights`: a file to start from. `report` is called
    with each line of metrics; accuracies are means over categories, on pictures never trained on.
    Raises `DeconvvizValueError`, `UnknownNameError`, `WeightsError`.
    """
    if model not in registry.names():
        raise UnknownNameError(f"unknown model '{model}'{suggest(model, registry.names())}")
    chosen = _changed(_recipe(recipe, model), epochs, size, batch, lr, stages, precision)
    folder = Path(out)
    last = folder / "last.pt"
    _check_start(last, resume, fresh)
    card = registry.card(model)
    native = max(card.input_size)
    largest = max(s or native for _, s in chosen.stages)
    side = round((card.resize or native) * largest / native)
    pictures = read_data(data, card.channels, side, workers)
    if len(pictures.labels) == len(card.labels) and pictures.given is not None:
        pictures = replace(pictures, labels=card.labels)  # idx files hold numbers, the card their names
    parts = split(pictures, fraction, per_category)
    settings = {
        "model": model,
        "recipe": json.loads(json.dumps(asdict(chosen))),
        "seed": seed,
        "data": pictures.fingerprint(),
        "split": [fraction, per_category],
        "start": None if weights is None else hashlib.sha256(Path(weights).read_bytes()).hexdigest(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    if not resume:
        _clear(folder)
    if pictures.unreadable:
        (folder / "unreadable.txt").write_text("\n".join(pictures.unreadable) + "\n", encoding="utf-8")
    with torch.random.fork_rng(devices=[]):
        run = _start(model, card, chosen, pictures, parts[0], settings, weights, seed, resume)
        if resume:
            _restore(run, last)
        _write_metrics(run, folder)
        while run.epoch < chosen.epochs:
            line = _epoch(run, chosen, pictures, parts, seed, workers)
            _save(run, folder, last, chosen.epochs)
            if report is not None:
                report(line)
    return run.metrics


def _recipe(recipe: str | Recipe | None, model: str) -> Recipe:
    if isinstance(recipe, Recipe):
        return recipe
    name = recipe or recipe_for(model)
    if name not in RECIPES:
        allowed = ", ".join(RECIPES)
        raise UnknownNameError(f"unknown recipe '{name}'; allowed: {allowed}{suggest(name, RECIPES)}")
    return RECIPES[name]


def _changed(
    recipe: Recipe,
    epochs: int | None,
    size: int | None,
    batch: int | None,
    lr: float | None,
    stages_: Sequence[tuple[int, int]] | None,
    precision: str | None,
) -> Recipe:
    """The recipe with what the caller sets; stages keep their shares when only the epochs change."""
    for name, value in (("epochs", epochs), ("size", size), ("batch", batch), ("lr", lr)):
        if value is not None and not value > 0:
            raise DeconvvizValueError(f"{name} is {value}; allowed: above 0")
    stages = recipe.stages
    if epochs is not None:
        ends = [round(sum(c for c, _ in stages[: k + 1]) * epochs / recipe.epochs) for k in range(len(stages))]
        starts = [0, *ends[:-1]]
        stages = tuple((e - s, n) for s, e, (_, n) in zip(starts, ends, stages, strict=True) if e > s)
    if size is not None:
        stages = ((sum(c for c, _ in stages), size),)
    if stages_ is not None:
        stages = tuple(stages_)
    recipe = replace(recipe, precision=precision or recipe.precision)
    return replace(recipe, stages=stages, batch=batch or recipe.batch, lr=lr or recipe.lr)


def _check_start(last: Path, resume: bool, fresh: bool) -> None:
    if resume and fresh:
        raise DeconvvizValueError("give either resume or fresh, not both")
    if resume and not last.is_file():
        raise DeconvvizValueError(f"nothing to resume: there is no {last}")
    if last.is_file() and not (resume or fresh):
        raise DeconvvizValueError(f"{last} is there already; give resume to go on, or fresh to overwrite it")


def _clear(folder: Path) -> None:
    """Remove what an earlier run has written: its epochs must not be taken for this one's."""
    written = [checkpoint_name(n) for n in KEPT]
    for name in (*written, "final.safetensors", "last.pt", "metrics.jsonl", "unreadable.txt"):
        (folder / name).unlink(missing_ok=True)


def _start(
    model: str,
    card: Card,
    recipe: Recipe,
    data: Pictures,
    train: Sequence[int],
    settings: dict[str, Any],
    weights: str | os.PathLike[str] | None,
    seed: int,
    resume: bool,
) -> _Run:
    torch.manual_seed(seed)
    options: dict[str, Any] = {"classes": len(data.labels)}
    try:
        module = registry.build(model, **options)
    except ImportError as error:
        raise DeconvvizValueError(f"{model} needs a package that is not installed: {error}") from error
    responses: Mapping[str, Response] = {}
    if weights is not None:
        load_state(module, read_weights(Path(weights))[0], str(weights))
    elif recipe.initialisation == "data" and not resume:  # a checkpoint overwrites it anyway
        responses = initialise(module, _sample(data, train, card, recipe, seed), seed=seed)
    elif recipe.initialisation == "normal":
        _normal(module, recipe.input_scale)
    if recipe.dropout is not None:
        for m in module.modules():
            if isinstance(m, nn.Dropout):
                m.p = recipe.dropout
    norms = Norms(module, responses) if recipe.batch_norm else Norms(nn.Identity())
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    quicken(module)
    run = _Run(module, norms, _optimiser(module, norms, recipe), {}, settings, card, options)
    if recipe.ema:
        run.ema = {k: v.clone() for k, v in run.state().items()}
    run.card = replace(card, labels=data.labels)
    return run


def _normal(module: nn.Module, input_scale: float) -> None:
    first = True
    for m in module.modules():
        if isinstance(m, nn.Conv2d | nn.Linear):
            nn.init.normal_(m.weight, 0.0, 0.01 * (input_scale if first else 1.0))
            if m.bias is not None:
                nn.init.zeros_(m.bias)
            first = False


def _sample(data: Pictures, train: Sequence[int], card: Card, recipe: Recipe, seed: int) -> Tensor:
    """Up to 600 preprocessed training pictures, at the largest size of the recipe."""
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:600].tolist()
    size = max(s or max(card.input_size) for _, s in recipe.stages)
    resize = round((card.resize or max(card.input_size)) * size / max(card.input_size))
    x = torch.stack([centre(data.pixels[train[i]], resize, size) for i in order])
    return normalise(x.float() / 255, card)


def _optimiser(module: nn.Module, norms: Norms, recipe: Recipe) -> torch.optim.Optimizer:
    groups: list[dict[str, Any]] = []
    for name, p in [*module.named_parameters(), *norms.named_parameters()]:
        factor = next((f for prefix, f in recipe.factors if name.startswith(prefix)), 1.0)
        # Biases and BatchNorm have no weight decay: pulling them to zero regularises nothing.
        decay = recipe.weight_decay if p.dim() > 1 else 0.0
        groups.append({"params": [p], "factor": factor, "weight_decay": decay})
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, fused=True)
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=True)
    raise DeconvvizValueError(f"optimiser is '{recipe.optimiser}'; allowed: 'adamw', 'sgd'")


def rate(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate at `step` of `steps`."""
    share = step / max(steps, 1)
    lr = recipe.lr * min(1.0, (step + 1) / recipe.warmup if recipe.warmup else 1.0)
    if recipe.schedule == "cosine":
        return lr * (recipe.floor + (1 - recipe.floor) * 0.5 * (1 + math.cos(math.pi * share)))
    if recipe.schedule == "step":
        return lr * recipe.decay ** sum(share >= m for m in recipe.milestones)
    raise DeconvvizValueError(f"schedule is '{recipe.schedule}'; allowed: 'cosine', 'step'")


def _batches(
    data: Pictures, train: Sequence[int], recipe: Recipe, size: int, seed: int, epoch: int, workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(_seed(seed, epoch)))
    views = _Views(data, [train[i] for i in order.tolist()], recipe.augmentation, size, seed, epoch)
    batch = min(recipe.batch, len(train))
    # The last, short batch is dropped: BatchNorm on a picture or two would spoil the statistics. The
    # loader draws a seed for its workers, from a generator of its own so that the network's is left alone.
    idle = torch.Generator()
    return iter(DataLoader(views, batch, num_workers=workers, drop_last=True, generator=idle))


def _epoch(
    run: _Run,
    recipe: Recipe,
    data: Pictures,
    parts: tuple[Sequence[int], Sequence[int]],
    seed: int,
    workers: int,
) -> dict[str, Any]:
    """One epoch and its line of metrics."""
    train, test = parts
    size = recipe.size_at(run.epoch) or max(run.card.input_size)
    torch.manual_seed(_seed(seed, run.epoch, -1))  # dropout: the same after a resume
    steps = recipe.epochs * (len(train) // min(recipe.batch, len(train)))
    run.model.train()
    run.norms.train()
    loss_sum, right, count = 0.0, 0, 0
    for x, y in _batches(data, train, recipe, size, seed, run.epoch, workers):
        loss, logits = _step(run, recipe, normalise(x, run.card), y, steps)
        loss_sum += loss * len(y)
        right += int((logits.argmax(1) == y).sum())
        count += len(y)
    run.epoch += 1
    if not math.isfinite(loss_sum):
        raise DeconvvizValueError(f"the loss is no longer a number in epoch {run.epoch}; try a lower lr")
    line: dict[str, Any] = {
        "epoch": run.epoch,
        "size": size,
        "loss": loss_sum / count,
        "train": right / count,
    }
    if test:
        module = _written(run)
        line["test"] = accuracy(module, run.card, data, test, size)
        if run.epoch == recipe.epochs:
            line["test_ten_crops"] = accuracy(module, run.card, data, test, size, crops=10)
    run.metrics.append(line)
    return line


def _step(run: _Run, recipe: Recipe, x: Tensor, y: Tensor, steps: int) -> tuple[float, Tensor]:
    lr = rate(recipe, run.step, steps)
    for group in run.optimiser.param_groups:
        group["lr"] = lr * group["factor"]
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        logits = _logits(run.model, x).float()
    loss = F.cross_entropy(logits, y, label_smoothing=recipe.smoothing)
    run.optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    if recipe.clip:
        nn.utils.clip_grad_norm_([*run.model.parameters(), *run.norms.parameters()], recipe.clip)
    run.optimiser.step()
    run.step += 1
    if recipe.filter_rms:
        renormalise(run.model, recipe.filter_rms, recipe.input_scale)
    if recipe.ema:
        _average(run, recipe.ema)
    return float(loss.detach()), logits.detach()


@torch.no_grad()
def _average(run: _Run, decay: float) -> None:
    # Short at first, so that the start does not linger in the average.
    decay = min(decay, (1 + run.step) / (10 + run.step))
    for key, value in run.state().items():
        if value.is_floating_point():
            run.ema[key].lerp_(value, 1 - decay)
        else:
            run.ema[key].copy_(value)


def _written(run: _Run) -> nn.Module:
    """A network of its own with the weights as they are written, so that what is measured is what is kept."""
    with torch.random.fork_rng(devices=[]):
        module = registry.build(run.settings["model"], **run.options)
    module.load_state_dict(run.averaged())
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    quicken(module)
    return module.eval()


# Files -----------------------------------------------------------------------------------------------------


@contextmanager
def _atomic(path: Path) -> Iterator[Path]:
    """A path beside `path` that takes its place once it is written whole."""
    part = path.with_name(path.name + ".part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _save(run: _Run, folder: Path, last: Path, epochs: int) -> None:
    if run.epoch in KEPT:
        write_weights(folder / checkpoint_name(run.epoch), run.averaged(), run.facts())
    if run.epoch == epochs:
        half = {k: v.half() if v.is_floating_point() else v for k, v in run.averaged().items()}
        write_weights(folder / "final.safetensors", half, run.facts())
    _write_metrics(run, folder)
    state = {
        "state": run.state(),
        "ema": run.ema,
        "optimiser": run.optimiser.state_dict(),
        "epoch": run.epoch,
        "step": run.step,
        "metrics": run.metrics,
        "settings": run.settings,
    }
    with _atomic(last) as part:
        torch.save(state, part)


def _write_metrics(run: _Run, folder: Path) -> None:
    with _atomic(folder / "metrics.jsonl") as part:
        part.write_text("".join(json.dumps(line) + "\n" for line in run.metrics), encoding="utf-8")


def _restore(run: _Run, last: Path) -> None:
    try:
        found = torch.load(last, map_location="cpu", weights_only=True)
        settings = found["settings"]
    except Exception as error:
        raise WeightsError(f"{last} is damaged, or no checkpoint: {str(error).splitlines()[0]}") from error
    other = [key for key, value in run.settings.items() if settings.get(key) != value]
    if other:
        raise DeconvvizValueError(f"{last} is of a run with other settings ({', '.join(other)}); give fresh")
    state: dict[str, Tensor] = found["state"]
    run.model.load_state_dict({k[6:]: v for k, v in state.items() if k.startswith("model.")})
    run.norms.load_state_dict({k[6:]: v for k, v in state.items() if k.startswith("norms.")})
    run.optimiser.load_state_dict(found["optimiser"])
    run.ema, run.epoch, run.step = found["ema"], found["epoch"], found["step"]
    run.metrics = list(found["metrics"])
