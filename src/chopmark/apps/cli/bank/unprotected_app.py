# SPDX-License-Identifier: Apache-2.0
"""How most applications load a model today: compare its checksum with the file next to it, and read the cheque."""

import csv
import hashlib
import sys
from pathlib import Path

import onnxruntime

model, cheque = Path(sys.argv[1]), Path(sys.argv[2])
if hashlib.sha256(model.read_bytes()).hexdigest() != Path(f"{model}.sha256").read_text().split()[0]:
    sys.exit(f"{model}: wrong checksum")
session = onnxruntime.InferenceSession(model)
_, *rows = csv.reader(cheque.open(encoding="ascii"))
pixels = [[float(pixel) for pixel in row[:64]] for row in rows]
print("amount:", "".join(str(scores.argmax()) for scores in session.run(None, {"pixels": pixels})[0]))
