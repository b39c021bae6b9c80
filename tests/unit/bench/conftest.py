# SPDX-License-Identifier: Apache-2.0
"""``bench`` stands at the top of the checkout, where ``python -m bench`` finds it; here it has to be said."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3]))
