# SPDX-License-Identifier: Apache-2.0
"""Releases: the desired state in Git, and how it changes.

    propose -> approve (k owners) -> check -> merge -> desired -> plan -> (published)    withdraw: back to a named fallback

People edit one file, ``models/<name>.yaml``; what approvers sign is generated from it. Policy decides twice, over the
evidence before anybody approves and over the signed envelope, and both decisions are logged. A rollback is a release.

A workspace (:class:`Workspace`) is the folder that all parts of it are found in.
"""

from chopmark.release.approve import Approval, approve, approve_again
from chopmark.release.check import Checked, Merge, check, merge
from chopmark.release.desired import desired, plan
from chopmark.release.gate import Gate, gather
from chopmark.release.history import allowed_signers, verify_range
from chopmark.release.model import (
    DEFAULT_POLICY,
    MAIN,
    ApprovedRelease,
    Change,
    Channel,
    Desired,
    Draft,
    ModelRelease,
    Plan,
    Ring,
)
from chopmark.release.ports import Commit, Committer, EvidenceSource, GitHost, StatementLog
from chopmark.release.propose import Proposal, branch_name, propose
from chopmark.release.repository import read_model, read_policy
from chopmark.release.status import (
    Condition,
    ConditionType,
    OperatorStatus,
    applied,
    encode_status,
    failed,
)
from chopmark.release.wire import (
    decode_channel,
    decode_model_release,
    empty_channel,
    encode_channel,
    encode_model_release,
)
from chopmark.release.withdraw import Withdrawal, WithdrawalPlan, plan_withdrawal, withdraw
from chopmark.release.workspace import Workspace, open_workspace

__all__ = [
    "DEFAULT_POLICY",
    "MAIN",
    "Approval",
    "ApprovedRelease",
    "Change",
    "Channel",
    "Checked",
    "Commit",
    "Committer",
    "Condition",
    "ConditionType",
    "Desired",
    "Draft",
    "EvidenceSource",
    "Gate",
    "GitHost",
    "Merge",
    "ModelRelease",
    "OperatorStatus",
    "Plan",
    "Proposal",
    "Ring",
    "StatementLog",
    "Withdrawal",
    "WithdrawalPlan",
    "Workspace",
    "allowed_signers",
    "applied",
    "approve",
    "approve_again",
    "branch_name",
    "check",
    "decode_channel",
    "decode_model_release",
    "desired",
    "empty_channel",
    "encode_channel",
    "encode_model_release",
    "encode_status",
    "failed",
    "gather",
    "merge",
    "open_workspace",
    "plan",
    "plan_withdrawal",
    "propose",
    "read_model",
    "read_policy",
    "verify_range",
    "withdraw",
]
