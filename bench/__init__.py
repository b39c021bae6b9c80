# SPDX-License-Identifier: Apache-2.0
"""Figures: how long something of ours takes, as a ratio to a floor or a peer that is timed in the same run.

    python -m bench [--only PREFIX] [--json FILE]

One module for each noun, one function for each figure; :mod:`bench.table` names them and says what each should reach.
Keys are real and generated, files are on a disk, nothing comes from a network.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

sys.path.append(str(ROOT / "tests"))  # the people, channels and devices are the simulators of the tests
