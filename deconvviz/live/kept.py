"""A recording that can be kept: one forward pass of a picture, and any number of questions to it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from torch import Tensor, nn

from deconvviz.analyses.given import answer_in, whole_of
from deconvviz.analyses.occlusion.compute import occlude_recorded
from deconvviz.analyses.occlusion.cover import Covered, as_result, cover_of, positions_of
from deconvviz.analyses.occlusion.result import Occlusion
from deconvviz.analyses.occlusion.watch import watch
from deconvviz.analyses.projection.compute import check_how, first_units, project_recorded, unit_numbers, unit_shares
from deconvviz.analyses.projection.result import Projection
from deconvviz.engine.layers import FoundLayer, layer_maps
from deconvviz.engine.passes import plain_mode
from deconvviz.engine.recorder import record as record_pass
from deconvviz.errors import DeconvvizValueError, UnknownNameError, UnsupportedOperatorError, check_counts
from deconvviz.live.occluder import Occluder
from deconvviz.network.layers import Layers, layers_of
from deconvviz.network.network import Network, Target
from deconvviz.network.preprocessing import Picture
from deconvviz.network.unchanged import Unchanged
from deconvviz.progress import Progress, heard


def record(model: Network | nn.Module, image: Picture) -> Record:
    """Run a picture through a network once and keep all that is asked of it afterwards.

    `image` is a path or PIL image (with a `Network` that has mean and std) or a preprocessed tensor (C, H, W) or
    (1, C, H, W). Every value of the pass is kept: a few times the memory that the pass itself takes. The model is left
    exactly as it was, no hook stays; it must not change as long as the recording is asked.

    Raises the errors of `project` and `occlude` for pictures and models. A network with an operator that cannot be
    recorded is recorded up to that; what needs more says so when asked for.

    >>> rec = deconvviz.record(deconvviz.load("zfnet"), "image.jpg")
    >>> rec.logits.shape, rec.strongest("conv5", 3).shape
    (torch.Size([101]), torch.Size([3]))
    >>> rec.project("conv5", top=3).pixels.shape, rec.project("conv4", units=[7]).pixels.shape
    (torch.Size([3, 3, 224, 224]), torch.Size([1, 3, 224, 224]))
    >>> live = rec.occluder(window=64)
    >>> bool(live.at(80, 80).probability < 1)
    True
    """
    return Record(Network.of(model), image)


class Record:
    """One forward pass of one picture, kept: `record` makes it.

    `image` (C, H, W) is the network's input. Every question raises `DeconvvizValueError` if the model has changed since
    (a parameter, buffer or part was replaced or written to). May be asked from several threads.

    >>> rec = deconvviz.record(deconvviz.load("lenet"), torch.rand(1, 28, 28))
    >>> rec
    Record(lenet, input (1, 28, 28))
    >>> rec.layers()[0].name, rec.image.shape
    ('features.conv1', torch.Size([1, 28, 28]))
    """

    def __init__(self, net: Network, image: Picture) -> None:
        x = net.preprocess(image)
        self._net = net
        self._rec = record_pass(net.plain, x, whole=False)
        self._unchanged = Unchanged(net.plain)
        # Filters and derivatives that walks back have made ready, by their policies, for the next ones.
        self._prepared: dict[tuple[str, ...], dict[Any, Any]] = {}
        # Filters and matrices that replays have made ready.
        self._replays: dict[Hashable, Any] = {}
        self._given = whole_of(net, image)
        if not isinstance(image, Tensor):
            self._given["answer"] = answer_in(net, self._rec)

    def __repr__(self) -> str:
        return f"Record({self._net.facts()['name']}, input {tuple(self.image.shape)})"

    @property
    def image(self) -> Tensor:
        """The network's input (C, H, W), preprocessed."""
        return self._rec.values[0][0]

    @property
    def logits(self) -> Tensor:
        """The class scores (classes,) of the picture; of a dense output their mean over the places.

        Raises `DeconvvizValueError` for a model that returns anything else.
        """
        self.check_whole()
        with plain_mode(self.image.device.type):
            readout, _ = self._net.read_out(self._rec, "logits")
            return as_result(readout.scores(self._rec.values[readout.value])[0].clone())

    def layers(self) -> Layers:
        """Name, aliases, operator, maps, size, stride and receptive field of every layer, for this picture's size.

        As `Network.layers()`: a list, in notebooks a table.

        >>> deconvviz.record(deconvviz.load("zfnet"), "image.jpg").layers()[0].size
        (110, 110)
        """
        return layers_of(self._rec, self._net.card)

    def strongest(self, layer: str | nn.Module, top: int = 9) -> Tensor:
        """The numbers (top,) of the units of `layer` that fire most strongly, the strongest first.

        >>> rec = deconvviz.record(deconvviz.load("zfnet"), "image.jpg")
        >>> bool((rec.strongest("conv5", 4) == rec.project("conv5", top=4).units).all())
        True
        """
        check_counts(top=top)
        return first_units(layer_maps(self._rec, self._found(layer)), top).units

    def maps(self, layer: str | nn.Module) -> Tensor:
        """The feature maps (C, h, w) of `layer`; those of (N, C) outputs are (C, 1, 1).

        >>> deconvviz.record(deconvviz.load("zfnet"), "image.jpg").maps("conv5").shape
        torch.Size([256, 13, 13])
        """
        return as_result(layer_maps(self._rec, self._found(layer)).clone())

    def project(
        self,
        layer: str | nn.Module,
        units: int | str | Sequence[int] | Tensor | None = None,
        top: int = 9,
        place: tuple[int, int] | Sequence[Sequence[int]] | Tensor | None = None,
        seed: str | Tensor = "activation",
        method: str = "deconvnet",
        overlap: str = "add",
        batch: int = 64,
        target: Target = None,
        output: str | None = None,
        attention: str = "refused",
        progress: Progress = None,
        distinct: bool = False,
    ) -> Projection:
        """Project units of `layer` to pixels, as `deconvviz.project` does, without another pass.

        >>> rec = deconvviz.record(deconvviz.load("zfnet"), "image.jpg")
        >>> rec.project("conv5", units=[3], place=(6, 6)).boxes.shape
        torch.Size([1, 4])
        """
        check_how(units, top, method, overlap, batch, attention, target, output)
        found = self._found(layer)
        prepared = self._prepared.setdefault((method, overlap, attention), {})
        with heard(progress, "units") as report:
            return project_recorded(
                self._net, self._rec, found, units, top, place, seed, method, overlap, batch, attention, report,
                distinct, self._given, target, output, prepared,
            )  # fmt: skip

    def occlude(
        self,
        target: Target = None,
        window: int | Sequence[int] = 32,
        stride: int | Sequence[int] = 8,
        fill: str | float | Sequence[float] | Tensor = "grey",
        layer: str | nn.Module | None = None,
        batch: int = 64,
        mask: Any = None,
        positions: str = "all",
        seed: int = 0,
        progress: Progress = None,
        method: str = "deconvnet",
        output: str | None = None,
    ) -> Occlusion:
        """Cover one window of the picture after the other, as `deconvviz.occlude` does, without another pass.

        >>> deconvviz.record(deconvviz.load("zfnet"), "image.jpg").occlude(window=64, stride=80).shape
        (3, 3)
        """
        self.check_whole()
        given = {name: value for name, value in self._given.items() if name != "answer"}
        with heard(progress, "positions") as report:
            return occlude_recorded(
                self._net, self._rec, given, target, window, stride, fill, layer, batch, mask, positions, seed, report,
                method, output,
            )  # fmt: skip

    def occluder(
        self,
        window: int | Sequence[int] = 32,
        fill: str | float | Sequence[float] | Tensor = "grey",
        layer: str | nn.Module | None = None,
        target: Target = None,
        unit: int | None = None,
        mask: Any = None,
        seed: int = 0,
        output: str | None = None,
    ) -> Occluder:
        """A window to be moved over the picture: `occluder.at(row, col)` says what the network makes of it there.

        `window`, `fill`, `target`, `mask`, `seed` and `output` are those of `deconvviz.occlude`; with a `layer` the
        activity of its `unit` is watched (default: the map whose maximum is largest on the picture itself). Filters
        are made ready once, here.

        >>> live = deconvviz.record(deconvviz.load("zfnet"), "image.jpg").occluder(window=(40, 60), layer="conv5")
        >>> live.at(100, 100).activity >= 0
        True
        """
        self.check_whole()
        rec = self._rec
        if rec.sized is not None:
            raise UnsupportedOperatorError(str(rec.sized)) from None
        grid = positions_of(rec.values[0], window, 1)
        covered = Covered(rec.values[0], grid, cover_of(rec.values[0], fill, mask, grid, seed))
        readout, number = self._net.read_out(rec, "occluder", target, output)
        if unit is not None and layer is None:
            raise DeconvvizValueError("unit goes with a layer")
        found = None if layer is None else self._found(layer)
        if found is not None and unit is not None:
            unit = int(unit_numbers(unit, layer_maps(rec, found))[0])
        watched = None if found is None else watch(rec, found, unit)
        return Occluder(rec, readout, number, covered, watched, self._unchanged.check, self._replays)

    def contributions(self, layer: str | nn.Module, target: Target = None, output: str | None = None) -> Tensor:
        """What each unit (C,) of `layer` adds to the logit of `target`: the sum of activation times derivative.

        The measure of `units="class"`. `target` and `output` are those of `deconvviz.project`.

        >>> rec = deconvviz.record(deconvviz.load("zfnet"), "image.jpg")
        >>> int(rec.contributions("conv5").argmax()) == int(rec.project("conv5", "class", top=1).units)
        True
        """
        found = self._found(layer)
        self.check_whole()
        with plain_mode(self.image.device.type):
            return unit_shares(self._net, self._rec, found, target, output)

    @property
    def current(self) -> bool:
        """Whether the model is still the one that was recorded."""
        try:
            self._unchanged.check()
        except DeconvvizValueError:
            return False
        return True

    @property
    def nbytes(self) -> int:
        """The memory that the recorded values take, without what was made ready for questions."""
        kept = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in self._rec.values}
        return sum(kept.values())

    def forget(self) -> None:
        """Free what was made ready for questions, which may be more than the recording; it is made again when needed.

        >>> rec = deconvviz.record(deconvviz.load("lenet"), torch.rand(1, 28, 28))
        >>> rec.forget()
        >>> rec.project("conv2", units=[3]).pixels.shape
        torch.Size([1, 1, 28, 28])
        """
        self._prepared, self._replays = {}, {}

    def _found(self, layer: str | nn.Module) -> FoundLayer:
        """The layer in the recording; what could not be recorded is the reason where there is none."""
        self._unchanged.check()
        try:
            return self._net.find_layer(self._rec, layer)
        except UnknownNameError:
            raise
        except DeconvvizValueError:
            self.check_whole()
            raise

    def check_whole(self) -> None:
        """Raise the error for what ended the recording before the pass was over, if anything did."""
        self._unchanged.check()
        if self._rec.refused is not None:
            raise UnsupportedOperatorError(str(self._rec.refused)) from None
