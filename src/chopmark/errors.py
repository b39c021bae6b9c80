# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, what it is called, and what a caller does next.

    ChopmarkError
     ├─ UsageError          exit 2   the call is wrong: a missing file, a bad option, a dirty tree
     ├─ VerificationError   exit 1   something was checked and is not so
     │   ├─ DecodeError              bytes that are not what they claim to be
     │   └─ Refused                  a named failure of the trust protocol (docs/concepts/trust.md)
     ├─ UndecidedError      exit 3   it could not be decided: network, a missing key, a lock
     │   └─ MovedError               somebody else was faster: look again at once
     └─ InternalError       exit 4   a fault of ours

Every error carries a stable ``code``, a ``hint`` (what to do next) and the ``evidence`` a caller needs to show or keep.
Untrusted bytes never leak ``ValueError`` or ``KeyError``: a decoder ends in success or in one of these.

A loop asks ``error.retry``: ``STALL`` waits for a human, ``WAIT`` comes back later, ``RETRY`` tries again at once with back-off.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar


class Retry(Enum):
    """What a loop does with an error."""

    STALL = "stall"
    WAIT = "wait"
    RETRY = "retry"


class ChopmarkError(Exception):
    """The root. Only ``apps/cli`` turns it into an exit code."""

    code: str = "internal"
    exit_code: ClassVar[int] = 4
    retry: ClassVar[Retry] = Retry.STALL
    default_hint: ClassVar[str] = ""

    def __init__(
        self, message: str, *, code: str | None = None, hint: str = "", evidence: Mapping[str, object] | None = None
    ) -> None:
        self.message = printable(message)
        super().__init__(self.message)
        self.hint = printable(hint or self.default_hint)
        self.evidence: Mapping[str, object] = dict(evidence or {})
        if code is not None:
            self.code = code


def printable(text: str) -> str:
    """Return *text* without control characters: parts of it may come from whoever we talk to, and end in a terminal."""
    return "".join(char if char.isprintable() or char == "\n" else "�" for char in text)


def one_line(text: str) -> str:
    """As :func:`printable`, without ends of lines: for a name or a reason that stands among lines which people believe."""
    return printable(text).replace("\n", "�")


class UsageError(ChopmarkError):
    """The call cannot be carried out as given; nothing was done."""

    code = "usage"
    exit_code = 2


class VerificationError(ChopmarkError):
    """Something was checked and is not so."""

    code = "not-verified"
    exit_code = 1


class DecodeError(VerificationError):
    """Bytes that are not what they claim to be: truncated, oversized, not canonical, an unknown member."""

    code = "undecodable"
    default_hint = "it is damaged, cut short or something else: get it anew from whoever made it"


class UndecidedError(ChopmarkError):
    """Neither yes nor no could be found out; trying later may help."""

    code = "undecided"
    exit_code = 3
    retry = Retry.WAIT


class MovedError(UndecidedError):
    """Somebody else was faster; nothing was changed, and looking again at once helps."""

    code = "moved"
    retry = Retry.RETRY


class InternalError(ChopmarkError):
    """A fault of this program; the message is for its authors."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One named failure of the protocol: the step that finds it, its meaning, and what to do."""

    step: int
    meaning: str
    hint: str


