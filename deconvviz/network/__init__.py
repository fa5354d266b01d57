"""Networks with what one has to know to use them, and the ways to get one."""

from deconvviz.engine.geometry import Layer, receptive_field
from deconvviz.network.checkpoints import EvolutionCheckpoints
from deconvviz.network.network import Network, load

__all__ = ["EvolutionCheckpoints", "Layer", "Network", "load", "receptive_field"]
