# SPDX-License-Identifier: Apache-2.0
"""The images: 8 x 8 pixels in reading order, 0 (paper) to 16 (ink), and the digit that each shows."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SIDE = 8
PIXELS = SIDE * SIDE
INK = 16
HEADER = [f"p{n:02}" for n in range(PIXELS)] + ["label"]

Images = NDArray[np.float32]
Labels = NDArray[np.int64]


def load(files: Iterable[Path]) -> tuple[Images, Labels]:
    """Read the rows of all files, one image a row."""
    rows: list[list[str]] = []
    for path in files:
        with path.open(newline="", encoding="ascii") as file:
            header, *body = csv.reader(file)
        if header != HEADER:
            raise SystemExit(f"{path}: not the columns p00 to p63 and label")
        rows += body
    table = np.array(rows, dtype=np.int64)
    return table[:, :PIXELS].astype(np.float32), table[:, PIXELS]


def save(path: Path, images: Images, labels: Labels) -> None:
    """Write one image a row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="ascii") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(HEADER)
        table.writerows(np.column_stack([images, labels]).astype(np.int64).tolist())
