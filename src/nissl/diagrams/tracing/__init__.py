"""What a network does in one pass: every operator that it calls, with module and line."""

from nissl.diagrams.tracing.record import Place, Step, Trace, Value
from nissl.diagrams.tracing.running import trace
from nissl.diagrams.tracing.sizes import symbol

__all__ = ["Place", "Step", "Trace", "Value", "symbol", "trace"]
