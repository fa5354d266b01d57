"""Networks with what one has to know to use them, and the ways to get one."""

from deconvviz.network.load import load
from deconvviz.network.network import Network

__all__ = ["Network", "load"]