FAILURES: Mapping[str, Failure] = {
    "state-corrupt": Failure(
        1, "the device's state file does not carry its own key's MAC", "let one refresh complete; the pin is kept"
    ),
    "state-restored": Failure(
        1,
        "the state is older than the hardware counter remembers",
        "let one refresh complete; look for who restored it",
    ),
    "root-untrusted": Failure(
        2, "a root is not signed by the old and the new rule, or skips a version", "compare with the root owners' copy"
    ),
    "trust-mismatch": Failure(
        3, "trust.json is not the file that root names", "publish the trust.json that root names"
    ),
    "root-expired": Failure(4, "the newest root has expired", "the root owners sign a new version"),
    "channel-untrusted": Failure(
        5, "the timestamp or snapshot is not signed by the operator", "look for who serves the channel"
    ),
    "channel-rollback": Failure(5, "an older channel is served again", "look for who serves the channel"),
    "channel-expired": Failure(
        5, "the channel's timestamp has expired", "start the operator again, or check the clock"
    ),
    "channel-mixed": Failure(
        6, "files of different publications are served together", "publish again; look at the mirror"
    ),
    "log-unproven": Failure(
        7,
        "the publication is not proven to be in the ledger",
        "publish again, or get the proof again: `chopmark ledger proof`",
    ),
    "log-unwitnessed": Failure(7, "too few witnesses saw this ledger", "start the witnesses; publish again"),
    "log-rollback": Failure(7, "a smaller ledger than the one seen before", "ask the ledger for its newest proof"),
    "log-fork": Failure(
        7, "two different ledgers of one size: history was rewritten", "keep both checkpoints; call security"
    ),
    "status-untrusted": Failure(8, "the status is not signed by the security owners", "ask the security host"),
    "status-rollback": Failure(8, "an older status, or one that takes a revocation back", "ask the security host"),
    "status-stale": Failure(
        8, "the status is too old to load models on", "check the security host, the network, the clock"
    ),
    "targets-untrusted": Failure(
        9, "the channel file or its delegation is not trusted", "look for who serves the channel"
    ),
    "release-unapproved": Failure(
        11, "too few approvers signed this release", "release it properly: `chopmark release propose`"
    ),
    "release-misdirected": Failure(
        12,
        "the release is for another workspace, model, channel or runtime",
        "assign the release that was approved for it",
    ),
    "release-revoked": Failure(13, "the release was revoked, or its epoch is below the floor", "roll forward or back"),
    "release-rollback": Failure(
        13, "an older release than the newest seen, and none of its fallbacks", "name it as a fallback, with approval"
    ),
    "release-conflict": Failure(13, "two releases carry one counter", "raise the counter of the newer one"),
    "release-unassigned": Failure(13, "an approved release, but not the one assigned here", "let the device refresh"),
    "package-incomplete": Failure(14, "a file that the manifest lists is missing", "let the device refresh"),
    "package-altered": Failure(
        14, "a file differs from the manifest, or is not in it", "undo the change, or let it refresh"
    ),
    "key-refused": Failure(15, "the content key was not released to this device", "see the device's appraisal"),
    "seal-broken": Failure(
        15, "the sealed package does not decrypt to its plaintext manifest", "let the device refresh"
    ),
    "self-test-failed": Failure(
        16, "the model does not compute what it computed when approved", "compare the runtimes"
    ),
}
"""The failures of the protocol, by name; ``docs/reference/failures.md`` is generated from this table."""


class Refused(VerificationError):
    """A named failure of the trust protocol; its ``code`` is a key of :data:`FAILURES`."""

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        hint: str = "",
        evidence: Mapping[str, object] | None = None,
        step: int | None = None,
    ) -> None:
        """Name a failure.

        Args:
            step: where another step than the failure's own found it: the status is looked at again at load.
        """
        failure = FAILURES[code]
        super().__init__(message or failure.meaning, code=code, hint=hint or failure.hint, evidence=evidence)
        self.step = failure.step if step is None else step


def spoken(error: ChopmarkError) -> list[str]:
    """Return *error* as a loop says it: what it is, and what to do next."""
    return [f"{error.code}: {error.message}", *([f"hint: {error.hint}"] if error.hint else [])]


@contextmanager
def foreign(
    kind: type[ChopmarkError], message: str, *, code: str, hint: str = "", quote: bool = False
) -> Iterator[None]:
    """Turn whatever an adapter raises into *kind*; errors of ours pass. Every port guards its methods with it.

    Args:
        message: what was not done; the foreign error's name follows it.
        quote: the beginning of what the foreign error says follows too. Not where it may name what nobody should read.
    """
    try:
        yield
    except ChopmarkError:
        raise
    except Exception as error:
        said = f": {str(error)[:200]}" if quote else ""
        raise kind(f"{message} ({type(error).__name__}{said})", code=code, hint=hint) from error
