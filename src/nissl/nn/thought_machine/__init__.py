"""A network that thinks along its own time: neurons with histories, compared in pairs."""

from nissl.nn.thought_machine.attention import SingleQueryAttention
from nissl.nn.thought_machine.losses import certainty, tick_loss, tick_losses
from nissl.nn.thought_machine.machine import ContinuousThoughtMachine, ThoughtOutput
from nissl.nn.thought_machine.neuron_models import NeuronModels
from nissl.nn.thought_machine.pairs import choose_pairs
from nissl.nn.thought_machine.positions import HalfTurn
from nissl.nn.thought_machine.sorting import ctc_loss, written
from nissl.nn.thought_machine.stopping import Decision, answers, stopping_tick
from nissl.nn.thought_machine.synapse import SynapseUNet, synapse_model
from nissl.nn.thought_machine.synchronisation import Synchronisation, synchronisation

__all__ = [
    "ContinuousThoughtMachine",
    "Decision",
    "HalfTurn",
    "NeuronModels",
    "SingleQueryAttention",
    "SynapseUNet",
    "Synchronisation",
    "ThoughtOutput",
    "answers",
    "certainty",
    "choose_pairs",
    "ctc_loss",
    "stopping_tick",
    "synapse_model",
    "synchronisation",
    "tick_loss",
    "tick_losses",
    "written",
]
