"""Is the explanation true? Tests of attributions, each beside a control and with an interval."""

from nissl.evaluation.agreement import Agreement, agreement, occlusion_agreement, spearman
from nissl.evaluation.continual import average_accuracy, backward_transfer, forgetting, forward_transfer
from nissl.evaluation.controls import shifted, shuffled
from nissl.evaluation.duality import duality_report
from nissl.evaluation.localisation import box_iou, energy_inside, localise, pointing_game, threshold_boxes
from nissl.evaluation.perturbation import Curve, deletion, insertion
from nissl.evaluation.randomisation import randomised, weight_randomisation
from nissl.evaluation.sparsity import sparsity
from nissl.statistics import Measured, bootstrap, gini, measure

__all__ = [
    "Agreement",
    "Curve",
    "Measured",
    "agreement",
    "average_accuracy",
    "backward_transfer",
    "bootstrap",
    "box_iou",
    "deletion",
    "duality_report",
    "energy_inside",
    "forgetting",
    "forward_transfer",
    "gini",
    "insertion",
    "localise",
    "measure",
    "occlusion_agreement",
    "pointing_game",
    "randomised",
    "shifted",
    "shuffled",
    "sparsity",
    "spearman",
    "threshold_boxes",
    "weight_randomisation",
]
