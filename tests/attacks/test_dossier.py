# SPDX-License-Identifier: Apache-2.0
"""Attacks on a dossier, by whoever hands it on: everything in it is theirs to change, and the pin is not."""

from __future__ import annotations

import io
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import click
import pytest

from chopmark import canonical
from chopmark.adapters.kms.file import generate
from chopmark.apps.cli.main import run
from chopmark.apps.cli.render import columns
from chopmark.apps.cli.trace import tree
from chopmark.artifacts import Digest, Manifest, hash_bytes
from chopmark.channel import release_statement
from chopmark.errors import ChopmarkError, DecodeError, VerificationError
from chopmark.keys import Algorithm
from chopmark.ledger import leaf_hash
from chopmark.policy import (
    Approvals,
    Candidate,
    Phase,
    Undecidable,
    decide,
    decode_policy,
    default_policy_file,
    lineage,
)
from chopmark.release import Gate, gather, ustar
from chopmark.release.dossier import Dossier, open_dossier, read_dossier
from chopmark.release.story import tell
from chopmark.statements import PredicateType, decode_leaf, sign, statement_leaf
from chopmark.trust import RetiredFor, RetiredKey
from simulators import NOW, SimTrust
from simulators.clock import StandingClock
from simulators.dossier import FILES, SimLife, with_entry
from unit.release.kit import SimLedger, inspection, result_of, statement


@pytest.fixture(scope="module")
def life() -> SimLife:
    return SimLife()


def refused(life: SimLife, data: bytes | Dossier) -> ChopmarkError:
    """Return the error with which a dossier is refused; anything else fails the test."""
    with pytest.raises(VerificationError) as caught:
        life.open(data)
    assert caught.value.message
    assert caught.value.hint
    return caught.value


# What stands in it.


def test_an_altered_statement_is_not_in_the_ledger(life):
    dossier = life.dossier()
    altered = dossier.entries[5].leaf.replace(b'"v":1', b'"v":2')
    assert altered != dossier.entries[5].leaf
    assert refused(life, with_entry(dossier, 5, leaf=altered)).code == "log-unproven"


def test_a_statement_that_was_never_logged_has_no_proof(life):
    better = statement_leaf(sign(result_of(life.manifest.digest, ppm=999_999), life.trust.keys("tester")))
    assert refused(life, with_entry(life.dossier(), 5, leaf=better)).code == "log-unproven"


def test_a_proof_of_another_entry_or_index_proves_nothing(life):
    dossier = life.dossier()
    for change in ({"proof": dossier.entries[4].proof}, {"index": 40}):
        assert refused(life, with_entry(dossier, 5, **change)).code == "log-unproven"


def test_a_proof_of_another_log_proves_nothing(life):
    other = SimLife()  # a workspace of the same name, made by somebody else
    foreign = other.dossier()
    assert refused(life, replace(foreign, roots=(life.trust.first,), trust=life.trust.trust)).code == "log-unproven"
    assert refused(life, with_entry(life.dossier(), 5, proof=foreign.entries[5].proof)).code == "log-unproven"
    assert refused(life, replace(life.dossier(), log="log.other/m")).code == "dossier-foreign"


def test_a_ledger_that_too_few_witnesses_saw_is_none():
    life = SimLife(publish=False)
    for witness in life.log.witnesses[:2]:
        witness.away = True
    assert refused(life, life.dossier()).code == "log-unwitnessed"


def test_two_checkpoints_in_one_dossier_are_refused():
    life = SimLife(publish=False)
    early = life.dossier()
    life.say("tester", result_of(life.manifest.digest, result="FAILED"))
    mixed = replace(life.dossier(), entries=(*early.entries[:-1], life.dossier().entries[-2]))
    assert refused(life, mixed).code == "log-unproven"


def test_a_dropped_statement_that_the_release_rests_on_is_missed(life):
    for index in range(8):  # each statement that was decided over
        story = tell(life.open(life.dossier(leave_out=[index])), life.manifest.digest)
        assert not story.ok
        named = decode_leaf(life.log.entries[index])
        assert {m.digest for m in story.missing} == {named.digest.hex}
        assert {m.kind for m in story.missing} == {"vsa", "release"}


def test_a_dropped_revocation_is_never_called_absent():
    """Nobody can see what was left out; so without the whole ledger nothing is said of it, but by the status."""
    life = SimLife(publish=False)
    keys = life.trust.keys("security-a", "security-b")
    gone = life.say("", statement(PredicateType.REVOCATION, life.manifest.digest, {"reason": "backdoor"}), signers=keys)
    whole, cut = life.open(), life.open(life.dossier(leave_out=[gone]))
    assert whole.complete
    assert not tell(whole, life.manifest.digest).ok
    assert not cut.complete
    assert tell(cut, life.manifest.digest).known.startswith("unknown")


