"""Weights of a network: sparsity, tails, reciprocity, triads, beside rewired graphs."""
