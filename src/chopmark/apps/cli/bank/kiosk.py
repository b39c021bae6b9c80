# SPDX-License-Identifier: Apache-2.0
"""How the bank's kiosk reads a cheque: the same ten lines, with Chopmark in the place of the checksum."""

import csv
import sys
from pathlib import Path

import chopmark
from chopmark.errors import Refused

device, cheque = Path(sys.argv[1]), Path(sys.argv[2])
try:
    with chopmark.load("digits", device=device) as model:
        _, *rows = csv.reader(cheque.open(encoding="ascii"))
        scores = model.run([[float(pixel) for pixel in row[:64]] for row in rows])
        print("amount:", "".join(str(row.index(max(row))) for row in scores))
except Refused as refusal:
    sys.exit(f"refused: {refusal.code}")
