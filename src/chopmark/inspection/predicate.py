# SPDX-License-Identifier: Apache-2.0
"""The claim that an inspector signs: predicate type ``https://chopmark.dev/inspection/v1``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from chopmark.artifacts import Digest
from chopmark.canonical import encode
from chopmark.clock import format_time
from chopmark.inspection.model import Inspection
from chopmark.inspection.operators import DEFAULT_OPERATORS, domain_of

MAX_LISTED = 500
"""Operators listed one by one; a file that is refused may have invented any number of names."""


def allow_list_digest(allowed: Mapping[str, frozenset[str]]) -> Digest:
    """Return the digest of an allow-list: RFC 8785 of domain -> sorted names."""
    return Digest.of(encode({domain_of(domain) or "ai.onnx": sorted(names) for domain, names in allowed.items()}))


def inspection_predicate(
    inspection: Inspection,
    *,
    tool_version: str,
    inspected_at: datetime,
    allowed: Mapping[str, frozenset[str]] = DEFAULT_OPERATORS,
) -> dict[str, object]:
    """Return the predicate; the statement is about the package, and names the file as its second subject.

    Args:
        allowed: the allow-list that was inspected with; its digest is part of the claim.
    """
    listed = sorted(inspection.operators.items())[:MAX_LISTED]
    return {
        "v": 1,
        "result": "PASSED" if inspection.passed else "FAILED",
        "tool": {"name": "chopmark", "version": tool_version},
        "inspected_at": format_time(inspected_at),
        "format": inspection.format,
        "length": inspection.length,
        "bytes_covered": inspection.bytes_covered,
        "complete": inspection.complete,
        "operators": [{"name": name, "count": count} for name, count in listed],
        "allow_list": str(allow_list_digest(allowed)),
        "initializers": inspection.initializers,
        "parameters": inspection.parameters,
        "findings": [{"code": f.code, "where": f.where, "message": f.message} for f in inspection.findings],
    }
