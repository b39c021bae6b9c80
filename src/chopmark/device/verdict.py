# SPDX-License-Identifier: Apache-2.0
"""What a device finds out about a model: verified, or refused with a name. Both are values; neither is an exception."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chopmark.artifacts import Digest
from chopmark.channel import Release
from chopmark.errors import Refused, printable


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The package in *slot* is *release*, whole, approved and not revoked."""

    model: str
    slot: str
    release: Release


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a model is not loaded, or a release not installed.

    Attributes:
        model: "" where a refresh failed before it looked at any model.
        slot: ``A``, ``B``, or "" where no slot was looked at.
        release: the release that was judged, as far as it was known.
        code: the failure's name; *step* of the protocol that found it.
        evidence: what was compared.
    """

    model: str
    slot: str
    release: Digest | None
    code: str
    step: int
    message: str
    hint: str = ""
    evidence: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, error: Refused, *, model: str = "", slot: str = "", release: Digest | None = None) -> Refusal:
        """Return the refusal that *error* names."""
        return cls(
            model=model,
            slot=slot,
            release=release,
            code=error.code,
            step=error.step,
            message=one_line(error.message),
            hint=error.hint,
            evidence=error.evidence,
        )

    def error(self) -> Refused:
        """Return this refusal as an exception, for callers that cannot go on without the model."""
        return Refused(self.code, self.message, hint=self.hint, evidence=self.evidence)


def one_line(text: str) -> str:
    """Return *text* as it may stand in a log or a report: parts of it may come from whoever serves the channel."""
    return " ".join(printable(text).split())


Verdict = Verified | Refusal
