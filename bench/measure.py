# SPDX-License-Identifier: Apache-2.0
"""Time two things in turns, and say how the one compares with the other.

A machine that does other work slows both sides alike when they take turns, so the ratio is the claim and an absolute time
is context. What changes state (an append) is given as an iterator of ready-made calls' arguments by the caller.
"""

from __future__ import annotations

import gc
import operator
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

ROUNDS = 9
_UNITS_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6}
_MEETS = {"≤": operator.le, "≥": operator.ge}
