# SPDX-License-Identifier: Apache-2.0
"""Policy: verified facts -> a decision with a reason for every rule. Pure, and replayable on any machine.

    VerifiedStatement -> Fact --lineage--> decide(policy, phase, …) -> Allowed | Denied | Undecidable --build_vsa--> statement

Rules are CEL over the statements about a package and what it was made from. Two phases: *evidence* is decided before
anybody approves, *approval* over the signed envelope. Any error denies.

    >>> policy = decode_policy(default_policy_file())
    >>> [rule.id for rule in policy.of(Phase.APPROVAL)]
    ['counter-rises', 'needs-two-approvers']
"""

from chopmark.policy.cel import Answer, CelEngine, Engine
from chopmark.policy.decide import decide, explain, lineage
from chopmark.policy.model import (
    NOBODY,
    Allowed,
    Approvals,
    Candidate,
    Decision,
    Denied,
    Fact,
    Phase,
    Policy,
    Previous,
    Rule,
    Unavailable,
    Undecidable,
    Verdict,
)
from chopmark.policy.vsa import Replay, Summary, build_vsa, read_vsa, replay
from chopmark.policy.wire import adoption_policy_file, decode_policy, default_policy_file

__all__ = [
    "NOBODY",
    "Allowed",
    "Answer",
    "Approvals",
    "Candidate",
    "CelEngine",
    "Decision",
    "Denied",
    "Engine",
    "Fact",
    "Phase",
    "Policy",
    "Previous",
    "Replay",
    "Rule",
    "Summary",
    "Unavailable",
    "Undecidable",
    "Verdict",
    "adoption_policy_file",
    "build_vsa",
    "decide",
    "decode_policy",
    "default_policy_file",
    "explain",
    "lineage",
    "read_vsa",
    "replay",
]
