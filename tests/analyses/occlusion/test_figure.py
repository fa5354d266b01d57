"""The occlusion figure: its numbers stand where their windows do, and nothing overlaps, is cut, or leaks."""

from __future__ import annotations

import dataclasses
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from deconvviz.analyses.occlusion.figure import draw, edges, inches, largest_square, shorten
from deconvviz.analyses.occlusion.result import Occlusion
from deconvviz.analyses.projection.result import Projection
from deconvviz.errors import DeconvvizValueError, UnknownNameError
from deconvviz.results.style import COLOURS, styled


def make(
    height: int = 60, width: int = 80, window: int = 20, stride: int = 15, classes: int = 4, channels: int = 3
) -> Occlusion:
    g = torch.Generator().manual_seed(0)
    rows, cols = (sorted({*range(0, n - window + 1, stride), n - window}) for n in (height, width))
    origins = torch.tensor([(r, c) for r in rows for c in cols])
    image = torch.rand(channels, height, width, generator=g)
    projection = Projection(
        "relu5", "conv5", torch.tensor([126]), torch.tensor([[1, 2]]), torch.tensor([5.5]),
        torch.randn(1, channels, height, width, generator=g), torch.tensor([[5, 0, height - 9, width - 7]]),
        image=image,
    )  # fmt: skip
    labels = tuple(f"$a long_{k} name of a class with $ {k}" for k in range(classes))
    return Occlusion(
        origins, (len(rows), len(cols)), (window, window), (stride, stride),
        torch.randn(len(origins), classes, generator=g), torch.randn(classes, generator=g), 1,
        torch.zeros(channels, 1, 1), layer="relu5", alias="conv5", unit=126,
        activity=torch.rand(len(rows), len(cols), generator=g) * 1000, projection=projection,
        model={"name": "zfnet"}, image=image, labels=labels,
    )  # fmt: skip


def bare(o: Occlusion) -> Occlusion:
    return dataclasses.replace(o, layer=None, alias=None, unit=None, activity=None, projection=None)


def panels(figure: Figure) -> list[Axes]:
    """The panels, without colour bars and swatches: those that show the picture's rows and columns."""
    return [ax for ax in figure.axes if ax.get_ylim()[1] == -0.5]


def mesh(ax: Axes) -> QuadMesh:
    (found,) = [c for c in ax.collections if isinstance(c, QuadMesh)]
    return found


def at(ax: Axes, x: float, y: float) -> Any:
    """The value of the cell under a point of the picture."""
    drawn = mesh(ax)
    corners = drawn.get_coordinates()
    cols, rows = corners[0, :, 0], corners[:, 0, 1]
    values = np.asarray(drawn.get_array()).reshape(len(rows) - 1, len(cols) - 1)
    return values[np.searchsorted(rows, y) - 1, np.searchsorted(cols, x) - 1]


def test_every_number_stands_at_the_centre_of_its_window() -> None:
    o = make()
    _, b, _, d, e = panels(o.figure())
    classes = [int(c) for c in torch.unique(o.prediction)]  # type: ignore[no-untyped-call]
    assert len(classes) > 2
    for k, (r, c) in enumerate(o.origins.tolist()):
        x, y = c + (20 - 1) / 2, r + (20 - 1) / 2
        assert o.activity is not None
        assert at(b, x, y) == pytest.approx(float(o.activity.flatten()[k]))
        assert at(d, x, y) == pytest.approx(float(o.probability.flatten()[k]))
        # The target is the first colour.
        assert (at(e, x, y) == 0) == (int(o.prediction.flatten()[k]) == o.target)


def test_edges_by_hand() -> None:
    # Centres 1.5, 4.5, 7.5 and, shifted back, 8.5; clipped at the border of 11 pixels.
    assert edges(np.array([0, 3, 6, 7]), 4, 3, 11).tolist() == [0, 3, 6, 8, 9]
    # Cut at the border of 5 pixels, the last window is one pixel: its centre is that pixel, 4.
    assert edges(np.array([0, 2, 4]), 3, 2, 5).tolist() == [0, 2, 3.5, 4.5]
    assert edges(np.array([0]), 3, 2, 3).tolist() == [0, 2]
    assert edges(np.array([0, 1, 2]), 1, 1, 3).tolist() == [-0.5, 0.5, 1.5, 2.5]


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_picture_is_covered_where_the_target_is_least_probable(channels: int) -> None:
    o = make(channels=channels)
    a = panels(o.figure())[0]
    shown = np.asarray(a.images[0].get_array())[..., :3]
    r, c = o.origins[int(o.logits.softmax(1)[:, 1].argmin())].tolist()
    hidden = (shown == 0).all(-1)
    assert hidden[r : r + 20, c : c + 20].all()
    frame = a.patches[0]
    assert (frame.get_y(), frame.get_x(), frame.get_height(), frame.get_width()) == (r - 0.5, c - 0.5, 20, 20)  # type: ignore[attr-defined]


