"""From a trained torch module to the operator on functions of which it is a sample."""

from nissl.nn.operators.converting.convert import NeuralOperator, to_neural_operator

__all__ = ["NeuralOperator", "to_neural_operator"]
