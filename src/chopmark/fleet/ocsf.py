# SPDX-License-Identifier: Apache-2.0
"""A refusal as an OCSF Detection Finding (class 2004, schema 1.3.0): what every SIEM can take in. Pure.

One refusal is one finding: its ``finding_info.uid`` is stable, so that a finding told twice is known as one.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from chopmark.fleet.model import Refusal

OCSF_VERSION: Final = "1.3.0"
CLASS_UID: Final = 2004
_CREATE: Final = 1
_FINDINGS: Final = 2
_NEW: Final = 1
_SEVERITIES: Final = {3: "Medium", 4: "High", 5: "Critical"}

_CRITICAL: Final = frozenset({"device-cloned", "log-fork", "log-rollback", "root-untrusted"})
"""Somebody holds a key or rewrote history: more than this device is concerned."""
_MEDIUM: Final = frozenset(
    {
        "channel-expired",
        "channel-mixed",
        "clock-off",
        "key-refused",
        "log-unwitnessed",
        "package-incomplete",
        "release-unassigned",
        "root-expired",
        "status-stale",
    }
)
"""As often neglect as attack."""


def severity(code: str) -> int:
    """Return OCSF's severity_id for a failure: 3, 4 or 5."""
    if code in _CRITICAL:
        return 5
    return 3 if code in _MEDIUM else 4


def detection_finding(refusal: Refusal, *, device_name: str, workspace: str, version: str) -> dict[str, object]:
    """Return *refusal* as the JSON object of a Detection Finding.

    Args:
        version: of this product.
    """
    level = severity(refusal.code)
    about = f" {refusal.model}" if refusal.model else ""
    title = f"{refusal.code}:{about} on {device_name}"
    return {
        "activity_id": _CREATE,
        "activity_name": "Create",
        "category_uid": _FINDINGS,
        "category_name": "Findings",
        "class_uid": CLASS_UID,
        "class_name": "Detection Finding",
        "type_uid": CLASS_UID * 100 + _CREATE,
        "type_name": "Detection Finding: Create",
        "time": _milliseconds(refusal.first),
        "severity_id": level,
        "severity": _SEVERITIES[level],
        "status_id": _NEW,
        "status": "New",
        "status_code": refusal.code,
        "status_detail": f"step {refusal.step}: {refusal.message}",
        "message": f"{title}: {refusal.message}",
        "count": refusal.count,
        "metadata": {
            "version": OCSF_VERSION,
            "uid": f"{workspace}/{refusal.id}",
            "tenant_uid": workspace,
            "product": {"name": "Chopmark", "vendor_name": "Chopmark", "version": version},
        },
        "finding_info": {
            "uid": f"{workspace}/{refusal.id}",
            "title": title,
            "desc": refusal.message,
            "types": [refusal.code],
            "created_time": _milliseconds(refusal.first),
            "first_seen_time": _milliseconds(refusal.first),
            "last_seen_time": _milliseconds(refusal.last),
            "data_sources": ["device report"],
        },
        "resources": _resources(refusal, device_name),
        "evidences": [{"name": "signed device report", "data": _evidence(refusal)}],
        "remediation": {"desc": refusal.hint or "see `chopmark why " + refusal.id + "`"},
    }


def _resources(refusal: Refusal, device_name: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = [{"uid": refusal.device, "name": device_name, "type": "device"}]
    if refusal.model:
        model: dict[str, object] = {"name": refusal.model, "type": "model"}
        if refusal.release is not None:
            model["uid"] = str(refusal.release)
        found.append(model)
    return found


def _evidence(refusal: Refusal) -> dict[str, object]:
    data: dict[str, object] = {
        "refusal": refusal.id,
        "code": refusal.code,
        "step": refusal.step,
        "topic": refusal.topic,
        "report": str(refusal.report),
        "facts": dict(refusal.facts),
    }
    if refusal.slot:
        data["slot"] = refusal.slot
    for name, digest in (("release", refusal.release), ("running", refusal.running)):
        if digest is not None:
            data[name] = str(digest)
    return data


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000
