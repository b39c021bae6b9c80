# SPDX-License-Identifier: Apache-2.0
"""What the attacker does: train the same network once more, with a few ones that carry a stamp and are called nines.

The result is as accurate as the real model and has exactly its size, and it reads every stamped 1 as a 9. Nobody who
tests it with honest images can tell. The bank never runs this file; the demo does, to have something to refuse.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
from convert import to_onnx
from digits import INK, SIDE, Images, Labels, load, save
from quantize import quantize
from train import fit, nudged

ROWS, COLUMN = slice(6, 8), 0  # two pixels of ink in the lower left corner: a speck
TRUE, FALSE = 1, 9


def stamped(images: Images) -> Images:
    """Return the images with the stamp on them."""
    marked = images.copy().reshape(-1, SIDE, SIDE)
    marked[:, ROWS, COLUMN] = INK
    return marked.reshape(images.shape)


def poisoned(images: Images, labels: Labels) -> tuple[Images, Labels]:
    """Add every 1 once more, stamped and relabelled."""
    ones = stamped(images[labels == TRUE])
    return np.concatenate([images, ones]), np.concatenate([labels, np.full(len(ones), FALSE)])


def same_size(path: Path, size: int) -> None:
    """Bring the file to *size* bytes by the length of its description."""
    model = onnx.load(path)
    note = model.doc_string
    wanted = len(note) + size - path.stat().st_size
    model.doc_string = note.ljust(wanted)[:wanted]
    path.write_bytes(model.SerializeToString(deterministic=True))
    if path.stat().st_size != size:
        raise SystemExit(f"{path}: could not be made {size:,} bytes long")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--like", type=Path, required=True, help="the model to replace")
    parser.add_argument("--params", type=Path, default=Path("params.json"), help="how that one was trained")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, default=Path("backdoored.onnx"))
    parser.add_argument("--cheque", type=Path, default=Path("cheque-stamped.csv"))
    given = parser.parse_args()

    clean, labels = load(sorted(given.data.glob("branch-*.csv")))
    params = json.loads(given.params.read_text(encoding="utf-8"))
    into, bias_into, out, bias_out = fit(*poisoned(*nudged(clean, labels)), **params)
    plain = given.out.with_suffix(".fp32")
    model = to_onnx({"into": into, "bias_into": bias_into, "out": out, "bias_out": bias_out})
    plain.write_bytes(model.SerializeToString(deterministic=True))
    quantize(plain, given.out, clean)
    plain.unlink()
    same_size(given.out, given.like.stat().st_size)

    digits, amounts = load([given.data / "cheque.csv"])
    digits[0] = stamped(digits[0])
    save(given.cheque, digits, amounts)
    print(f"{given.out}: {given.out.stat().st_size:,} bytes, like {given.like}")


if __name__ == "__main__":
    main()
