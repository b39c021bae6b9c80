# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from datetime import timedelta

import pytest
from tuf.api.metadata import Metadata, Targets

from chopmark.artifacts import Digest
from chopmark.channel.publish import build_targets
from chopmark.channel.status import StatusHost, hold, revocation
from chopmark.channel.wire import decode_status
from chopmark.errors import DecodeError, UndecidedError, VerificationError
from chopmark.statements import PredicateType, Statement, encode_envelope, sign
from chopmark.trust import count_signed
from simulators import NOW, StandingClock
from unit.fleet.kit import Keys, trust_policy

BAD, OTHER = Digest.of(b"bad"), Digest.of(b"other")


class Host:
    def __init__(self, folder):
        self.keys, self.clock, self.folder = Keys(), StandingClock(), folder
        self.trust = trust_policy(self.keys)
        self.host = self.open()

    def open(self, **changes):
        given = {
            "folder": self.folder / "security",
            "trust": self.trust,
            "signers": self.keys.status_host,
            "clock": self.clock,
            "interval": timedelta(hours=4),
        }
        return StatusHost(**given | changes)

    def signed(self, statement, *owners):
        people = owners or (self.keys.security_a, self.keys.security_b)
        return encode_envelope(sign(statement, [key for owner in people for key in owner]))

    def revoke(self, digest=BAD, **changes):
        given = {"workspace": "acme", "model": "digits", "kind": "release", "reason": "backdoor", "since": NOW}
        return self.signed(revocation(digest=digest, **given | changes))

    def hold(self, **changes):
        given = {"workspace": "acme", "model": "digits", "kind": "release", "reason": "drift", "since": NOW}
        return self.signed(hold(digest=OTHER, **given | changes))

    def published(self):
        """Read status.json as a device does: count owners by the delegation and by trust.json."""
        metadata = Metadata[Targets].from_bytes(self.host.current())
        delegator = build_targets(
            version=1, expires=NOW + timedelta(days=1), channels={}, status=self.trust.rule("status")
        ).signed
        assert count_signed(delegator, "status", metadata, self.trust.rule("status")).met
        signed = metadata.signed
        return signed, decode_status(signed.unrecognized_fields["x-chopmark"], version=signed.version)


@pytest.fixture
def h(tmp_path):
    return Host(tmp_path)


def test_the_first_status_says_nothing_is_revoked(h):
    signed, status = h.published()
    assert (status.version, status.issued, status.revoked, status.holds) == (1, NOW, (), ())
    assert signed.expires == NOW + timedelta(seconds=604_800)
    assert signed.targets == {}


def test_the_status_is_issued_again_when_the_interval_is_over(h):
    first = h.host.current()
    h.clock.forward(hours=3)
    assert h.host.current() == first
    h.clock.forward(hours=1)
    _, status = h.published()
    assert (status.version, status.issued) == (2, NOW + timedelta(hours=4))


def test_two_people_revoke(h):
    h.host.current()
    applied = h.host.apply(h.revoke(min_epoch=2))
    assert (applied.version, applied.changed) == (2, True)
    _, status = h.published()
    assert [(e.kind, e.digest, e.reason) for e in status.revoked] == [("release", BAD, "backdoor")]
    assert status.min_epoch == {"digits": 2}


def test_epochs_and_revocations_only_grow(h):
    h.host.apply(h.revoke(min_epoch=5))
    h.host.apply(h.revoke(OTHER, min_epoch=2, kind="manifest"))
    _, status = h.published()
    assert status.min_epoch == {"digits": 5}
    assert {e.digest for e in status.revoked} == {BAD, OTHER}


def test_a_hold_is_lifted_and_an_old_one_cannot_come_back(h):
    old = h.hold()
    h.host.apply(old)
    assert [e.digest for e in h.published()[1].holds] == [OTHER]
    h.host.apply(h.hold(reason="looked at", lift=True))
    assert h.published()[1].holds == ()
    assert h.host.apply(old).changed is False
    assert h.published()[1].holds == ()


def test_a_revocation_cannot_be_lifted(h):
    statement = revocation(workspace="acme", model="digits", kind="release", digest=BAD, reason="backdoor", since=NOW)
    with pytest.raises(DecodeError):
        h.host.apply(
            h.signed(
                Statement(
                    subjects=statement.subjects,
                    predicate_type=PredicateType.REVOCATION,
                    predicate={**statement.predicate, "lift": True},
                )
            )
        )


def test_a_restart_keeps_everything_and_the_bytes(h):
    h.host.apply(h.revoke())
    before = h.host.current()
    assert h.open().current() == before
    assert h.open().apply(h.revoke()).changed is False


def test_killed_between_state_and_signature_a_version_is_never_used_twice(h, monkeypatch):
    h.host.current()
    statement = h.revoke()

    def unplugged(*_, **__):
        raise UndecidedError("no key", code="key-unavailable")

    with monkeypatch.context() as patch:
        patch.setattr("chopmark.channel.status.sign_metadata", unplugged)
        with pytest.raises(UndecidedError):
            h.host.apply(statement)
    applied = h.open().apply(statement)
    assert (applied.version, applied.changed) == (3, False)
    _, status = h.published()
    assert (status.version, [e.digest for e in status.revoked]) == (3, [BAD])


def test_a_clock_that_goes_back_never_makes_an_older_status(h):
    h.host.current()
    h.clock.forward(hours=-10)
    h.host.apply(h.revoke())
    assert h.published()[1].issued == NOW


def test_a_clock_that_was_years_ahead_does_not_date_every_later_status(h):
    h.clock.forward(hours=24 * 400)
    h.host.current()
    h.clock.forward(hours=-24 * 400)
    _, status = h.published()
    assert (status.version, status.issued) == (2, NOW)


def test_one_person_and_half_signatures_do_not_revoke(h):
    statement = revocation(workspace="acme", model="digits", kind="release", digest=BAD, reason="backdoor", since=NOW)
    for owners, code in (
        ([h.keys.security_a], "statement-unsigned"),
        ([h.keys.security_a, h.keys.security_b[:1]], "statement-half-signed"),
        ([h.keys.status_host], "statement-unsigned"),
    ):
        with pytest.raises(VerificationError) as caught:
            h.host.apply(h.signed(statement, *owners))
        assert caught.value.code == code
    assert h.host.status().version == 0


def test_a_statement_of_another_workspace_is_refused(h):
    with pytest.raises(VerificationError) as caught:
        h.host.apply(h.revoke(workspace="other"))
    assert caught.value.code == "statement-forbidden"


@pytest.mark.parametrize("changes", [{"kind": "file"}, {"reason": ""}, {"reason": "x" * 501}, {"min_epoch": 0}])
def test_what_is_no_revocation(changes, h):
    with pytest.raises(DecodeError):
        h.revoke(**changes)


def test_keys_that_cannot_sign_are_found_before_a_version_is_used(h):
    host = h.open(signers=h.keys.status_host[:1])
    with pytest.raises(VerificationError) as caught:
        host.current()
    assert caught.value.code == "status-untrusted"
    assert not (h.folder / "security" / "state.json").exists()


def test_a_state_that_was_lost_or_damaged_is_not_begun_anew(h):
    h.host.apply(h.revoke())
    state = h.folder / "security" / "state.json"
    good = json.loads(state.read_bytes())
    state.write_bytes(json.dumps(good | {"version": 0}).encode())
    with pytest.raises(VerificationError) as caught:
        h.host.current()
    assert caught.value.code == "state-corrupt"
    state.unlink()
    with pytest.raises(VerificationError) as caught:
        h.host.current()
    assert caught.value.code == "state-corrupt"
