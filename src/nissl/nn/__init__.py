"""Could it be built to be understood? Layers and networks whose neurons behave like neurons, as ordinary torch modules."""

__all__: list[str] = []
