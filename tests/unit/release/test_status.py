# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from datetime import timedelta

from chopmark.errors import UndecidedError, VerificationError
from chopmark.release import ConditionType, OperatorStatus, applied, encode_status, failed
from chopmark.release.status import decode_status
from simulators.trust import NOW

LATER = NOW + timedelta(minutes=5)


def shown(status: OperatorStatus) -> dict[str, tuple[str, str, str]]:
    conditions = json.loads(encode_status(status))["conditions"]
    return {c["type"]: (c["status"], c["reason"], c["lastTransitionTime"]) for c in conditions}


def test_from_failure_to_applied() -> None:
    waiting = failed(OperatorStatus(), "a" * 40, UndecidedError("later"), now=NOW)
    assert shown(waiting)["Ready"][0] == "False"
    done = applied(waiting, "a" * 40, now=LATER, message="published")
    assert shown(done) == {"Ready": ("True", "Applied", "2026-11-22T10:05:00Z")}
    assert (done.observed_generation, done.last_applied_revision) == (1, "a" * 40)
    assert decode_status(encode_status(done)) == done


def test_a_no_stalls_and_an_inability_is_tried_again() -> None:
    before = applied(OperatorStatus(), "a" * 40, now=NOW, message="published")
    denied = failed(before, "b" * 40, VerificationError("no", code="history-rewritten"), now=LATER)
    assert shown(denied)["Stalled"][:2] == ("True", "HistoryRewritten")
    assert shown(denied)["Ready"][0] == "False"
    assert (denied.last_applied_revision, denied.last_attempted_revision) == ("a" * 40, "b" * 40)
    assert (denied.observed_generation, before.observed_generation) == (2, 1)
    waiting = failed(denied, "b" * 40, UndecidedError("later"), now=LATER + timedelta(minutes=5))
    assert waiting.condition(ConditionType.STALLED) is None
    assert shown(waiting)["Ready"] == ("False", "Undecided", "2026-11-22T10:05:00Z"), "it has been so since then"
    assert waiting.observed_generation == 2
