# SPDX-License-Identifier: Apache-2.0
"""The fleet's desk: takes enrolments and reports, keeps what they say, answers, and tells whoever must know.

The order for a report, all of it in one transaction of the store: (1) the key finds the device; (2) the signature is
verified, and only then is the report read; (3) a report that came before gets its answer again; (4) its place in the
chain; (5) findings; (6) the device moves on, refusals are kept, the answer is signed and kept. After the transaction
alerts go out; one that cannot be delivered is kept and tried again with the next report.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from chopmark.artifacts import Digest
from chopmark.canonical import check_name
from chopmark.clock import Clock, format_time
from chopmark.errors import ChopmarkError, UsageError, VerificationError
from chopmark.fleet.accept import Finding, Placed, clock_finding, log_finding, place, topic, verdict_finding
from chopmark.fleet.model import Condition, Device, Refusal, Standing, Summary, failure
from chopmark.fleet.ocsf import detection_finding
from chopmark.fleet.ports import AlertSink, FleetStore, LedgerView, Received
from chopmark.keys import PublicKey, Signer
from chopmark.statements import encode_envelope
from chopmark.telemetry import (
    VERIFIED,
    Answer,
    Enrolled,
    EnrolmentRequest,
    Purpose,
    Report,
    Result,
    SignedReport,
    build_answer,
    decode_signed_report,
    verify_report,
)

MIN_TOKEN_BYTES = 16
_MAX_NAME = 40
"""What is left of 63 characters after a dash and eight random ones, with room."""


class Fleet:
    """See the module.

    Args:
        token: returns the enrolment token as it is now.
        ledger: the organisation's own ledger, or None where it is not at hand.
        snapshot: returns the version of the channel's newest snapshot; 0 for none.
        tolerance: how far a device's clock may be off.
        entropy: returns n random bytes.
    """

    def __init__(
        self,
        *,
        workspace: str,
        store: FleetStore,
        alerts: AlertSink,
        verifier: Sequence[Signer],
        token: Callable[[], bytes],
        clock: Clock,
        tolerance: timedelta,
        ledger: LedgerView | None = None,
        snapshot: Callable[[], int] = lambda: 0,
        product_version: str = "0",
        entropy: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._workspace = workspace
        self._store = store
        self._alerts = alerts
        self._verifier = tuple(verifier)
        self._token = token
        self._clock = clock
        self._tolerance = tolerance
        self._ledger = ledger
        self._snapshot = snapshot
        self._product_version = product_version
        self._entropy = entropy

    @property
    def store(self) -> FleetStore:
        return self._store

    def enroll(self, request: EnrolmentRequest) -> Enrolled:
        """Enrol a device; the same key again gets the same id.

        Raises:
            VerificationError: ``token-refused``.
            DecodeError: not a public key.
            UsageError: a name that cannot be one.
        """
        _check_token(request.token, self._token())
        key, name = PublicKey.from_spki(request.spki), request.name
        check_name(name, what="device name")
        if len(name) > _MAX_NAME:
            raise UsageError(f"device name: more than {_MAX_NAME} characters")
        with self._store.transaction():
            known = self._store.device_by_key(key.keyid)
            if known is None:
                now = self._clock.now()
                device_id = f"{name}-{self._entropy(4).hex()}"
                if self._store.device(device_id) is not None:
                    raise UsageError("that id is taken; try again")
                known = Device(id=device_id, name=name, key=key, enrolled=now, challenge=self._nonce(), challenged=now)
                self._store.put_device(known)
        return Enrolled(device=known.id, nonce=known.challenge)

    def challenge(self, device: str) -> str:
        """Return the challenge that the next report of *device* must carry. It is no secret.

        Raises:
            UsageError: there is no such device.
        """
        return self._known(device).challenge

    def report(self, data: bytes) -> bytes:
        """Take a signed report and return the signed answer; the same report again, the same answer.

        Raises:
            DecodeError: not a report.
            VerificationError: ``device-unknown``, ``report-forged``, or as :func:`chopmark.fleet.place`.
        """
        signed = decode_signed_report(data)
        with self._store.transaction():
            device = self._store.device_by_key(signed.keyid)
            if device is None:
                raise VerificationError("no device has this key", code="device-unknown", hint="enrol the device")
            report = verify_report(signed, device.key)
            before = self._store.report(signed.digest)
            answer = self._take(device, report, signed, data) if before is None else before.answer
        self.deliver_alerts()
        return answer

    def deliver_alerts(self) -> int:
        """Send the alerts that were not delivered; return how many still are not."""
        waiting = list(self._store.unalerted())
        for at, refusal in enumerate(waiting):
            device = self._store.device(refusal.device)
            finding = detection_finding(
                refusal,
                device_name=device.name if device else refusal.device,
                workspace=self._workspace,
                version=self._product_version,
            )
            try:
                self._alerts.send(finding)
            except ChopmarkError:
                return len(waiting) - at  # kept, and tried again
            with self._store.transaction():
                current = self._store.refusal(refusal.number)
                if current is not None:
                    self._store.put_refusal(replace(current, alerted=True))
        return 0

    def _known(self, device: str) -> Device:
        known = self._store.device(device)
        if known is None:
            raise UsageError(f"no device {device[:80]!r}", code="device-unknown", hint="see `chopmark fleet devices`")
        return known

    def _take(self, device: Device, report: Report, signed: SignedReport, data: bytes) -> bytes:
        knows_prev = report.prev is not None and self._is_of(device, report.prev)
        placed = place(device, report, knows_prev=knows_prev)
        now = self._clock.now()
        findings = self._findings(device, report, placed)
        standings = dict(device.standings)
        if placed in (Placed.NEXT, Placed.LATE):
            _settle(standings, report, now=now)
        for finding in findings:
            standings[finding.topic] = self._refuse(device, report, signed.digest, finding)
        cloned = next((f for f in findings if f.code == "device-cloned"), None)
        held = device.held or (f"device-cloned since {format_time(now)}" if cloned else "")
        moved = replace(device, held=held, seen=now, standings=standings)
        if placed is Placed.NEXT:
            # Only a report that spends the challenge gets a new one: reports of a queue are then behind by one at most.
            moved = replace(moved, challenge=self._nonce(), challenged=now)
        if not held:
            moved = replace(moved, used=report.nonce, seq=report.seq, head=signed.digest, rejoin=False)
        self._store.put_device(moved)
        answer = encode_envelope(
            build_answer(
                Answer(
                    device=device.id,
                    report=signed.digest,
                    nonce=report.nonce,
                    next_nonce=moved.challenge,
                    time=now,
                    snapshot=self._snapshot(),
                    tier=device.tier,
                    result=Result.HELD if held else Result.ACCEPTED,
                    reason=held or ", ".join(f.code for f in findings if f.topic in ("clock", "log")),
                ),
                self._verifier,
            )
        )
        self._store.add_report(
            Received(
                digest=signed.digest,
                device=device.id,
                seq=report.seq,
                prev=report.prev,
                time=now,
                data=data,
                answer=answer,
            )
        )
        return answer

    def _findings(self, device: Device, report: Report, placed: Placed) -> list[Finding]:
        if placed is Placed.HELD:
            return []  # kept as evidence; a device that is held is not believed, and is no news
        if placed is Placed.CLONED:
            return [self._cloned(device, report)]
        clock = clock_finding(device, report, placed, now=self._clock.now(), tolerance=self._tolerance)
        earlier, newest = self._earlier_fork(device), self._fork(device, report)
        found = (verdict_finding(report), clock, newest or earlier)  # one topic, so one refusal
        return [finding for finding in found if finding is not None]

    def _cloned(self, device: Device, report: Report) -> Finding:
        known = failure("device-cloned")
        rivals = self._store.successors(device.id, report.prev)
        return Finding(
            topic="chain",
            code="device-cloned",
            step=known.step,
            message=f"{known.meaning} (report {report.seq})",
            hint=known.hint,
            facts={
                "predecessor": str(report.prev) if report.prev else "none: a first report",
                "earlier": str(rivals[0]) if rivals else "none",
                "newest": str(device.head),
                "says": report.verdict,
            },
        )

    def _fork(self, device: Device, report: Report) -> Finding | None:
        if report.log is None:
            return None
        log = report.log
        own = self._ledger.root_at(log.origin, log.size) if self._ledger else None
        # Where the ledger is at hand, only devices that it once agreed with can contradict: else one device that lies
        # about a checkpoint would put every honest one in the wrong.
        others = dict(self._store.seen_roots(log.origin, log.size, confirmed=own is not None))
        self._store.see_checkpoint(device.id, log, agreed=None if own is None else own == log.root)
        if own is not None:
            others[own] = "ledger"
        return log_finding(log, others)

    def _earlier_fork(self, device: Device) -> Finding | None:
        """Compare what *device* saw while the organisation's ledger was smaller, now that it may have come that far.

        Whoever shows a device a history that is ahead of the ledger would else never be compared with it.
        """
        finding = None
        for log in self._store.open_checkpoints(device.id):
            own = self._ledger.root_at(log.origin, log.size) if self._ledger else None
            if own is not None:
                self._store.see_checkpoint(device.id, log, agreed=own == log.root)
                finding = finding or log_finding(log, {own: "ledger"})
        return finding

    def _refuse(self, device: Device, report: Report, digest: Digest, finding: Finding) -> Standing:
        """Keep a refusal, or count one that stands already, and return what it leaves the device with."""
        now = self._clock.now()
        before = device.standings.get(finding.topic)
        open_one = self._store.refusal(before.refusal) if before and before.refusal is not None else None
        if open_one and (open_one.code, open_one.release) == (finding.code, report.release):
            refusal = replace(open_one, last=now, count=open_one.count + 1)
        else:
            refusal = Refusal(
                number=self._store.next_refusal(),
                device=device.id,
                topic=finding.topic,
                code=finding.code,
                step=finding.step,
                model=report.model,
                slot=report.slot,
                release=report.release,
                running=report.running,
                message=finding.message,
                facts=finding.facts,
                hint=finding.hint,
                report=digest,
                first=now,
                last=now,
            )
        self._store.put_refusal(refusal)
        return _standing(finding.topic, report, finding.code, now=refusal.last, refusal=refusal.number)

    def _is_of(self, device: Device, digest: Digest) -> bool:
        known = self._store.report(digest)
        return known is not None and known.device == device.id

    def _nonce(self) -> str:
        return self._entropy(16).hex()


def release_device(store: FleetStore, device: str, *, by: str, now: datetime) -> None:
    """Let a held device report again: its next report starts a chain, and forks it saw are settled.

    Args:
        by: who decided it; kept with the device.

    Raises:
        UsageError: there is no such device, or nobody is named.
    """
    check_name(by, what="who releases it")
    with store.transaction():
        known = store.device(device)
        if known is None:
            raise UsageError(f"{device[:80]}: no such device", hint="chopmark fleet devices")
        standings = {key: s for key, s in known.standings.items() if key not in ("log", "chain")}
        released = f"{by}, {format_time(now)}"
        store.put_device(replace(known, held="", released=released, rejoin=True, standings=standings))


def summarise(store: FleetStore) -> Summary:
    """Return the fleet on one line of a screen."""
    devices = store.devices()
    conditions = Counter(device.condition for device in devices)
    running: dict[str, Counter[Digest]] = {}
    for device in devices:
        for model, release in device.running.items():
            running.setdefault(model, Counter())[release] += 1
    newest = store.refusals(limit=1)
    return Summary(
        devices=len(devices),
        conditions={condition: conditions[condition] for condition in Condition},
        running=running,
        refusals=store.count_refusals(),
        newest=newest[0] if newest else None,
        undelivered=len(store.unalerted()),
    )


def _settle(standings: dict[str, Standing], report: Report, *, now: datetime) -> None:
    """Replace what *report* speaks about; a fork seen, and a chain broken, is settled by a person alone."""
    standings.pop("clock", None)
    if not report.verified:
        return
    if report.purpose is Purpose.REFRESH:
        # A refresh that went through passed the steps that failed before a model was looked at; one about no model
        # found nothing assigned, so no earlier failure to fetch stands.
        for key in [k for k in standings if k == "refresh/" or (not report.model and k.startswith("refresh/"))]:
            del standings[key]
    key = topic(report)
    standings[key] = _standing(key, report, VERIFIED, now=now, refusal=None)


def _standing(key: str, report: Report, verdict: str, *, now: datetime, refusal: int | None) -> Standing:
    return Standing(
        topic=key,
        verdict=verdict,
        model=report.model,
        slot=report.slot,
        release=report.release,
        running=report.running,
        time=now,
        refusal=refusal,
    )


def _check_token(given: str, wanted: bytes) -> None:
    # Compared as digests, so that time tells neither content nor length.
    same = hmac.compare_digest(
        hashlib.sha256(given.encode("utf-8", "surrogatepass")).digest(), hashlib.sha256(wanted).digest()
    )
    if not same or len(wanted) < MIN_TOKEN_BYTES:
        raise VerificationError(
            "the enrolment token is not the one", code="token-refused", hint="ask who runs the fleet"
        )