def test_the_projection_lies_at_its_place() -> None:
    o = make()
    c = panels(o.figure())[2]
    assert o.projection is not None
    assert c.images[-1].get_extent() == [-0.5, 72.5, 50.5, 4.5]
    assert np.array_equal(np.asarray(c.images[-1].get_array()), o.projection.images()[0, 5:51, :73])


def test_without_a_layer_two_panels_are_left_out() -> None:
    texts = {t.get_text() for t in make().figure().texts}
    assert {f"({x})" for x in "abcde"} <= texts
    texts = {t.get_text() for t in bare(make()).figure().texts}
    assert {"(a)", "(d)", "(e)"} <= texts and not {"(b)", "(c)"} & texts


def test_several_results_stand_one_below_the_other() -> None:
    first, second = make(), bare(make(24, 90, 12, 9))
    figure = draw([first, second])
    drawn = panels(figure)
    assert len(drawn) == 5 + 3 and figure.get_figwidth() == pytest.approx(first.figure().get_figwidth())
    assert min(ax.get_position().y0 for ax in drawn[:5]) > max(ax.get_position().y1 for ax in drawn[5:])
    assert figure.get_figheight() == pytest.approx(first.figure().get_figheight() + second.figure().get_figheight())
    assert np.array_equal(mesh(drawn[6]).get_array(), second.probability.numpy())
    with pytest.raises(DeconvvizValueError, match="no result"):
        draw([])


def test_many_classes_share_the_last_line() -> None:
    o = dataclasses.replace(make(stride=5, classes=30), labels=())
    figure = bare(o).figure()
    found, counts = np.unique(o.prediction.numpy(), return_counts=True)
    assert len(found) > 6
    lines = [t.get_text() for t in figure.texts]
    assert sum(line.startswith("class ") for line in lines[:-1]) == 5 + 1  # the target also below (d)
    others = len(found) - 5
    assert f"{others} others" in lines
    e = panels(figure)[2]
    index = np.asarray(mesh(e).get_array())
    assert int((index == 5).sum()) == len(o) - sum(sorted(counts[found != 1])[-4:]) - int(counts[found == 1].sum())


def test_overlay_shows_the_photograph_beneath() -> None:
    for ax in panels(make().figure(overlay=True, alpha=0.4))[1::2]:
        assert len(ax.images) == 1 and mesh(ax).get_alpha() == 0.4
    for ax in panels(make().figure())[1::2]:
        assert not ax.images and mesh(ax).get_alpha() is None


def test_attribution_is_the_heatmap_centred_at_zero() -> None:
    o = make(stride=30)
    figure = o.figure(kind="attribution")
    shown = panels(figure)[1].images[-1]
    assert np.allclose(np.ma.filled(shown.get_array(), np.nan), o.heatmap().numpy(), equal_nan=True)
    low, high = shown.get_clim()
    assert low == -high and high == pytest.approx(float(o.heatmap().nan_to_num().abs().max()))
    assert len(panels(o.figure(kind="attribution", overlay=False))[1].images) == 1


def bars(figure: Figure) -> list[Axes]:
    """The bars of colours, by their marks and ticks."""
    return [ax for ax in figure.axes if ax not in panels(figure) and ax.get_xticks().size]


def test_probabilities_are_on_the_whole_scale_and_the_uncovered_one_is_marked() -> None:
    o = make()
    figure = o.figure()
    uncovered = float(o.baseline.softmax(0)[o.target])
    assert mesh(panels(figure)[3]).get_clim() == (0, 1)
    assert [line.get_xdata()[0] for line in bars(figure)[1].lines] == pytest.approx([uncovered])
    assert f"▼ uncovered: {uncovered:.3g}" in {t.get_text() for t in figure.texts}
    # The sum of a map begins at nothing, and its uncovered value is marked if it is known.
    b = mesh(panels(figure)[1])
    assert o.activity is not None and b.get_clim() == pytest.approx((0, float(o.activity.max())))
    assert not bars(figure)[0].lines
    known = dataclasses.replace(o, baseline_activity=1500.0).figure()
    assert mesh(panels(known)[1]).get_clim() == (0, 1500)
    assert [line.get_xdata()[0] for line in bars(known)[0].lines] == [1500]


