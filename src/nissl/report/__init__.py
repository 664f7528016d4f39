"""Can I show it? A photograph explained, a recording looked over: one self-contained page each, with the tests."""

from nissl.report.explaining import explain
from nissl.report.explanation import Explanation
from nissl.report.survey import Survey
from nissl.report.surveying import survey

__all__ = ["Explanation", "Survey", "explain", "survey"]
