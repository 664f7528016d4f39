"""Is the explanation true? Tests of attributions, each beside a control and with an interval."""

from nissl.evaluation._drawings import drawing_faults
from nissl.evaluation._reading import run_text
from nissl.evaluation._swapping import swapped
from nissl.evaluation._tracking import measured_memory
from nissl.evaluation.agreement import Agreement, agreement, occlusion_agreement, spearman
from nissl.evaluation.continual import average_accuracy, backward_transfer, forgetting, forward_transfer
from nissl.evaluation.controls import shifted, shuffled
from nissl.evaluation.diagrams import DiagramMatch, broadcast_laws, counted_flops, diagram_matches
from nissl.evaluation.discretisation import Agnostic, discretisation_error, is_discretisation_agnostic
from nissl.evaluation.duality import duality_report
from nissl.evaluation.expressivity import FunctionalDimension, functional_dimension, spline_pieces
from nissl.evaluation.localisation import box_iou, energy_inside, localise, pointing_game, threshold_boxes
from nissl.evaluation.perturbation import Curve, deletion, insertion
from nissl.evaluation.randomisation import randomised, weight_randomisation
from nissl.evaluation.sparsity import sparsity
from nissl.statistics import Measured, bootstrap, gini, measure

__all__ = [
    "Agnostic",
    "Agreement",
    "Curve",
    "DiagramMatch",
    "FunctionalDimension",
    "Measured",
    "agreement",
    "average_accuracy",
    "backward_transfer",
    "bootstrap",
    "box_iou",
    "broadcast_laws",
    "counted_flops",
    "deletion",
    "diagram_matches",
    "discretisation_error",
    "drawing_faults",
    "duality_report",
    "energy_inside",
    "forgetting",
    "forward_transfer",
    "functional_dimension",
    "gini",
    "insertion",
    "is_discretisation_agnostic",
    "localise",
    "measure",
    "measured_memory",
    "occlusion_agreement",
    "pointing_game",
    "randomised",
    "run_text",
    "shifted",
    "shuffled",
    "sparsity",
    "spearman",
    "spline_pieces",
    "swapped",
    "threshold_boxes",
    "weight_randomisation",
]
