"""Could it be built to be understood? Layers and networks whose neurons behave like neurons, as ordinary torch modules."""

from nissl.nn._cell import Cell, State, unroll
from nissl.nn._trace import leaky_trace

__all__ = ["Cell", "State", "leaky_trace", "unroll"]