def test_an_approval_by_one_owner_or_by_halves_is_no_approval():
    for signers in (("owner-a",), ()):
        life = SimLife(publish=False)
        life.log.entries.pop()  # the approved envelope
        keys = [*life.trust.keys(*signers), life.trust.signers["owner-b"][0]]
        release = life.channel.approve(files=FILES, signers=keys, vsa=life.release.vsa, evidence=life.release.evidence)
        life.log.append(statement_leaf_of(life, release.digest))
        story = tell(life.open(), life.manifest.digest)
        assert story.releases == ()
        assert not story.ok


def statement_leaf_of(life: SimLife, release: Digest) -> bytes:
    from chopmark.statements import decode_envelope

    return statement_leaf(decode_envelope(life.channel.shipments[release].envelope))


def test_an_envelope_beside_a_leaf_that_is_another_or_missing():
    life = SimLife(publish=False)
    index = life.say("inspector", statement(PredicateType.SBOM, life.manifest.digest, {"text": "x" * 70_000}))
    dossier = life.dossier()
    assert refused(life, with_entry(dossier, index, envelope=None)).code == "evidence-missing"
    assert refused(life, with_entry(dossier, index, envelope=b"{}")).code == "evidence-missing"
    assert refused(life, with_entry(dossier, 0, envelope=b"{}")).code == "undecodable"


# Who is trusted.


def test_a_forged_root_is_not_the_pinned_one(life):
    forger = SimTrust()
    assert refused(life, replace(life.dossier(), roots=(forger.first,), trust=forger.trust)).code == "root-untrusted"
    forged, trust = life.trust.build_root(version=2, signers=life.trust.keys("owner-a"))
    chained = replace(life.dossier(), roots=(life.trust.first, forged), trust=trust)
    assert refused(life, chained).code == "root-untrusted"


def test_another_trust_file_is_not_the_one_that_root_names(life):
    assert refused(life, replace(life.dossier(), trust=SimTrust().trust)).code == "trust-mismatch"


