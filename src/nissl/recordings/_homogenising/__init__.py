"""One clock, one order of neurons, one scale: steps of a pipeline that run over a recording a stretch at a time."""
