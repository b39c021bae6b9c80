# SPDX-License-Identifier: Apache-2.0
"""Keys that were lost, stolen, or whose time is over: what they sign counts for nothing, and what they signed is judged.

The attacker has a key that was retired, writes what they like into the ledger and the repository, and dates it as they like.
"""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from datetime import timedelta

import pytest

from chopmark.adapters.kms.file import generate
from chopmark.apps.cli.main import run
from chopmark.apps.cli.wiring import Site, create_workspace
from chopmark.artifacts import Digest
from chopmark.device import Slot
from chopmark.errors import Refused, UsageError, VerificationError
from chopmark.keys import Algorithm, Owner
from chopmark.policy import Denied
from chopmark.release import approve_again, gather
from chopmark.release.life import read_life
from chopmark.release.live import live_releases
from chopmark.statements import (
    PredicateType,
    Statement,
    Subject,
    add_signatures,
    decode_envelope,
    encode_envelope,
    sign,
)
from chopmark.trust import RetiredFor, RetiredKey
from simulators import NOW, StandingClock
from unit.device.kit import World, refused_load, runs
from unit.release.kit import Shop, people, result_of

LOG = people().policy.active_log.origin


def retire(policy, owner, *, until, reason=RetiredFor.SUPERSEDED, fresh=()):
    """Return *policy* one version on: *owner* has the keys *fresh*, and those of before are retired."""
    log = policy.active_log.origin
    old = tuple(RetiredKey(key=k, owner=owner, reason=reason, log=log, until=until) for k in policy.owners[owner].keys)
    owners = {**policy.owners, owner: Owner(name=owner, keys=tuple(signer.public for signer in fresh))}
    return replace(policy, version=policy.version + 1, owners=owners, retired=(*policy.retired, *old))


# A stolen key, after it was revoked


def test_a_thief_adds_to_the_ledger_after_the_revocation(shop):
    good = shop.record("tester", result_of(Digest.of(b"good")))
    size = len(shop.ledger.envelopes)
    fresh = generate(Algorithm.ED25519)
    trust = retire(shop.trust, "tester", until=size, reason=RetiredFor.COMPROMISED, fresh=[fresh])
    forged = shop.record("tester", result_of(Digest.of(b"bad")))
    events = {event.digest: event for event in read_life(shop.ledger.statements(), trust)}
    assert events[good.digest].judgement == "compromised-before"
    assert "compromised since" in events[good.digest].note
    assert events[forged.digest].judgement == "not-believed"
    assert f"from entry {size} on, and this is entry {size}" in events[forged.digest].problem
    assert events[forged.digest].depends == ()


def test_no_gate_counts_what_a_retired_key_signed_whenever_that_was(shop):
    shop.record("tester", result_of(Digest.of(b"good")))
    trust = retire(shop.trust, "tester", until=99, fresh=[generate(Algorithm.ED25519)])
    assert {fact.role for fact in gather(shop.ledger, shop.trust)} == {"tester"}
    assert gather(shop.ledger, trust) == ()


def test_a_statement_that_says_an_early_time_is_judged_by_its_index(shop):
    size = len(shop.ledger.envelopes)
    trust = retire(shop.trust, "tester", until=size, reason=RetiredFor.COMPROMISED, fresh=[generate(Algorithm.ED25519)])
    early = Statement(
        subjects=(Subject("model/digits", Digest.of(b"bad")),),
        predicate_type=PredicateType.TEST_RESULT,
        predicate={"result": "PASSED", "finishedAt": "2020-01-01T00:00:00Z"},
    )
    shop.record("tester", early)
    assert [event.judgement for event in read_life(shop.ledger.statements(), trust)] == ["not-believed"]


