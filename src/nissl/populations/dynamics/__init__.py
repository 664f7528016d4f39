"""How dynamical is this system? One table of measures, each beside its control."""
