"""Networks with what one has to know to use them, and the ways to get one."""

from deconvviz.network.network import Network, load

__all__ = ["Network", "load"]
