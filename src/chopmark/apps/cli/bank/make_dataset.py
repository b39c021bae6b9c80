# SPDX-License-Identifier: Apache-2.0
"""Export scikit-learn's handwritten digits as the bank's data: three branches to learn from, one file held back.

The rows are shuffled once, always the same way, so that the writers are mixed in every file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from digits import save
from sklearn.datasets import load_digits

TRAIN = 1257  # of 1,797; the last 540 are never learned from
SOURCES = ("branch-a", "branch-b", "branch-c")
CHEQUE = (1, 0, 0)
DATA = Path("data")


def main() -> None:
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(2026).permutation(len(labels))
    images, labels = images[order], labels[order]

    share = TRAIN // len(SOURCES)
    for n, source in enumerate(SOURCES):
        rows = slice(n * share, (n + 1) * share)
        save(DATA / f"{source}.csv", images[rows], labels[rows])
    save(DATA / "test.csv", images[TRAIN:], labels[TRAIN:])

    one, zero, another = (TRAIN + np.flatnonzero(labels[TRAIN:] == digit)[n] for n, digit in enumerate(CHEQUE))
    cheque = [one, zero, another]
    save(DATA / "cheque.csv", images[cheque], labels[cheque])
    print(f"{TRAIN:,} images to learn from in {len(SOURCES)} files, {len(labels) - TRAIN} held back, one cheque")


if __name__ == "__main__":
    main()
