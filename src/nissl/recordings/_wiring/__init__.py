"""Connectomes: matrices of connections with names, compared and merged."""