def test_the_ends_of_the_colours_can_be_given_and_what_lies_beyond_shows() -> None:
    o = make()
    figure = o.figure(vmin=0.2, vmax=0.3)
    d = mesh(panels(figure)[3])
    assert d.get_clim() == (0.2, 0.3) and d.colorbar is not None and d.colorbar.extend == "both"
    uncovered = float(o.baseline.softmax(0)[o.target])
    assert not 0.2 <= uncovered <= 0.3 and not bars(figure)[1].lines
    assert mesh(panels(o.figure(vmax=0.5))[3]).get_clim() == (0, 0.5)
    for ends in ({"vmin": 1.0}, {"vmin": 0.3, "vmax": 0.2}, {"vmax": float("nan")}):
        with pytest.raises(DeconvvizValueError, match="vmin < vmax"):
            o.figure(**ends)


@pytest.mark.parametrize(
    ("given", "ends"), [({"vmax": 5.0}, (-5, 5)), ({"vmin": -4.0}, (-4, 4)), ({"vmin": -1.0, "vmax": 3.0}, (-1, 3))]
)
def test_no_drop_is_white_wherever_the_ends_are(given: dict[str, float], ends: tuple[float, float]) -> None:
    shown = panels(make().figure(kind="attribution", **given))[1].images[-1]
    assert shown.get_clim() == ends
    white = shown.cmap(shown.norm(0.0))
    assert min(white[:3]) > 0.95
    # As much colour to a step on either side.
    blue, red = shown.cmap(shown.norm(-0.9)), shown.cmap(shown.norm(0.9))
    assert blue[2] > blue[0] and red[0] > red[2] and abs(sum(blue[:3]) - sum(red[:3])) < 0.25


def test_several_pictures_are_on_one_scale() -> None:
    first = make()
    second = dataclasses.replace(first, logits=first.logits * 3, baseline_activity=4000.0)
    other = dataclasses.replace(first, unit=7)
    figure = draw([first, second, other])
    assert [mesh(panels(figure)[5 * n + 3]).get_clim() for n in range(3)] == [(0, 1)] * 3
    assert [mesh(panels(figure)[5 * n + 1]).get_clim()[1] for n in range(2)] == [4000] * 2
    assert mesh(panels(figure)[11]).get_clim()[1] < 1001, "another map has a scale of its own"
    drops = [panels(draw([first, second], kind="attribution"))[2 * n + 1].images[-1].get_clim() for n in range(2)]
    most = max(float(o.heatmap().nan_to_num().abs().max()) for o in (first, second))
    assert drops == [pytest.approx((-most, most))] * 2


@pytest.mark.parametrize("kind", ["paper", "attribution"])
def test_the_networks_own_answer_is_named(kind: str) -> None:
    o = dataclasses.replace(make(), labels=("cat", "dog", "cup", "car"), baseline=torch.tensor([0.0, 0, 0, 2]))
    said = f"network: car, {float(o.baseline.softmax(0)[3]):.3g}"
    assert said in {t.get_text() for t in o.figure(kind=kind).texts} and o.target != 3


def test_largest_square_by_hand() -> None:
    where = np.array([[1, 1, 0, 1], [1, 1, 1, 1], [0, 1, 1, 1], [1, 0, 1, 0]], dtype=bool)
    assert largest_square(where) == (2, 2, 2)
    assert largest_square(np.ones((3, 5), dtype=bool)) == (3, 3, 3)
    assert largest_square(np.zeros((2, 2), dtype=bool))[2] == 0


def test_numbers_in_the_map_have_the_colour_of_their_class() -> None:
    o = make(60, 80, 20, 5, classes=2)
    logits = torch.zeros(len(o), 2)
    logits[:, 1] = torch.where(o.origins[:, 1] < 30, 1.0, -1.0)
    e = panels(bare(dataclasses.replace(o, logits=logits)).figure())[2]
    one, two = e.texts
    assert (one.get_text(), two.get_text()) == ("1", "2")
    assert at(e, *one.get_position()) == 0 and at(e, *two.get_position()) == 1
    assert mesh(e).get_cmap()(mesh(e).norm(0)) == to_rgba(COLOURS[0])


