# SPDX-License-Identifier: Apache-2.0
"""The chain of signed reports: made here, queued, delivered in order by the agent.

Each report names the digest of the one before it, so that a device that was copied shows at the service as two
successors of one report. A report is written to ``queue/`` before the state names it; one that the state does not name
is never sent. The newest delivered one is kept, so that a device whose state was lost goes on with its chain.

The queue is bounded: a device that is long without network stops reporting that all is well, then stops reporting; the
chain has no gap. Nothing depends on a report being made: a refusal refuses without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from chopmark.artifacts import Digest, read_file
from chopmark.device import tidy
from chopmark.device.folder import Folder
from chopmark.device.model import TIER, Chain, State
from chopmark.device.verdict import Refusal, Verdict, Verified, one_line
from chopmark.errors import ChopmarkError, Refused
from chopmark.keys import Signer
from chopmark.statements import decode_envelope, decode_statement
from chopmark.telemetry import (
    MAX_EVIDENCE,
    MAX_EVIDENCE_CHARS,
    MAX_MESSAGE_CHARS,
    MAX_REPORT_BYTES,
    NONCE,
    VERIFIED,
    Purpose,
    Report,
    SeenLog,
    SignedReport,
    decode_signed_report,
    sign_report,
    verify_answer,
    verify_report,
)
from chopmark.trust import TrustPolicy

_LAST_STEP: Final = {Purpose.REFRESH: 16, Purpose.LOAD: 18}
MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_QUEUED: Final = 256
MAX_QUEUED_GOOD: Final = 192
"""Where reports that all is well stop: the last quarter of the queue is for refusals."""


class Journal:
    """The reports of one device."""

    def __init__(self, folder: Folder, *, device: str, signer: Signer) -> None:
        self._folder = folder
        self._device = device
        self._signer = signer
        self._failure: ChopmarkError | None = None

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Go on where a report cannot be made: what is decided is decided without it."""
        try:
            yield
        except Refused:
            return  # the state cannot be believed: that is reported where it is found
        except ChopmarkError as error:
            self._failure = error

    def take_failure(self) -> ChopmarkError | None:
        """Return why a report could not be made since this was asked last; None where all could."""
        failure, self._failure = self._failure, None
        return failure

    def add(
        self, state: State, verdict: Verdict | None, *, purpose: Purpose, running: Digest | None, now: datetime
    ) -> State:
        """Queue a report of *verdict*, if it says anything new; return *state* with the chain that a commit must keep.

        The caller holds the lock.

        Args:
            verdict: None where all went well and there was no model to judge.
            running: the release that runs now.

        Raises:
            UndecidedError: it could not be written or signed.
        """
        if not is_news(state, verdict, purpose=purpose) or not self._has_room(verdict):
            return state
        digest = self._write(self._report(state, verdict, purpose=purpose, running=running, now=now))
        state = said(state, verdict, purpose=purpose)
        return replace(state, chain=replace(state.chain, seq=state.chain.seq + 1, head=digest))

    def add_without_state(self, start: State, refusal: Refusal, *, purpose: Purpose, now: datetime) -> None:
        """Queue a report that the state itself cannot be believed, once; chained to the newest report on disk.

        Args:
            start: what a device knows without its state.

        Raises:
            UndecidedError: it could not be written or signed.
        """
        newest = self._newest_report()
        if newest is not None and newest.verdict == refusal.code:
            return
        if self._has_room(refusal):
            state = replace(start, chain=self.chain(start.chain))
            self._write(self._report(state, refusal, purpose=purpose, running=None, now=now))

    def chain(self, known: Chain) -> Chain:
        """Return *known*, or where the files on disk say the chain is, whichever is further: for a lost state."""
        newest = self._newest()
        if newest is None:
            return known
        signed, report = newest
        if report.seq <= known.seq:
            return known
        return replace(known, seq=report.seq, head=signed.digest, nonce=self._next_nonce() or report.nonce)

    def pending(self, state: State) -> Iterator[tuple[Path, bytes, SignedReport, Report]]:
        """Yield the queued reports in order, as far as the state names them.

        One that this device did not sign is set aside.
        """
        for path in self._queued():
            opened = self._open(path)
            if opened is None:
                self._set_aside(path)
                continue
            data, signed, report = opened
            if report.seq <= state.chain.seq:
                yield path, data, signed, report

    def delivered(self, path: Path, answer: bytes) -> None:
        """Take a report off the queue and keep it as the newest delivered one, with the service's answer.

        Raises:
            UndecidedError: the folder cannot be written.
        """
        self._folder.write(self._folder.answer, answer)
        self._folder.move(path, self._folder.delivered)

    def clean(self, trust: TrustPolicy) -> None:
        """Set aside what is no report of this device, and an answer that is none to the newest delivered one.

        Raises:
            UndecidedError: the folder cannot be written.
        """
        for path in tidy.entries(self._folder.queue):
            if self._open(path) is None:
                self._set_aside(path)
        for path, good in (
            (self._folder.delivered, self._open(self._folder.delivered) is not None),
            (self._folder.answer, self._answers(trust)),
        ):
            if not good and not tidy.is_missing(path):
                self._folder.set_aside(path)

    def _answers(self, trust: TrustPolicy) -> bool:
        delivered = self._open(self._folder.delivered)
        try:
            answer = decode_envelope(read_file(self._folder.answer, max_bytes=MAX_ANSWER_BYTES))
            if delivered is not None:
                _, signed, report = delivered
                verify_answer(answer, trust, signed.digest, nonce=report.nonce)
        except ChopmarkError:
            return False
        return delivered is not None

    def _queued(self) -> list[Path]:
        return sorted(path for path in tidy.entries(self._folder.queue) if path.match("[0-9]*.json"))

    def _has_room(self, verdict: Verdict | None) -> bool:
        return len(self._queued()) < (MAX_QUEUED if isinstance(verdict, Refusal) else MAX_QUEUED_GOOD)

    def _write(self, report: Report) -> Digest:
        data = sign_report(report, self._signer)
        self._folder.write(self._folder.queue / f"{report.seq:016d}.json", data, mode=0o600)
        return decode_signed_report(data).digest

    def _report(
        self, state: State, verdict: Verdict | None, *, purpose: Purpose, running: Digest | None, now: datetime
    ) -> Report:
        refusal = verdict if isinstance(verdict, Refusal) else None
        logs = sorted(state.logs.items(), key=lambda item: item[1].size)
        return Report(
            device=self._device,
            seq=state.chain.seq + 1,
            prev=state.chain.head,
            time=now,
            purpose=purpose,
            nonce=state.chain.nonce,
            model=verdict.model if verdict else "",
            slot=verdict.slot if verdict else "",
            release=_release(verdict),
            running=running,
            verdict=VERIFIED if refusal is None else refusal.code,
            step=_LAST_STEP[purpose] if refusal is None else refusal.step,
            message="" if refusal is None else one_line(refusal.message)[:MAX_MESSAGE_CHARS],
            evidence={} if refusal is None else _bounded(refusal.evidence),
            tier=TIER,
            log=SeenLog(origin=logs[-1][0], size=logs[-1][1].size, root=logs[-1][1].root) if logs else None,
            versions=dict(state.versions),
            gen=state.gen,
        )

    def _newest(self) -> tuple[SignedReport, Report] | None:
        found = [self._open(path) for path in (self._folder.delivered, *self._queued()[-2:])]
        reports = [(signed, report) for opened in found if opened for _, signed, report in [opened]]
        return max(reports, key=lambda pair: pair[1].seq, default=None)

    def _newest_report(self) -> Report | None:
        newest = self._newest()
        return None if newest is None else newest[1]

    def _next_nonce(self) -> str:
        """Return the challenge in the newest answer, unverified: it is no secret, and the service knows its own."""
        try:
            envelope = decode_envelope(read_file(self._folder.answer, max_bytes=MAX_ANSWER_BYTES))
            nonce = decode_statement(envelope.payload).predicate.get("next_nonce")
        except ChopmarkError:
            return ""
        return nonce if isinstance(nonce, str) and NONCE.fullmatch(nonce) else ""

    def _open(self, path: Path) -> tuple[bytes, SignedReport, Report] | None:
        try:
            data = read_file(path, max_bytes=MAX_REPORT_BYTES)
            signed = decode_signed_report(data)
            return data, signed, verify_report(signed, self._signer.public)
        except ChopmarkError:
            return None

    def _set_aside(self, path: Path) -> None:
        self._folder.set_aside(path)


