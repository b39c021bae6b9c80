# SPDX-License-Identifier: Apache-2.0
"""Alerts in memory: for a program that embeds the fleet and tells people in its own way."""

from __future__ import annotations

from collections.abc import Mapping

from chopmark.fleet import AlertSink


class MemorySink(AlertSink):
    """Keeps findings in the order they came."""

    def __init__(self) -> None:
        self.findings: list[Mapping[str, object]] = []

    def _send(self, finding: Mapping[str, object]) -> None:
        self.findings.append(finding)
