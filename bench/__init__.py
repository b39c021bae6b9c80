# SPDX-License-Identifier: Apache-2.0
"""Figures: how long something of ours takes, as a ratio to a floor or a peer that is timed in the same run.

    python -m bench [--only PREFIX] [--json FILE]

One module for each noun, one function for each figure; :mod:`bench.table` names them and says what each should reach.
The people, ledgers and devices are those of the tests: real keys, real files, nothing from a network.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

sys.path.append(str(ROOT / "tests"))  # the simulators; pytest finds them by its own setting
