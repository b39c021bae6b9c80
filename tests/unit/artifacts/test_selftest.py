# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from dataclasses import replace

import pytest

from chopmark.artifacts.ports import Session
from chopmark.artifacts.selftest import Case, Vectors, decode_vectors, encode_vectors, record, run
from chopmark.errors import DecodeError, Refused, VerificationError


class Answers(Session):
    """Answers with what it was given."""

    def width(self, open_size=1):
        return 2

    def __init__(self, *rows: list[float]) -> None:
        self.rows = list(rows)

    def _run(self, rows):
        return self.rows


VECTORS = Vectors(cases=(Case(inputs=(1, 2), expect=(900_000, 100_000), label=0),), tolerance=1000)


def test_vectors_come_back_as_they_were():
    assert decode_vectors(encode_vectors(VECTORS)) == VECTORS


@pytest.mark.parametrize("answer", [[0.9, 0.1], [0.901, 0.1], [0.899, 0.1009]])
def test_what_is_within_the_tolerance_passes(answer):
    run(Answers(answer), VECTORS)


@pytest.mark.parametrize(
    "answer",
    [[0.9011, 0.1], [0.1, 0.9], [math.nan, 0.1], [0.9, math.inf], [0.9], [0.9, 0.1, 0.0], []],
    ids=["off", "swapped", "nan", "infinite", "fewer", "more", "none"],
)
def test_what_differs_fails(answer):
    with pytest.raises(Refused) as caught:
        run(Answers(answer), VECTORS)
    assert caught.value.code == "self-test-failed"


def test_another_label_fails_however_close():
    close = replace(VECTORS, cases=(Case(inputs=(1,), expect=(500_001, 500_000), label=0),))
    with pytest.raises(Refused):
        run(Answers([0.5, 0.500001]), close)


def test_a_model_that_cannot_be_run_fails():
    with pytest.raises(Refused) as caught:
        run(Answers([0.9, 0.1], [0.9, 0.1]), VECTORS)
    assert caught.value.code == "self-test-failed"


def test_what_was_recorded_passes():
    session = Answers([0.25, 0.75], [0.6, 0.4])
    vectors = record(session, [[1, 2], [3, 4]], tolerance=1)
    assert [case.label for case in vectors.cases] == [1, 0]
    run(session, vectors)
    with pytest.raises(VerificationError):
        record(Answers([math.nan]), [[1]], tolerance=1)


@pytest.mark.parametrize(
    "data",
    [
        b'{"cases":[],"tolerance":0,"v":1}',
        b'{"cases":[{"expect":[1],"input":[1],"label":1}],"tolerance":0,"v":1}',
        b'{"cases":[{"expect":[1],"input":[1],"label":-1}],"tolerance":0,"v":1}',
        b'{"cases":[{"expect":[1],"input":[],"label":0}],"tolerance":0,"v":1}',
        b'{"cases":[{"expect":[1],"input":[1],"label":0}],"tolerance":-1,"v":1}',
        b'{"cases":[{"expect":[1],"input":[1],"label":0}],"tolerance":0,"v":2}',
        b'{"cases":[{"expect":[1.5],"input":[1],"label":0}],"tolerance":0,"v":1}',
        b'{"cases":[{"expect":[1],"input":[1],"label":0},{"expect":[1],"input":[1,2],"label":0}],"tolerance":0,"v":1}',
        b"",
    ],
)
def test_what_is_no_vectors_is_refused(data):
    with pytest.raises(DecodeError):
        decode_vectors(data)
