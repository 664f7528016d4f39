"""What did it do? Recording activity, keeping it on disk, and finding what drives each unit."""

from nissl.activity.record import record
from nissl.activity.store import Store
from nissl.activity.top_examples import TopExamples, top_examples

__all__ = ["Store", "TopExamples", "record", "top_examples"]
