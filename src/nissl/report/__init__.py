"""Can I show it? A photograph explained and tested, as one self-contained page."""

from nissl.report.explanation import Explanation, explain

__all__ = ["Explanation", "explain"]