def test_shorten_fits_and_keeps_what_fits() -> None:
    with styled():
        assert shorten("cup", 1, 6) == "cup"
        cut = shorten("a very long label indeed", 0.5, 6)
        assert cut.endswith("…") and "a very long label indeed".startswith(cut[:-1].rstrip())
        assert 0.3 < inches(cut, 6) <= 0.5


SHAPES = [(60, 80, 20, 15), (24, 240, 12, 9), (300, 40, 20, 30), (28, 28, 28, 4), (28, 28, 1, 9)]


@pytest.mark.parametrize(
    ("shape", "layer", "kind"),
    [(SHAPES[0], False, "paper"), *[(s, True, k) for s in SHAPES for k in ("paper", "attribution")]],
)
def test_texts_lie_inside_and_apart(shape: tuple[int, int, int, int], layer: bool, kind: str) -> None:
    o = make(*shape, classes=9)
    figure = (o if layer else bare(o)).figure(kind=kind)
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    figure.set_dpi(200)  # as it is saved
    with styled():
        canvas.draw()  # type: ignore[no-untyped-call]
        renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
        ticks = [
            label.get_window_extent(renderer)
            for bar in bars(figure)
            for place, label in zip(bar.get_xticks(), bar.get_xticklabels(), strict=True)
            if bar.get_xlim()[0] <= place <= bar.get_xlim()[1]
        ]
        swatches = [ax.bbox for ax in figure.axes if ax not in panels(figure) and ax not in bars(figure)]
        boxes = [t.get_window_extent(renderer) for t in figure.texts if t.get_color() != "white"] + ticks
    assert ticks
    low, high = figure.bbox.x1, figure.bbox.y1
    for i, box in enumerate(boxes):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= low and box.y1 <= high
        assert not any(box.padded(-0.5).overlaps(other.padded(-0.5)) for other in boxes[i + 1 :])
        assert not [(boxes[i], other) for other in [ax.bbox for ax in panels(figure)] + swatches if box.overlaps(other)]


def test_constant_and_missing_numbers_are_drawn() -> None:
    o = make()
    for logits, kind in ((torch.zeros(len(o), 4), "paper"), (torch.full((len(o), 4), torch.nan), "attribution")):
        figure = dataclasses.replace(o, logits=logits).figure(kind=kind)
        figure.canvas.draw()  # type: ignore[no-untyped-call]
    dataclasses.replace(o, logits=logits).figure()


def test_errors() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'paper'"):
        make().figure(kind="papper")
    for alpha in (0, 1.5):
        with pytest.raises(DeconvvizValueError, match="0 < alpha <= 1"):
            make().figure(alpha=alpha)


def test_the_users_matplotlib_stays_as_it_was() -> None:
    before = dict(matplotlib.rcParams)
    make().figure(overlay=True)
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("kind", ["paper", "attribution"])
def test_the_whole_picture_stands_in_the_head_and_nothing_overlaps(kind: str) -> None:
    whole = torch.full((40, 180, 3), 200, dtype=torch.uint8)
    o = dataclasses.replace(bare(make()), whole=whole, region=(0.0, 0.4, 1.0, 0.6))
    figure = draw([o, o], kind=kind)
    pictures = [ax for ax in figure.axes if ax.images and np.asarray(ax.images[0].get_array()).shape == (40, 180, 3)]
    assert len(pictures) == 2, "the head is not shared: each row has its own picture"
    strip = np.asarray(pictures[0].images[0].get_array())
    assert (strip[:, 72:108] == 200).all() and (strip[:, :72] == 70).all() and (strip[:, 108:] == 70).all()
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    with styled():
        canvas.draw()  # type: ignore[no-untyped-call]
        renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
        texts = [t.get_window_extent(renderer) for t in figure.texts if t.get_color() != "white"]
    for ax in pictures:
        assert ax.bbox.x1 <= figure.bbox.x1 and ax.bbox.y1 <= figure.bbox.y1
        assert not any(ax.bbox.overlaps(text) for text in texts)
        others = [other for other in figure.axes if other is not ax]
        assert not any(ax.bbox.overlaps(other.bbox) for other in others)
