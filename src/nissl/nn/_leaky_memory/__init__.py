"""The parts of the leaky memory neuron."""
