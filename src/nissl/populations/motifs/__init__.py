"""The dynamic connectome: affinities, non-negative factors, and the atlas of motifs."""
