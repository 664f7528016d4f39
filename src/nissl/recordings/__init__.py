"""What is this recording? Opened, homogenised, wired, simulated."""

from nissl.recordings._traces import as_traces

__all__ = ["as_traces"]
