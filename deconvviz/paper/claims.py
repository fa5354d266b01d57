"""What the paper claims, checked on the numbers behind the pages; what does not hold is said as plainly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from deconvviz.analyses.accuracy.result import Accuracy
from deconvviz.analyses.correspondence.result import Correspondence
from deconvviz.analyses.evolution.result import Evolution
from deconvviz.analyses.invariance.result import Invariance
from deconvviz.analyses.occlusion.result import Occlusion
from deconvviz.analyses.probes.result import Probes
from deconvviz.analyses.sanity.result import Sanity
from deconvviz.errors import DeconvvizValueError
from deconvviz.results.base import Result
from deconvviz.results.table import Table

LEVEL = 0.9  # similarity from which a layer counts as settled

R = TypeVar("R", bound=Result)


@dataclass(frozen=True)
class Claim:
    """One claim: `holds` is None where it was not checked, and `numbers` then says what is missing."""

    statement: str
    source: str
    holds: bool | None
    numbers: str

    @property
    def verdict(self) -> str:
        """ "holds", "does not hold" or "not checked"."""
        return "not checked" if self.holds is None else "holds" if self.holds else "does not hold"


def check(numbers: Path) -> list[Claim]:
    """Return every claim, checked on the results in the folder `numbers` of a paper."""
    return [make(numbers) for make in (_settling, _smoothness, _covering, _parts, _depth, _features, _believed)]


def _load(kind: type[R], numbers: Path, name: str) -> R | None:
    """The result, if it is there and can be read."""
    try:
        return kind.load(numbers / f"{name}.npz")
    except DeconvvizValueError:
        return None


def _open(statement: str, source: str, needs: str) -> Claim:
    return Claim(statement, source, None, f"Needs {needs}.")


def _settling(numbers: Path) -> Claim:
    said = "The lowest layer settles before the highest during training", "section 4.1, Fig. 4"
    found = _load(Evolution, numbers, "evolution")
    if found is None or len(found.layers) < 2 or len(found.epochs) < 2:
        return _open(*said, "a training run with two kept epochs or more (--run)")
    low, high = found.layers[0], found.layers[-1]
    settled = found.settled(LEVEL)
    first, last = (layer.similarity().tolist() for layer in (low, high))
    # Layers that settle at the same kept epoch have not been told apart.
    holds = settled[low.name] < settled[high.name] and sum(first) > sum(last)
    epochs = ", ".join(f"{name} from epoch {epoch}" for name, epoch in settled.items())
    start = ", ".join(f"{layer.name} {float(layer.similarity()[0]):.2f}" for layer in found.layers)
    return Claim(
        *said,
        holds,
        f"Similarity of features with those of epoch {found.epochs[-1]} is {LEVEL:g} or more: {epochs}. After epoch "
        f"{found.epochs[0]} it is: {start}.{_helped(found)}",
    )


def _helped(found: Evolution) -> str:
    """What of the training's recipe makes low layers settle by itself."""
    factors = found.policy.get("factors")
    slowed = [f"{str(name).rstrip('.')} {factor:g}" for name, factor in factors] if isinstance(factors, list) else []
    parts = ["the filters start from the data"] if found.policy.get("initialisation") == "data" else []
    parts += [f"some layers learn at a fraction of the rate ({', '.join(slowed)})"] if slowed else []
    return f" The recipe helps: {' and '.join(parts)}." if parts else ""


def _smoothness(numbers: Path) -> Claim:
    said = "Under translation the top layer's distance grows smoothly, the first layer's at once", "section 4.1, Fig. 5"
    found = _load(Invariance, numbers, "figure5")
    measured = {} if found is None else found.smoothness().get("translation", {})
    if found is None or not measured:
        return _open(*said, "figure 5, with vertical translation")
    low, high = measured["low"], measured["high"]
    holds = high["early"] < low["early"] and high["linearity"] > low["linearity"]
    names = [f"layer {name}" for name in found.layers]
    but = ""
    if high["roughness"] > low["roughness"]:
        but = (
            f" From step to step {names[1]} is the rougher one, though: changes of step over the range "
            f"{high['roughness']:.2f} against {low['roughness']:.2f}."
        )
    return Claim(
        *said,
        holds,
        f"At a tenth of the way the distance is {low['early']:.0%} of its largest in {names[0]} and "
        f"{high['early']:.0%} in {names[1]} (a straight line: 10%); a straight line explains "
        f"{low['linearity']:.0%} and {high['linearity']:.0%} of its variance. Mean of {len(found.images)} "
        f"picture{'s' if len(found.images) > 1 else ''}.{but}",
    )


def _covering(numbers: Path) -> Claim:
    said = "The probability of the class falls when the object is covered", "section 4.2, Fig. 7"
    names = sorted(path.stem for path in numbers.glob("figure7-*.npz"))
    found = [result for name in names if (result := _load(Occlusion, numbers, name)) is not None]
    if not found:
        return _open(*said, "figure 7")
    lines, held = [], []
    for result in found:
        probability, uncovered = result.probability.flatten(), float(result.baseline.softmax(0)[result.target])
        line = f"{result.label(result.target)} {uncovered:.3f}, covered at worst {float(probability.min()):.3f}"
        falls = float(probability.min()) < uncovered
        if result.activity is not None and len(probability) > 9:
            over, away = _over_the_object(result)
            falls = falls and over < away
            line += f" (over the strongest map's place {over:.3f}, away from it {away:.3f})"
        lines.append(line)
        held.append(falls)
    return Claim(*said, all(held), f"In {sum(held)} of {len(held)} pictures: {'; '.join(lines)}.")