def test_an_owner_who_left_counts_no_more_with_the_key_that_they_kept(shop):
    """A key that stands in no list is nobody's, whatever an older trust.json said."""
    owners = {name: owner for name, owner in shop.trust.owners.items() if name != "tester"}
    roles = {name: role for name, role in shop.trust.roles.items() if name != "tester"}
    trust = replace(shop.trust, version=2, owners=owners, roles=roles)
    shop.record("tester", result_of(Digest.of(b"bad")))
    events = read_life(shop.ledger.statements(), trust, before=(shop.trust,))
    assert [event.judgement for event in events] == ["not-believed"]


def test_a_lower_rule_of_before_is_not_borrowed(shop):
    """Whoever holds one current key does not get the k of an older trust.json by adding a retired key's old signature."""
    approver = shop.trust.roles["approver"]
    alone = replace(shop.trust, roles={**shop.trust.roles, "approver": replace(approver, k=1)})
    release = replace(result_of(Digest.of(b"bad")), predicate_type=PredicateType.RELEASE)
    trust = retire(shop.trust, "tester", until=99, fresh=[generate(Algorithm.ED25519)])
    shop.ledger.log(add_signatures(sign(release, shop.people.keys("owner-a")), shop.people.keys("tester")))
    assert [e.judgement for e in read_life(shop.ledger.statements(), trust, before=(alone,))] == ["not-believed"]


def test_an_unapproved_release_is_not_approved_by_signing_it_again(shop):
    branch = shop.propose(shop.draft()).branch
    shop.approve(branch, "owner-a")
    head = shop.git.head(branch)
    files = shop.git.read_folder(head, "envelopes", max_bytes=1 << 20)
    shop.write("main", dict(files))
    digest = decode_envelope(next(iter(files.values()))).digest
    with pytest.raises(Refused) as refused:
        approve_again(
            digest,
            host=shop.git,
            log=shop.ledger,
            trust=shop.trust,
            signers=shop.people.keys("owner-b"),
            by=shop.by("maintainer"),
            at=NOW,
        )
    assert refused.value.code == "release-unapproved"


def test_signing_again_adds_signatures_and_changes_no_payload(busy):
    before = {one.release.digest: one for one in live_releases(busy.git, busy.main, workspace="acme")}
    digest = next(iter(before))
    common = {"host": busy.git, "log": busy.ledger, "trust": busy.trust, "by": busy.by("maintainer"), "at": NOW}
    done, index = approve_again(digest, signers=busy.people.keys("owner-c"), **common)
    assert done.approvals.counted == ("owner-a", "owner-b", "owner-c")
    after = {one.release.digest: one for one in live_releases(busy.git, busy.main, workspace="acme")}
    signed = busy.ledger.envelopes[index]
    assert after[digest].envelope == signed
    assert signed.payload == before[digest].envelope.payload
    assert len(signed.signatures) == len(before[digest].envelope.signatures) + 2
    for owner in ("owner-c", "tester"):
        with pytest.raises(UsageError) as refused:
            approve_again(digest, signers=busy.people.keys(owner), **common)
        assert refused.value.code == "not-an-approver"


