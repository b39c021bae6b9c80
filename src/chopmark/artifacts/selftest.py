# SPDX-License-Identifier: Apache-2.0
"""Self-test vectors: what an approved model computed, so that a device can tell whether it computes the same.

    {"v":1,"cases":[{"input":[0,16,3],"expect":[981200,18800],"label":0}],"tolerance":2000}

Inputs are whole numbers, given to the model as they are; ``expect`` and ``tolerance`` are millionths. A case passes
when every output is within the tolerance and the largest output is the one numbered ``label``. This finds a runtime or a
processor that computes something else; it says nothing about how good the model is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chopmark import canonical
from chopmark.artifacts.ports import Session
from chopmark.errors import DecodeError, Refused, UsageError, VerificationError

SELF_TEST_FILE: Final = "self-test.json"
"""Its name in a package; a release envelope names its digest."""

MAX_VECTORS_BYTES: Final = 4 * 1024 * 1024
MAX_CASES: Final = 1000
MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One input with the outputs it had when approved.

    Attributes:
        inputs: whole numbers, one for each input of the model.
        expect: millionths, one for each output.
        label: index of the largest output.
    """

    inputs: tuple[int, ...]
    expect: tuple[int, ...]
    label: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """Cases, and how far an output may be off, in millionths."""

    cases: tuple[Case, ...]
    tolerance: int


class _Case(canonical.Strict, frozen=True, kw_only=True):
    input: list[int]
    expect: list[int]
    label: int


class _Vectors(canonical.Strict, frozen=True, kw_only=True):
    v: int
    cases: list[_Case]
    tolerance: int


def decode_vectors(data: bytes) -> Vectors:
    """Read ``self-test.json``.

    Raises:
        DecodeError: not such a file: no case, rows of different lengths, a label that is no output.
    """
    wire = canonical.decode_as(data, _Vectors, what=SELF_TEST_FILE, max_bytes=MAX_VECTORS_BYTES)
    if wire.v != 1 or not 0 < len(wire.cases) <= MAX_CASES or wire.tolerance < 0:
        raise DecodeError(f"{SELF_TEST_FILE}: an unknown version, no case or too many, or a tolerance below zero")
    if len({(len(case.input), len(case.expect)) for case in wire.cases}) != 1:
        raise DecodeError(f"{SELF_TEST_FILE}: cases of different lengths")
    if not wire.cases[0].input or any(not 0 <= case.label < len(case.expect) for case in wire.cases):
        raise DecodeError(f"{SELF_TEST_FILE}: an empty input, or a label that is no output")
    return Vectors(
        cases=tuple(Case(inputs=tuple(case.input), expect=tuple(case.expect), label=case.label) for case in wire.cases),
        tolerance=wire.tolerance,
    )


def encode_vectors(vectors: Vectors) -> bytes:
    """Return the bytes of ``self-test.json``."""
    return canonical.encode(
        {
            "v": 1,
            "cases": [
                {"input": list(case.inputs), "expect": list(case.expect), "label": case.label} for case in vectors.cases
            ],
            "tolerance": vectors.tolerance,
        }
    )


def record(session: Session, inputs: Sequence[Sequence[int]], *, tolerance: int) -> Vectors:
    """Return vectors of what *session* computes now.

    Args:
        tolerance: millionths; as much as runtimes that are both right may differ.

    Raises:
        UsageError: no inputs.
        VerificationError: the model cannot compute them, or an output is no number.
    """
    outputs = session.run([[float(number) for number in row] for row in inputs])
    if any(not math.isfinite(number) for row in outputs for number in row) or not all(outputs):
        raise VerificationError("the model answers with something that is no number", code="model-not-runnable")
    cases = tuple(
        Case(
            inputs=tuple(row),
            expect=tuple(round(number * MILLION) for number in output),
            label=output.index(max(output)),
        )
        for row, output in zip(inputs, outputs, strict=True)
    )
    return Vectors(cases=cases, tolerance=tolerance)


def run(session: Session, vectors: Vectors) -> None:
    """Step 16: check that *session* computes what the vectors say.

    Raises:
        Refused: ``self-test-failed``, with the first case that differs.
    """
    try:
        outputs = session.run([[float(number) for number in case.inputs] for case in vectors.cases])
    except (VerificationError, UsageError) as error:
        raise Refused("self-test-failed", error.message, evidence=error.evidence) from error
    for number, (case, output) in enumerate(zip(vectors.cases, outputs, strict=True)):
        difference = _difference(case, output)
        # Written so that a NaN fails: it is neither smaller nor larger than anything.
        if not difference <= vectors.tolerance or output.index(max(output)) != case.label:
            raise Refused(
                "self-test-failed",
                f"case {number} of {len(vectors.cases)} is off by {difference:,.0f} millionths, or has another label",
                evidence={"case": number, "label": case.label, "tolerance": vectors.tolerance},
            )


def _difference(case: Case, output: Sequence[float]) -> float:
    """Return the largest difference in millionths; infinite where it cannot be said."""
    if len(output) != len(case.expect) or not all(math.isfinite(number) for number in output):
        return math.inf
    return max(abs(number * MILLION - wanted) for number, wanted in zip(output, case.expect, strict=True))
