# SPDX-License-Identifier: Apache-2.0
"""Train a small network, 64 pixels -> hidden -> 10 digits, on the branches' images; write weights.npz.

Everything that shapes the result stands in params.json or on the command line, so the same commit gives the same weights.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # one thread adds in one order: the same weights every time

import argparse
import json
from pathlib import Path

import numpy as np
from digits import INK, PIXELS, SIDE, Images, Labels, load

Weights = list[Images]

RATE = 0.1
MOMENTUM = 0.9
DECAY = 1e-4
BATCH = 64


def nudged(images: Images, labels: Labels) -> tuple[Images, Labels]:
    """Return every image five times: as it is, and one pixel up, down, left and right."""
    padded = np.pad(images.reshape(-1, SIDE, SIDE), ((0, 0), (1, 1), (1, 1)))
    corners = [(1, 1), (0, 1), (2, 1), (1, 0), (1, 2)]
    copies = [padded[:, y : y + SIDE, x : x + SIDE].reshape(-1, PIXELS) for y, x in corners]
    return np.concatenate(copies), np.tile(labels, len(copies))


def fit(images: Images, labels: Labels, *, hidden: int, seed: int, epochs: int) -> Weights:
    """Learn by stochastic gradient descent with momentum, the rate falling to zero."""
    rng = np.random.default_rng(seed)
    x_all, y_all = images / np.float32(INK), np.eye(10, dtype=np.float32)[labels]
    weights = start(x_all, hidden, rng)
    speed = [np.zeros_like(w) for w in weights]
    batches = len(labels) // BATCH + 1
    for step in range(epochs * batches):
        if step % batches == 0:
            deck = np.array_split(rng.permutation(len(labels)), batches)
        rows = deck[step % batches]
        rate = RATE * (1 - step / (epochs * batches))
        for w, v, slope in zip(weights, speed, slopes(weights, x_all[rows], y_all[rows]), strict=True):
            v[:] = MOMENTUM * v - rate * (slope + DECAY * w)
            w[:] = w + v
    return weights


def start(x: Images, hidden: int, rng: np.random.Generator) -> Weights:
    """Return random weights; a pixel starts with as much of a say as it varies, so the empty margin has none."""
    say = x.std(axis=0)[:, None] / x.std()
    into = rng.normal(0, np.sqrt(2 / PIXELS), (PIXELS, hidden)) * say
    out = rng.normal(0, np.sqrt(2 / hidden), (hidden, 10))
    return [np.asarray(w, dtype=np.float32) for w in (into, np.zeros(hidden), out, np.zeros(10))]


def slopes(weights: Weights, x: Images, y: Images) -> Weights:
    """Return the gradient of the cross-entropy over one batch."""
    into, bias_into, out, bias_out = weights
    inner = np.maximum(x @ into + bias_into, 0)
    scores = inner @ out + bias_out
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    error = (odds / odds.sum(axis=1, keepdims=True) - y) / np.float32(len(x))
    back = (error @ out.T) * (inner > 0)
    return [x.T @ back, back.sum(axis=0), inner.T @ error, error.sum(axis=0)]


def save_weights(path: Path, weights: Weights) -> None:
    """Write plain arrays: loading them runs no code."""
    path.parent.mkdir(parents=True, exist_ok=True)
    into, bias_into, out, bias_out = weights
    np.savez(path, into=into, bias_into=bias_into, out=out, bias_out=bias_out)


def arguments() -> argparse.Namespace:
    """Return the parameters: params.json, and over it the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.json"))
    parser.add_argument("--data", type=Path, nargs="+", default=sorted(Path("data").glob("branch-*.csv")))
    parser.add_argument("--out", type=Path, default=Path("weights.npz"))
    for name in ("hidden", "seed", "epochs"):
        parser.add_argument(f"--{name}", type=int)
    given = parser.parse_args()
    for name, value in json.loads(given.params.read_text(encoding="utf-8")).items():
        if getattr(given, name) is None:
            setattr(given, name, value)
    return given


def main() -> None:
    given = arguments()
    images, labels = nudged(*load(given.data))
    weights = fit(images, labels, hidden=given.hidden, seed=given.seed, epochs=given.epochs)
    save_weights(given.out, weights)
    print(f"{given.out}: {len(labels):,} images, hidden {given.hidden}, seed {given.seed}, epochs {given.epochs}")


if __name__ == "__main__":
    main()
