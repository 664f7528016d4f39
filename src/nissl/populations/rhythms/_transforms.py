"""scipy's Fourier transforms, whose type stubs know no arrays."""

from __future__ import annotations

from typing import Any

import scipy.fft

fft: Any = scipy.fft
