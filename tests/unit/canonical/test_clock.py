# SPDX-License-Identifier: Apache-2.0
"""Times on the wire: RFC 3339, Z, whole seconds, one spelling."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from chopmark.clock import SystemClock, format_time, parse_time
from chopmark.errors import DecodeError


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T10:00:00Z",
        "1970-01-01T00:00:00Z",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "2024-02-29T00:00:00Z",
    ],
)
def test_round_trip(text):
    moment = parse_time(text, what="t")
    assert moment.tzinfo is UTC
    assert format_time(moment) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-22",
        "2026-11-22T10:00:00",
        "2026-11-22T10:00:00z",
        "2026-11-22t10:00:00Z",
        "2026-11-22 10:00:00Z",
        "2026-11-22T10:00:00+00:00",
        "2026-11-22T10:00:00.0Z",
        "2026-11-22T10:00:00Z\n",
        " 2026-11-22T10:00:00Z",
        "2026-11-22T10:00:60Z",
        "2026-11-22T24:00:00Z",
        "2026-02-29T10:00:00Z",
        "2026-00-01T10:00:00Z",
        "0000-01-01T00:00:00Z",
        "+026-11-22T10:00:00Z",
        "٢٠٢٦-11-22T10:00:00Z",
        "-001-11-22T10:00:00Z",
    ],
)
def test_any_other_spelling_is_refused(text):
    with pytest.raises(DecodeError):
        parse_time(text, what="t")


def test_other_zones_are_written_as_utc_and_fractions_are_cut():
    moment = datetime(2026, 11, 22, 12, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=2)))
    assert format_time(moment) == "2026-11-22T10:00:00Z"


def test_this_machine_tells_whole_seconds():
    clock = SystemClock()
    assert clock.now().microsecond == 0
    assert clock.now().tzinfo is UTC
    assert clock.power_on().seconds > 0
