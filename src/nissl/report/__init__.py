"""Can I show it? A photograph explained and tested, as one self-contained page."""

from nissl.report.explaining import explain
from nissl.report.explanation import Explanation

__all__ = ["Explanation", "explain"]
