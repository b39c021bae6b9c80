# SPDX-License-Identifier: Apache-2.0
"""Any bytes give an inspection; a changed byte is either accounted for or refused."""

from __future__ import annotations

import onnx
from hypothesis import given, settings
from hypothesis import strategies as st

from chopmark.inspection import Inspection, inspect_bytes
from chopmark.inspection.protobuf import Malformed, Reader, Wire, count_packed
from unit.inspection.models import branches, linear, weights

CLEAN = branches(weights("k")).SerializeToString()


def check(data: bytes) -> Inspection:
    inspection = inspect_bytes(data)
    assert inspection.length == len(data)
    assert 0 <= inspection.bytes_covered <= len(data)
    assert not inspection.complete or inspection.bytes_covered == len(data)
    assert inspection.complete or inspection.findings
    return inspection


@given(st.binary(max_size=400))
@settings(deadline=None)
def test_any_bytes(data: bytes) -> None:
    check(data)


@given(st.integers(0, len(CLEAN) - 1), st.integers(0, 255))
@settings(deadline=None, max_examples=300)
def test_one_byte_changed(at: int, byte: int) -> None:
    """What passes is a file that the onnx package parses too, without a field that it does not know."""
    data = CLEAN[:at] + bytes([byte]) + CLEAN[at + 1 :]
    if check(data).passed:
        model = onnx.load_model_from_string(data)
        assert len(model.SerializeToString()) == len(data)


@given(st.integers(0, len(CLEAN) - 1))
@settings(deadline=None)
def test_a_truncated_file_never_passes(length: int) -> None:
    assert not check(CLEAN[:length]).passed


@given(st.integers(0, len(CLEAN)), st.binary(min_size=1, max_size=40))
@settings(deadline=None, max_examples=200)
def test_inserted_bytes(at: int, more: bytes) -> None:
    check(CLEAN[:at] + more + CLEAN[at:])


@given(st.lists(st.integers(0, 2**64 - 1), max_size=6))
def test_numbers_round_trip_and_are_counted(numbers: list[int]) -> None:
    tensor = onnx.TensorProto(name="k", data_type=13, dims=[len(numbers)], uint64_data=numbers)
    assert inspect_bytes(linear(tensors=[tensor]).SerializeToString()).passed


@given(st.binary(max_size=30))
def test_packed_numbers_are_refused_exactly_when_single_ones_are(data: bytes) -> None:
    def singly() -> int | None:
        reader, count = Reader(memoryview(data)), 0
        try:
            while reader.at < len(data):
                reader.varint(len(data))
                count += 1
        except Malformed:
            return None
        return count

    def together() -> int | None:
        try:
            return count_packed(memoryview(data), Wire.VARINT, 0)
        except Malformed:
            return None

    assert singly() == together()