def test_signing_again_is_logged_before_it_governs(busy, monkeypatch):
    """Killed in between: the ledger knows of it, main does not, and the same call does it again."""
    digest = next(iter(live_releases(busy.git, busy.main, workspace="acme"))).release.digest
    call = {"host": busy.git, "log": busy.ledger, "trust": busy.trust, "by": busy.by("maintainer"), "at": NOW}
    before, logged = busy.main, len(busy.ledger.envelopes)
    with monkeypatch.context() as killed:
        killed.setattr(type(busy.git), "commit", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            approve_again(digest, signers=busy.people.keys("owner-c"), **call)
    assert (busy.main, len(busy.ledger.envelopes)) == (before, logged + 1)
    done, _ = approve_again(digest, signers=busy.people.keys("owner-c"), **call)
    assert done.approvals.counted == ("owner-a", "owner-b", "owner-c")


# A key whose time is over


def test_evidence_by_an_expired_key_allows_nothing(shop):
    draft = shop.draft()
    key = shop.trust.owners["tester"].keys[0].keyid
    shop.trust = replace(shop.trust, key_expiry={key: NOW + timedelta(seconds=1)})
    assert not isinstance(shop.propose(draft).decision, Denied)
    shop.trust = replace(shop.trust, key_expiry={key: NOW})
    assert isinstance(shop.propose(replace(draft, version="1b")).decision, Denied)


def test_an_approval_by_an_expired_key_counts_at_no_gate(shop):
    branch = shop.propose(shop.draft()).branch
    for owner in ("owner-a", "owner-b"):
        shop.approve(branch, owner)
    key = shop.trust.owners["owner-b"].keys[0].keyid
    shop.trust = replace(shop.trust, key_expiry={key: NOW})
    checked = shop.check(branch)
    assert not checked.allowed
    assert checked.approvals.counted == ("owner-a",)
    with pytest.raises(UsageError) as refused:
        shop.approve(branch, "owner-b", signers=[generate(Algorithm.ED25519)])
    assert refused.value.code == "not-an-approver"


def test_the_calendar_stops_who_signs_and_neither_status_nor_devices(tmp_path):
    workspace = create_workspace(tmp_path / "acme", name="acme", channel="production", port=18_700)
    site = Site(workspace)
    life = timedelta(seconds=site.trust.limits.key_life_s)
    late = Site(workspace, clock=StandingClock(site.clock.now() + life + timedelta(hours=1)))
    assert site.signers("tester")
    for owner in ("tester", "owner-a", "gate"):
        with pytest.raises(VerificationError) as refused:
            late.signers(owner)
        assert refused.value.code == "key-expired"
    assert late.status_host()
    assert all(owner.keys for owner in late.trust.owners.values()), "devices see every key as long as root lives"


# What devices do when approvers' keys go


def rotate_approver(world, *, sign_again):
    """Retire the keys of owner-a, with the running release signed again by owner-c before, or not."""
    digest = next(iter(world.channel.shipments))
    shipment = world.channel.shipments[digest]
    if sign_again:
        again = add_signatures(decode_envelope(shipment.envelope), world.trust.keys("owner-c"))
        world.channel.shipments[digest] = replace(shipment, envelope=encode_envelope(again))
    fresh = [generate(key.algorithm) for key in world.trust.policy.owners["owner-a"].keys]
    policy = world.trust.policy = retire(world.trust.policy, "owner-a", until=9, fresh=fresh)
    others = world.trust.keys("owner-b", "owner-c")
    world.adopt_root(*world.trust.build_root(version=2, policy=policy, signers=others))
    world.trust.targets = world.trust.build_targets(version=2, signers=others)
    world.republish()


def test_a_device_takes_the_new_signatures_and_reports_no_damage(tmp_path):
    world = World(tmp_path)
    device = world.installed("1")
    before = len(world.fleet.reports)
    files = device.folder.slot("digits", Slot.A) / "files" / "model.tiny"
    stamp = files.stat().st_mtime_ns
    rotate_approver(world, sign_again=True)
    done = world.refresh(device)
    assert done.models["digits"].damaged == ()
    assert (runs(device), files.stat().st_mtime_ns) == ("1", stamp), "the package is not fetched again"
    assert len(world.fleet.reports) == before
    assert world.refresh(device).models["digits"].damaged == ()


def test_a_device_refuses_what_was_not_signed_again(tmp_path):
    world = World(tmp_path)
    device = world.installed("1")
    rotate_approver(world, sign_again=False)
    assert world.refused(device).code == "release-unapproved"
    assert refused_load(device).code == "release-unapproved"


def test_an_envelope_whose_signatures_were_taken_away_loads_nothing_and_is_healed(tmp_path):
    world = World(tmp_path)
    device = world.installed("1")
    place = device.folder.slot("digits", Slot.A) / "envelope.json"
    envelope = decode_envelope(place.read_bytes())
    place.write_bytes(encode_envelope(replace(envelope, signatures=envelope.signatures[:1])))
    assert refused_load(device).code == "release-unapproved"
    world.refresh(device)
    assert runs(device) == "1"


# The command line


@pytest.fixture
def shop(founded, tmp_path):
    return founded.copy(tmp_path)


@pytest.fixture(scope="module")
def founded(tmp_path_factory):
    return Shop.found(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def busy(shop):
    first = shop.release("1").checked.release
    shop.release("2", fallbacks=(first.digest,))
    return shop


@pytest.fixture(scope="module")
def acme(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys-cli") / "acme"
    create_workspace(folder, name="acme", channel="production", port=18_710)
    return folder


@pytest.mark.parametrize("which", ["", "ab", "nobody", "zzzz", "../../etc/passwd", "0" * 5000])
def test_a_key_that_is_none(acme, capsys, which):
    for command in ("show", "impact"):
        assert run(["-w", str(acme), "keys", command, which, "--json"]) == 2
        assert json.loads(capsys.readouterr().out)["error"] == "no-key"


def test_a_file_that_is_no_key(acme, capsys, tmp_path):
    (tmp_path / "junk.pem").write_bytes(b"\0" * 1000)
    assert run(["-w", str(acme), "keys", "show", str(tmp_path / "junk.pem"), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_new_keys_overwrite_nothing_and_are_their_owners_alone(acme, capsys, tmp_path):
    for wanted in ({"ed25519.pem"}, {"ed25519.pem", "ed25519-2.pem"}):
        assert run(["keys", "new", "bob", "--algorithm", "ed25519", "--out", str(tmp_path / "bob"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["keys"][0]["algorithm"] == "ed25519"
        assert {path.name for path in (tmp_path / "bob").glob("*.pem")} == wanted
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "bob").glob("*.pem")} == {0o600}


def test_passphrases_that_others_may_read_or_that_are_none(tmp_path, capsys):
    secret = tmp_path / "secret"
    for text, mode in (("open sesame\n", 0o644), ("\n", 0o600)):
        secret.write_text(text)
        secret.chmod(mode)
        command = ["keys", "new", "bob", "--passphrase-file", str(secret), "--out", str(tmp_path / "bob"), "--json"]
        assert run(command) == 2
        assert "sesame" not in capsys.readouterr().out
        assert not (tmp_path / "bob").exists()
    secret.write_text("open sesame\n")
    assert run(command) == 0
    assert b"ENCRYPTED" in (tmp_path / "bob" / "ed25519.pem").read_bytes()


@pytest.mark.parametrize("name", ["../eve", "Eve", "", "x-eve", "a/b"])
def test_owners_whose_names_lead_elsewhere(acme, capsys, name):
    assert run(["-w", str(acme), "keys", "new", name, "--hybrid", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"] == "usage"


def test_doctor_warns_before_the_day_and_names_what_is_over(acme):
    from chopmark.apps.cli.health import _lives

    site = Site.at(acme)
    limits = site.trust.limits
    for seconds, ok, word in (
        (limits.key_life_s - limits.key_warning_s - 3600, True, "the next one expires in 30 days"),
        (limits.key_life_s - limits.key_warning_s + 60, False, "expires in 29 days"),
        (limits.key_life_s + 60, False, "expired 1 days ago"),
    ):
        late = Site(site.workspace, clock=StandingClock(site.clock.now() + timedelta(seconds=seconds)))
        found = next(finding for finding in _lives(late) if finding.what == "key expiry")
        assert (found.ok, word in found.detail) == (ok, True), found


def test_a_counter_is_not_used_twice_because_its_approvers_changed_keys(busy):
    """What devices remember as newest stays the floor, whoever's keys have gone."""
    kept = busy.trust
    fresh = {owner: [generate(key.algorithm) for key in kept.owners[owner].keys] for owner in ("owner-a", "owner-b")}
    for owner, signers in fresh.items():
        busy.trust = retire(busy.trust, owner, until=len(busy.ledger.envelopes), fresh=signers)
    again = busy.propose(busy.draft("3"))
    assert again.release is not None
    assert again.release.counter == 3
