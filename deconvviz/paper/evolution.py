"""Fig. 4: what units respond to as training goes on; and the numbers of "low layers settle first"."""

from __future__ import annotations

from dataclasses import replace

from deconvviz.analyses.evolution.compute import evolve
from deconvviz.analyses.evolution.result import Evolution
from deconvviz.network.checkpoints import run_facts
from deconvviz.paper.layers import numbered
from deconvviz.paper.pages import Page
from deconvviz.paper.sources import Made, Sources
from deconvviz.paper.training_run import settings

# Pictures, evenly spread over the data; units drawn in each layer.
MOST, UNITS = 500, 6
LEVEL = 0.9


def make(sources: Sources, page: Page) -> Made:
    """The projections (`figure4`), or the curves of convergence (`convergence`)."""
    result = sources.once("evolution", lambda: _evolve(sources))
    epochs = f"{', '.join(str(e) for e in result.epochs[:-1])} and {result.epochs[-1]}"
    source = f"Network: {result.model['name']}, {len(result.names)} pictures."
    if page.name == "convergence":
        settled = ", ".join(f"{name} from epoch {epoch}" for name, epoch in result.settled(LEVEL).items())
        caption = (
            "How like those of the last checkpoint a layer's features (correlation of a unit's values over pictures "
            "and places, the mean over its units) and their projections (cosine, at the same picture and place) are "
            f"after epochs {epochs}. Similarity of features of {LEVEL:g} and above: {settled}. {source}"
        )
        return Made(result.figure(kind="convergence", level=LEVEL), caption, {"evolution": result}, result.table())
    jumps = sum(int(layer.jumps.sum()) for layer in result.layers)
    caption = (
        f"For {UNITS} random units of each layer (rows) the strongest activation over all pictures after epochs "
        f"{epochs} (columns), projected down to pixels and cut to its receptive field. {jumps} sudden jumps are "
        f"marked: there another picture excites the unit most. Signed, zero is mid-grey. {source}"
    )
    return Made(result.figure(), caption, {"evolution": result})


def _evolve(sources: Sources) -> Evolution:
    assert sources.run is not None
    # Runs of other people's loops do not say of which network they are: then it is the one given.
    model = run_facts(sources.run).get("model", sources.net)
    layers = numbered(sources.net)
    found = evolve(sources.run, sources.data, layers, model=model, count=UNITS, most=MOST, progress=sources.progress)
    recipe = settings(sources.run).get("recipe", {})
    # What makes a layer settle by itself: the claims have to say it.
    told = {name: recipe[name] for name in ("initialisation", "factors") if name in recipe}
    return replace(found, policy={**found.policy, **told})
