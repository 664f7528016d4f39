"""Can I show it? A photograph explained, a recording looked over: one self-contained page each, with the tests; and a worm that swims."""

from nissl.report.explaining import explain
from nissl.report.explanation import Explanation
from nissl.report.survey import Survey
from nissl.report.surveying import survey
from nissl.report.swimming import animate, draw_circuit, kymograph

__all__ = ["Explanation", "Survey", "animate", "draw_circuit", "explain", "kymograph", "survey"]
