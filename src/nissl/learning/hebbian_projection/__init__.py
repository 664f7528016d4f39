"""Hebbian learning based orthogonal projection: learning task after task without forgetting."""

from nissl.learning.hebbian_projection.feedback import ErrorFeedback
from nissl.learning.hebbian_projection.projector import HebbianProjection
from nissl.learning.hebbian_projection.subspace import HebbianSubspace
from nissl.learning.hebbian_projection.tasks import Task, check_tasks, permuted_tasks
from nissl.learning.hebbian_projection.trainer import ContinualTrainer

__all__ = [
    "ContinualTrainer",
    "ErrorFeedback",
    "HebbianProjection",
    "HebbianSubspace",
    "Task",
    "check_tasks",
    "permuted_tasks",
]