def is_news(state: State, verdict: Verdict | None, *, purpose: Purpose) -> bool:
    """Tell whether the last report about this said something else, or was of an older publication."""
    return state.chain.said.get(_subject(purpose, verdict)) != _saying(verdict, state)


def said(state: State, verdict: Verdict | None, *, purpose: Purpose) -> State:
    """Return *state* as if *verdict* had been reported: where another report says as much."""
    known = {**state.chain.said, _subject(purpose, verdict): _saying(verdict, state)}
    return replace(state, chain=replace(state.chain, said=known))


def unsaid(state: State, verdict: Verdict | None, *, purpose: Purpose) -> State:
    """Return *state* with nothing said about the subject of *verdict*, so that it is said whatever it is."""
    subject = _subject(purpose, verdict)
    known = {about: what for about, what in state.chain.said.items() if about != subject}
    return replace(state, chain=replace(state.chain, said=known))


def said_refused(state: State, verdict: Verdict | None, *, purpose: Purpose) -> bool:
    """Tell whether the last report about the subject of *verdict* was a refusal, which only another report settles."""
    last = state.chain.said.get(_subject(purpose, verdict), VERIFIED)
    return last.partition(" ")[0] != VERIFIED


def said_anything(state: State, verdict: Verdict | None, *, purpose: Purpose) -> bool:
    """Tell whether anything was ever reported about the subject of *verdict*."""
    return _subject(purpose, verdict) in state.chain.said


def _subject(purpose: Purpose, verdict: Verdict | None) -> str:
    return f"{purpose}/{verdict.model if verdict else ''}"


def _release(verdict: Verdict | None) -> Digest | None:
    return verdict.release.digest if isinstance(verdict, Verified) else verdict.release if verdict else None


def _saying(verdict: Verdict | None, state: State) -> str:
    """Return what a report would say, as far as a change of it is news. A new publication is: so a fleet hears of every device."""
    release = _release(verdict)
    code = verdict.code if isinstance(verdict, Refusal) else VERIFIED
    return f"{code} {release.hex if release else ''} {state.versions.get('snapshot', 0)}"


def _bounded(evidence: Mapping[str, object]) -> dict[str, str]:
    shown = {
        one_line(str(name))[:MAX_EVIDENCE_CHARS]: f"{len(value):,} bytes"
        if isinstance(value, bytes)
        else one_line(str(value))[:MAX_EVIDENCE_CHARS]
        for name, value in evidence.items()
        if not str(name).startswith("x-")
    }
    return dict(list(shown.items())[:MAX_EVIDENCE])