def _over_the_object(result: Occlusion) -> tuple[float, float]:
    """Mean probability at the tenth of positions that take most from the strongest map, and that take least.

    The paper's reading of its Fig. 7 (b) and (d): covering what the map responds to covers the object.
    """
    assert result.activity is not None
    order = result.activity.flatten().argsort()
    count = max(len(order) // 10, 1)
    probability = result.probability.flatten()
    return float(probability[order[:count]].mean()), float(probability[order[-count:]].mean())


def _parts(numbers: Path) -> Claim:
    said = "Covering the same part changes layer 5 more alike than covering random places", "section 4.3, Table 1"
    found = _load(Correspondence, numbers, "correspondence")
    if found is None or not found.random.shape[1]:
        return _open(*said, "table 1 (--data with the pictures of --parts)")
    # Each part against random boxes of its own sizes.
    own, random, one = (values.double().flatten(1).mean(1) for values in _of_lowest(found))
    lines = [f"{part} {a:.3f} against {b:.3f}" for part, a, b in zip(found.parts, own, random, strict=True)]
    alike = [float(a) < float(b) for a, b in zip(own, random, strict=True)]
    below = found.below()["random"]
    certain = sum(below[part][0] == 0 for part in found.parts)
    note = ""
    if float(one.mean()) < float(own.mean()):
        note = (
            f" At one place for all pictures, whatever it shows, it is {float(one.mean()):.3f}: that is more alike yet."
        )
    return Claim(
        *said,
        all(alike),
        f"Δ in layer {found.layers[0]}, for {sum(alike)} of {len(alike)} parts below that of random boxes of its sizes "
        f"(for {certain} below every single draw): {', '.join(lines)}.{note}",
    )


def _of_lowest(found: Correspondence) -> tuple[Tensor, Tensor, Tensor]:
    """Distances in the lower layer of parts (P, M), of random boxes and of those at one place (P, D, M)."""
    return found.distances[:, 0], found.random[:, :, 0], found.one_place[:, :, 0]


def _depth(numbers: Path) -> Claim:
    said = "Upper layers classify better than lower ones", "section 5.3, Table 7"
    found = _load(Probes, numbers, "table7")
    if found is None or len(found) < 2:
        return _open(*said, "table 7 (--data)")
    accuracy = (100 * found.mean[:, -1]).tolist()
    half = len(accuracy) // 2
    lower, upper = sum(accuracy[:half]) / half, sum(accuracy[-half:]) / half
    holds = upper > lower and accuracy.index(max(accuracy)) >= half
    steps = zip(found.layers, found.layers[1:], accuracy, accuracy[1:], strict=False)
    falls = [f"{above} below {under}" for under, above, before, after in steps if after < before]
    lines = ", ".join(f"layer {name} {value:.1f}%" for name, value in zip(found.layers, accuracy, strict=True))
    but = f" Not at every step: {', '.join(falls)}." if falls else ""
    return Claim(
        *said,
        holds,
        f"{found.count(-1)} pictures a category: {lines}; mean of the lower half {lower:.1f}%, of the upper "
        f"half {upper:.1f}%.{but}",
    )


def _features(numbers: Path) -> Claim:
    said = "Features of a trained network beat training from scratch on few pictures", "section 5.2, Table 4"
    found = _load(Accuracy, numbers, "accuracy")
    measured = {} if found is None else {line.name: line for line in found.lines if line.measured}
    scratch = next((line for name, line in measured.items() if name.startswith("trained from scratch")), None)
    features = next((line for name, line in measured.items() if name.startswith("features of")), None)
    shared = [] if scratch is None or features is None else [n for n in scratch.counts if n in features.counts]
    if scratch is None or features is None or not shared:
        return _open(*said, "table 4 with a run trained with --per-category (--data and --run)")
    count = shared[-1]
    a, b = (line.values[line.counts.index(count)] for line in (features, scratch))
    return Claim(
        *said,
        a > b,
        f"At most {count} pictures a category: {features.name} {a:.1%}, {scratch.name} {b:.1%}. Unlike in the paper "
        "the network behind the features may have learned these very categories: see table 4.",
    )


def _believed(numbers: Path) -> Claim:
    said = "A projection shows the structures of the picture that excite the map", "section 4, Fig. 2"
    found = _load(Sanity, numbers, "sanity")
    # What depends on the map must differ by picture, by unit, and with the weights; the rest is told besides.
    needed = (
        {s.about: s.shows for s in found.statements() if s.about in ("picture", "unit", "weights")} if found else {}
    )
    if found is None or not needed:
        return _open(*said, "figure 7, on a layer that can be projected")
    shown, hidden = (" ".join(s.text for s in found.statements() if s.shows is which) for which in (True, False))
    lines = f"{len(found)} map{'s' if len(found) > 1 else ''} of {found.name} in one picture, {found.method}."
    lines += f" What they show. {shown}" if shown else ""
    lines += f" What they do not show. {hidden}" if hidden else ""
    return Claim(*said, all(needed.values()), lines)


def as_text(claims: list[Claim], name: str) -> str:
    """Return the claims as plain text."""
    lines = [f"Claims of the paper, checked on {name}", ""]
    for claim in claims:
        lines += [f"[{claim.verdict}] {claim.statement} ({claim.source})", f"    {claim.numbers}", ""]
    return "\n".join(lines)


def as_markdown(claims: list[Claim], name: str) -> str:
    """Return the claims as Markdown."""
    rows = [(c.statement, c.source, c.verdict, c.numbers) for c in claims]
    table = Table(("claim", "paper", name, "numbers"), rows, align="llll")
    return f"# Claims of the paper, checked on {name}\n\n{table.markdown()}"
