"""Networks with what one has to know to use them, and the ways to get one."""

from deconvviz.network.checkpoints import EvolutionCheckpoints
from deconvviz.network.field import receptive_field
from deconvviz.network.layers import Layer
from deconvviz.network.load import load
from deconvviz.network.network import Network

__all__ = ["EvolutionCheckpoints", "Layer", "Network", "load", "receptive_field"]