def test_a_root_is_never_trusted_because_it_lies_in_the_dossier(life, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.chopmark").write_bytes(life.written())
    (tmp_path / "1.root.json").write_bytes(life.trust.first)
    assert run(["trace", "d.chopmark"]) == 2
    assert "no-root" in capsys.readouterr().err
    assert run(["trace", "d.chopmark", "--root", f"sha256:{'0' * 64}"]) == 1
    assert run(["trace", "d.chopmark", "--root", "1.root.json"]) == 0
    assert run(["trace", "d.chopmark", "--root", str(life.trust.pin), "--json"]) == 0


@pytest.mark.parametrize("reason", RetiredFor)
def test_a_statement_by_a_retired_key_after_its_end_is_not_believed(reason):
    """The tester's key was lost, and retired from index 3 on: what it signs later stands in the ledger and is no test."""
    trust = SimTrust()
    life = SimLife(trust, publish=False)
    thief, fresh = trust.signers["tester"], (generate(Algorithm.ED25519),)
    retired = RetiredKey(key=thief[0].public, owner="tester", reason=reason, log=life.log.origin, until=3)
    owners = dict(trust.policy.owners)
    owners["tester"] = replace(owners["tester"], keys=(fresh[0].public,))
    index = life.say("tester", result_of(life.manifest.digest, ppm=999_999), signers=thief)
    assert index >= retired.until
    root, changed = trust.build_root(version=2, policy=trust.renew_policy(owners=owners, retired=(retired,)))
    story = tell(life.open(replace(life.dossier(), roots=(trust.first, root), trust=changed)), life.manifest.digest)
    late = next(event for event in story.events if event.index == index)
    assert late.problem
    assert not story.ok


def rotated(life: SimLife, *, until: int, reason: RetiredFor = RetiredFor.SUPERSEDED):
    """The dossier after the tester's key was replaced by a new one."""
    trust, fresh = life.trust, generate(Algorithm.ED25519)
    old = trust.signers["tester"][0].public
    retired = RetiredKey(key=old, owner="tester", reason=reason, log=life.log.origin, until=until)
    owners = {**trust.policy.owners, "tester": replace(trust.policy.owners["tester"], keys=(fresh.public,))}
    root, changed = trust.build_root(version=2, policy=trust.renew_policy(owners=owners, retired=(retired,)))
    return replace(life.dossier(), roots=(trust.first, root), trust=changed, before={1: trust.trust})


def shown(story):
    """The tree for people, folds undone."""
    return " ".join(word for line in tree(story) for word in line.strip("│├└─ ").split())


def test_a_rotated_key_leaves_a_life_as_it_was():
    """What was believed before it was superseded still is, and the gate's decisions are still confirmed over it."""
    life = SimLife(SimTrust(), publish=False)
    before = tell(life.open(life.dossier()), life.manifest.digest)
    after = tell(life.open(rotated(life, until=len(life.log.entries))), life.manifest.digest)
    assert before.ok
    assert after.ok
    assert [r.index for r in after.replayed] == [r.index for r in before.replayed]
    assert {e.judgement for e in after.events if e.role == "tester"} == {"superseded"}
    assert {e.judgement for e in after.events if e.role != "tester"} == {"current"}
    assert f"a key of tester that signed it was superseded since, from entry {len(life.log.entries)} on" in shown(after)
    assert "superseded" not in shown(before)


def test_a_key_that_was_stolen_later_is_shown_beside_what_it_signed_before():
    life = SimLife(SimTrust(), publish=False)
    size = len(life.log.entries)
    story = tell(life.open(rotated(life, until=size, reason=RetiredFor.COMPROMISED)), life.manifest.digest)
    assert story.ok
    assert f"a key of tester that signed it was compromised since, from entry {size} on" in shown(story)


def approval_of(life: SimLife, *owners: str) -> int:
    """Log what the gate decides over the approvals of *owners*; return its index."""
    ledger = SimLedger(life.envelopes)
    gate = Gate(
        trust=life.trust.policy,
        source=ledger,
        ledger=ledger,
        signers=life.trust.keys("gate"),
        clock=StandingClock(),
    )
    gathered = gather(ledger, life.trust.policy)
    assert isinstance(gathered, tuple)
    about, candidate = lineage(gathered, life.manifest.digest), Candidate(release=life.release)
    names = life.trust.policy.role("approver").owners
    had = Approvals(counted=owners, candidates=names, partial={}, k=2)
    policy = decode_policy(default_policy_file())
    decision = decide(policy, Phase.APPROVAL, facts=about, candidate=candidate, approvals=had)
    assert not isinstance(decision, Undecidable)
    gate.record(decision, policy=policy, facts=about, candidate=candidate, at=NOW, approvals=had)
    return life.log_envelope(ledger.envelopes[-1])


def test_what_the_gate_allowed_is_confirmed_after_an_approver_was_replaced():
    """owner-b's keys go and owner-c signs again: the decision of then is over the signatures of then."""
    life, fresh = SimLife(SimTrust(), publish=False), generate(Algorithm.ED25519)
    refused_then, allowed_then = approval_of(life, "owner-a"), approval_of(life, "owner-a", "owner-b")
    before = tell(life.open(life.dossier()), life.manifest.digest)
    end = len(life.log.entries)
    life.say("", release_statement(life.release), signers=life.trust.keys("owner-a", "owner-c"))
    trust, old = life.trust, life.trust.policy.owners["owner-b"]
    retired = tuple(
        RetiredKey(key=key, owner="owner-b", reason=RetiredFor.SUPERSEDED, log=life.log.origin, until=end)
        for key in old.keys
    )
    keys = (fresh.public, generate(Algorithm.ML_DSA_65).public)
    owners = {**trust.policy.owners, "owner-b": replace(old, keys=keys)}
    root, changed = trust.build_root(version=2, policy=trust.renew_policy(owners=owners, retired=retired))
    dossier = replace(life.dossier(), roots=(trust.first, root), trust=changed, before={1: trust.trust})
    after = tell(life.open(dossier), life.manifest.digest)
    assert after.ok
    assert [r.index for r in after.replayed] == [r.index for r in before.replayed]
    assert allowed_then in {r.index for r in after.replayed}
    assert refused_then not in {r.index for r in after.replayed}, "no envelope has fewer signatures"


def test_a_trust_of_before_that_no_root_named_is_refused(life):
    dossier = rotated(life, until=len(life.log.entries))
    other = SimTrust().trust
    assert refused(life, replace(dossier, before={1: other})).code == "trust-mismatch"
    # One that no root names at all says nothing, and is not read.
    assert life.open(replace(dossier, before={1: life.trust.trust, 9: b"nonsense"})).before == (life.trust.policy,)


def test_a_key_that_was_compromised_takes_what_it_said_away():
    life = SimLife(SimTrust(), publish=False)
    story = tell(life.open(rotated(life, until=0, reason=RetiredFor.COMPROMISED)), life.manifest.digest)
    assert not story.ok


def test_a_publication_of_somebody_else_or_in_parts_is_refused(life):
    dossier, other = life.dossier(), SimLife()
    assert refused(life, replace(dossier, published=other.dossier().published)).code == "channel-untrusted"
    for path in dossier.published:
        parts = {name: data for name, data in dossier.published.items() if name != path}
        assert refused(life, replace(dossier, published=parts)).code in (
            "channel-mixed",
            "log-unproven",
            "channel-untrusted",
        )
    status = life.channel.path("status")
    swapped = {**dossier.published, status: other.dossier().published[status]}
    assert refused(life, replace(dossier, published=swapped)).code == "channel-mixed"


# The package.


def test_one_swapped_byte_of_the_package_is_found(life):
    data = bytearray(life.written())
    at = data.index(FILES["model.onnx"])
    data[at] ^= 1
    assert refused(life, bytes(data)).code == "package-altered"


def test_another_model_under_its_own_name_is_no_file_of_the_package(life):
    whole = life.written()
    evil = io.BytesIO()
    evil.write(whole[: whole.index(f"package/{min(e.sha256 for e in life.manifest.files).hex}".encode())])
    content = b"backdoor"
    for digest, data in sorted({Digest.of(d): d for d in (*list(FILES.values())[1:], content)}.items()):
        ustar.write_member(evil, f"package/{digest.hex}", len(data), (data,))
    ustar.write_end(evil)
    assert refused(life, evil.getvalue()).code == "package-incomplete"


def test_another_manifest_is_not_that_of_the_package(life):
    other = Manifest(files=(hash_bytes("model.onnx", b"backdoor"),))
    dossier = life.dossier()
    assert refused(life, replace(dossier, manifest=other.encode())).code == "package-altered"
    assert refused(life, replace(dossier, manifest=None, package={Digest.of(b"x"): 1})).code == "package-altered"
    wrong = {entry.sha256: entry.length for entry in life.manifest.files} | {Digest.of(b"more"): 4}
    assert refused(life, replace(dossier, package=wrong)).code == "package-altered"
    # And with "about" changed too, no statement is about it: it is a file that nobody said anything of.
    foreign = replace(dossier, manifest=other.encode(), about=other.digest)
    story = tell(life.open(foreign), other.digest)
    assert story.releases == ()
    assert story.events == ()


# The archive.


def tar(*members: tuple[str, bytes], **settings: object) -> bytes:
    """Return a tar as the standard library writes it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in settings.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_names_that_leave_the_dossier_are_no_members():
    for name in (
        "../dossier.json",
        "/etc/passwd",
        "roots/../../x",
        "dossier.json/",
        "package/..",
        "a\\b",
        "entries//1",
    ):
        with pytest.raises(DecodeError):
            read_dossier(io.BytesIO(tar((name, b"x"))))


def test_links_devices_and_extensions_are_no_members(life):
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.XHDTYPE):
        with pytest.raises(DecodeError):
            read_dossier(io.BytesIO(tar(("dossier.json", b""), type=kind, linkname="/etc/passwd")))
    whole = life.written()
    for at in (101, 110, 118, 137, 149, 156, 158, 264, 266, 300, 400, 511):  # mode, owners, time, checksum, type …
        changed = bytearray(whole)
        changed[at] ^= 1
        with pytest.raises(DecodeError):
            read_dossier(io.BytesIO(bytes(changed)))


def test_a_zip_a_gzip_and_a_bomb_are_no_dossier(life):
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("dossier.json", bytes(100_000_000))
    for data in (zipped.getvalue(), b"\x1f\x8b" + life.written(), b"", bytes(512), bytes(1024)):
        with pytest.raises(DecodeError):
            read_dossier(io.BytesIO(data))


class Endless(io.RawIOBase):
    """A header, and then zeros for ever; counts what is read."""

    def __init__(self, head: bytes) -> None:
        self.head = io.BytesIO(head)
        self.taken = 0

    def read(self, size: int = -1) -> bytes:
        assert size >= 0
        data = self.head.read(size)
        data += bytes(size - len(data))
        self.taken += size
        return data


@pytest.mark.parametrize(
    "name",
    ["dossier.json", "roots/1.root.json", "trust.json", "entries/000000000000.json", "entries/000000000000.tlog-proof"],
)
def test_a_member_of_a_hundred_megabytes_is_refused_before_it_is_read(name):
    source = Endless(ustar.header(name, 100_000_000))
    with pytest.raises(DecodeError, match="more than the"):
        read_dossier(source)  # type: ignore[arg-type]
    assert source.taken == ustar.BLOCK


def test_many_members_within_their_bounds_end_at_the_bound_of_all():
    class Many(Endless):
        number = 0

        def read(self, size: int = -1) -> bytes:
            if size == ustar.BLOCK:
                self.number += 1
                return ustar.header(f"entries/{self.number:012d}.envelope.json", 4_000_000)
            return bytes(size)

    with pytest.raises(DecodeError, match="beside the package"):
        read_dossier(Many(b""))  # type: ignore[arg-type]


def test_members_twice_out_of_order_cut_short_or_after_the_end(life):
    whole = life.written()
    second = whole.index(b"roots/1.root.json")
    first = whole[:second]
    for data in (
        first + whole,  # the first member twice
        whole[second:],  # none at all
        whole[:-512],
        whole[:-1024],
        whole[: len(whole) // 2],
        whole + b"x",
        whole + whole,
        whole.replace(b"trust.json", b"trusT.json", 1),
    ):
        with pytest.raises(DecodeError):
            read_dossier(io.BytesIO(data))


def test_bytes_between_two_members_are_refused(life):
    data = bytearray(life.written())
    data[data.index(b"roots/1.root.json") - 1] = 1  # in the padding of the first member
    with pytest.raises(DecodeError, match="between"):
        read_dossier(io.BytesIO(bytes(data)))


def test_a_head_that_says_more_than_it_may(life):
    whole = life.written()
    head = canonical.decode(whole[512 : whole.index(b"}") + 1], what="head", max_bytes=4096)
    assert isinstance(head, dict)
    for change in ({"v": 2}, {"more": 1}, {"about": "sha256:00"}, {"channel": None}, {"workspace": 7}):
        out = io.BytesIO()
        encoded = canonical.encode({**head, **change})
        ustar.write_member(out, "dossier.json", len(encoded), (encoded,))
        with pytest.raises(DecodeError):
            read_dossier(io.BytesIO(out.getvalue() + whole[whole.index(b"roots/1.root.json") :]))


def test_a_leaf_that_is_none_of_ours_is_refused_after_it_was_proven():
    life = SimLife(publish=False)
    life.log.append(b'{"not":"a leaf"}')
    assert refused(life, life.dossier()).code == "undecodable"
    assert leaf_hash(b'{"not":"a leaf"}')


def test_the_inspector_cannot_say_what_the_tester_says():
    life = SimLife(publish=False)
    life.say("tester", inspection(life.manifest.digest))
    story = tell(open_dossier(life.dossier(), life.trust.pin, now=NOW), life.manifest.digest)
    assert [event.type for event in story.events if event.problem] == ["inspection"]


# What the gate decided.


def test_a_gate_that_lied_is_not_confirmed():
    """The gate signed that an evidence without a test suffices; approvers signed it; whoever traces it decides again."""
    life = SimLife(lie=True)
    story = tell(life.open(), life.manifest.digest)
    assert [bool(again.differences) for again in story.replayed] == [True]
    assert not story.ok
    assert any("NOT CONFIRMED" in line for line in tree(story))
    assert "NOT VERIFIED" in tree(story)[0]


def test_a_reason_makes_no_line_of_its_own_in_a_life():
    """Who may say one thing must not be able to print another: each line begins as lines of the tree do."""
    forged = "fine\n└─ ✓ #9 release  approved by owner-a, owner-b\r\x1b[2K"
    life = SimLife()
    said = {"result": forged, "metrics": {"accuracy_ppm": 1}, "timeVerified": forged}
    life.say("tester", statement(PredicateType.TEST_RESULT, life.manifest.digest, said))
    opened = life.open()
    story = tell(opened, opened.about)
    assert any("#9 release" in line for line in tree(story))
    assert all(click.unstyle(line).isprintable() for line in tree(story))
    assert columns([("a\nb", "c")]) == ["a�b  c"]


def test_another_policy_under_the_name_of_the_one_that_was_used_replays_nothing(life):
    dossier = life.dossier()
    (digest,) = dossier.policies
    assert refused(life, replace(dossier, policies={digest: b"kind: ReleasePolicy"})).code == "policy-altered"
    other = b"kind: ReleasePolicy"
    story = tell(life.open(replace(dossier, policies={Digest.of(other): other})), life.manifest.digest)
    assert story.replayed == ()
    assert any("was not made again" in gap for gap in story.gaps().values())
