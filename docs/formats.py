# SPDX-License-Identifier: Apache-2.0
"""The samples of reference/formats.md: fixed values, put through the project's own encoders and read back.

Nothing here is signed: ML-DSA signatures differ each time, and a page must not. Bytes stand where a signature would.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa
from generate import pretty

from chopmark import canonical
from chopmark.artifacts import Digest, FileEntry, Manifest, decode_manifest, selftest
from chopmark.builds import Builder, BuildType, Code, Record, Surroundings, decode_provenance, record_statement
from chopmark.channel import (
    Assignment,
    LogHead,
    Release,
    RuntimeNeed,
    Status,
    StatusEntry,
    Top,
    channel_extension,
    decode_assignments,
    decode_release,
    decode_status,
    release_statement,
    status_extension,
)
from chopmark.channel.follow import MAX_PROOF_BYTES, MAX_TARGETS_BYTES
from chopmark.device.model import Chain, FileVersion, Slot, Slots, State
from chopmark.device.timefloor import TimeFloor
from chopmark.device.wire import MAX_STATE_BYTES, decode_state, encode_state
from chopmark.documents import MAX_DOCUMENT_BYTES
from chopmark.keys import HYBRID, Owner, OwnerRule, PublicKey
from chopmark.ledger import MAX_ENTRY_BYTES, Checkpoint, SignatureLine, SignedNote, TlogProof, decode_note, log_key
from chopmark.ledger.index import MAX_ANSWER_BYTES, Answer, IndexRoot, key_hash
from chopmark.ledger.index.lists import list_root
from chopmark.ledger.index.wire import AnswerLeaf
from chopmark.ledger.tokens import MAX_TOKENS_BYTES, AppendToken, decode_tokens, encode_tokens
from chopmark.policy import decode_policy
from chopmark.release import ustar
from chopmark.release.adopt import Adoption, Source, SourceKind, adoption_statement, read_adoption
from chopmark.release.dossier import MAX_KEPT_BYTES, Dossier, Entry, read_dossier, write_dossier
from chopmark.release.model import Channel, Ring
from chopmark.release.wire import (
    decode_channel,
    decode_model_release,
    encode_channel,
    encode_model_release,
    model_release,
)
from chopmark.statements import (
    ABOUT_VERSION,
    Envelope,
    Signature,
    decode_envelope,
    decode_leaf,
    decode_statement,
    encode_envelope,
    encode_statement,
    publication_leaf,
    statement_leaf,
)
from chopmark.telemetry import (
    MAX_REPORT_BYTES,
    Purpose,
    Report,
    SeenLog,
    SignedReport,
    decode_report,
    decode_signed_report,
    encode_report,
    encode_signed_report,
)
from chopmark.trust import (
    MAX_ROOT_BYTES,
    MAX_TRUST_BYTES,
    Limits,
    LogKeys,
    Role,
    TrustFile,
    TrustPolicy,
    build_root,
    decode_trust,
    encode_trust,
)
from chopmark.trust.change import MAX_PROPOSAL_BYTES

NOON = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
ORIGIN = "log.acme/m"
MODEL = Digest.of(b"model")
V1, V2 = Digest.of(b"release 1"), Digest.of(b"release 2")
MAC_KEY = bytes(32)
SIGNATURE = bytes(range(64))


POLICY = b"""\
kind: ReleasePolicy
metadata:
  name: default
spec:
  rules:
    - id: tested
      phase: evidence
      message: no tester's result for this package has passed
      cel: |-
        facts.exists(f, f.type == "test-result" && f.role == "tester" && f.subject == release.manifest
          && f.predicate.result == "PASSED")
    - id: needs-two-approvers
      phase: approval
      message: "{approvals}"
      cel: size(approvals) >= 2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One format: what it is, who writes and reads it, and a sample."""

    title: str
    text: str
    kind: str
    encoder: str
    decoder: str
    max_bytes: int
    make: Callable[[], bytes]
    check: Callable[[bytes], object]
    language: str = "json"

    def sample(self) -> str:
        """Return the sample as shown, after reading it back."""
        data = self.make()
        self.check(data)
        if self.language == "json":
            return pretty(data)
        lines = data.decode().rstrip("\n").splitlines()
        return "\n".join(line if len(line) <= 120 else line[:60] + "…" for line in lines)


def _adoption() -> Adoption:
    return Adoption(
        workspace="acme",
        model="digits",
        file=FileEntry(name="model.onnx", length=7642, sha256=MODEL, fsverity={4096: MODEL, 65536: MODEL}),
        format="onnx",
        source=Source(kind=SourceKind.URL, name="https://models.example/model.onnx"),
        reason="in use since 2024",
        adopted=NOON,
        until=datetime(2027, 6, 30, tzinfo=UTC),
    )


def _dossier() -> bytes:
    out, weights = io.BytesIO(), b"weights"
    write_dossier(
        out,
        Dossier(
            workspace="acme",
            about=Digest.of(b"manifest"),
            log=ORIGIN,
            roots=(b"root 1", b"root 2"),
            trust=b"trust",
            entries=(Entry(index=4, leaf=b"leaf", proof=b"proof"), Entry(index=7, leaf=b"", proof=b"", envelope=b"{}")),
            channel="production",
            published={"metadata/timestamp.json": b"{}", "metadata/2.snapshot.json": b"{}"},
            policies={Digest.of(POLICY): POLICY},
            before={1: b"trust 1"},
            manifest=b"manifest",
        ),
        [(Digest.of(weights), len(weights), (weights,))],
    )
    return out.getvalue()


def _listing(data: bytes) -> bytes:
    """Return the names and lengths of an archive's members, one a line."""
    members = ustar.read_members(io.BytesIO(data), lambda *_: None)
    return "".join(f"{sum(map(len, content)):>8}  {name}\n" for name, content in members).encode()


def _ed25519(number: int) -> PublicKey:
    return PublicKey.of(ed25519.Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32).public_key())


def _owner(name: str, number: int) -> Owner:
    post_quantum = mldsa.MLDSA65PrivateKey.from_seed_bytes(bytes([number]) * 32).public_key()
    return Owner(name=name, keys=(_ed25519(number), PublicKey.of(post_quantum)))


OWNERS = tuple(_owner(f"owner-{letter}", number) for number, letter in enumerate("ab", start=1))
LOG_KEYS = (
    log_key(ORIGIN, _ed25519(9)),
    log_key(ORIGIN, PublicKey.of(mldsa.MLDSA44PrivateKey.from_seed_bytes(bytes([9]) * 32).public_key())),
)
MANIFEST = Manifest(
    files=(
        FileEntry(
            name="model.onnx", length=7845, sha256=MODEL, fsverity={4096: Digest.of(b"4k"), 65536: Digest.of(b"64k")}
        ),
    )
)


def _trust() -> TrustPolicy:
    approver = Role(
        name="approver",
        owners=("owner-a", "owner-b"),
        k=2,
        algorithms=HYBRID,
        predicates=("https://chopmark.dev/release/v1",),
        subjects=("model/*",),
    )
    return TrustPolicy(
        workspace="acme",
        version=1,
        owners={owner.name: owner for owner in OWNERS},
        roles={"approver": approver},
        logs=(LogKeys(origin=ORIGIN, require=tuple(key.encode() for key in LOG_KEYS)),),
        witness_policy="log …\nwitness witness-1 …\nquorum witness-1\n",
        limits=Limits(
            max_status_age_s={"critical": 86_400, "normal": 604_800, "low": 7_776_000}, clock_tolerance_s=300
        ),
    )


def _root_extension() -> bytes:
    encoded = encode_trust(_trust())
    root = build_root(
        workspace="acme",
        version=1,
        expires=NOON,
        rule=OwnerRule(owners=OWNERS, k=2, algorithms=HYBRID),
        operator=[_ed25519(5)],
        trust=TrustFile(version=1, length=len(encoded), sha256=Digest.of(encoded)),
    )
    return canonical.encode(root.signed.unrecognized_fields)


def _proposal() -> bytes:
    return canonical.encode(
        {
            "v": 1,
            "workspace": "acme",
            "base": {"version": 1, "sha256": Digest.of(b"root 1").hex},
            "root": {"signed": {"_type": "root", "version": 2}, "signatures": []},
            "trust": {"v": 1, "workspace": "acme", "version": 2},
            "targets": {"signed": {"_type": "targets", "version": 2}, "signatures": []},
        }
    )


def _release() -> Release:
    release = Release(
        digest=V2,
        workspace="acme",
        model="digits",
        version="2",
        channels=("production",),
        counter=2,
        epoch=1,
        manifest=MANIFEST.digest,
        manifest_length=len(MANIFEST.encode()),
        fallbacks=(V1,),
        runtime=RuntimeNeed(name="onnxruntime", range=">=1.20,<2", libraries={}),
        abi="any",
        min_app="0",
        min_tier=1,
        check_class="normal",
        self_test=Digest.of(b"vectors"),
        vsa=Digest.of(b"vsa"),
        evidence=(Digest.of(b"test result"),),
    )
    return replace(release, digest=Digest.of(encode_statement(release_statement(release))))


def _envelope() -> Envelope:
    payload = encode_statement(release_statement(_release()))
    keys = sorted(key.keyid for owner in OWNERS for key in owner.keys)
    return Envelope(payload=payload, signatures=tuple(Signature(keyid, SIGNATURE) for keyid in keys))


def _status() -> Status:
    revoked = StatusEntry(kind="release", digest=V1, reason="backdoor", since=NOON)
    return Status(version=7, issued=NOON, revoked=(revoked,), min_epoch={"digits": 1}, holds=())


def _state() -> State:
    file = FileVersion(version=1, digest=Digest.of(b"root"))
    return State(
        gen=12,
        root=file,
        trust=file,
        versions={"timestamp": 9, "snapshot": 7, "targets": 1, "production": 3, "status": 7},
        logs={ORIGIN: LogHead(31, MODEL.value)},
        status=_status(),
        assigned={"digits": V2},
        top={"digits": Top(counter=2, release=V2, fallbacks=(V1,))},
        slots={"digits": Slots(active=Slot.A, releases={Slot.A: V2})},
        floor=TimeFloor(moment=NOON, boot_id="9f0c0d6e", boot_s=812),
        chain=Chain(seq=4, head=Digest.of(b"report 4"), nonce="c0ffee"),
    )


def _report() -> Report:
    return Report(
        device="kiosk-2-1f3a9c07",
        seq=5,
        prev=Digest.of(b"report 4"),
        time=NOON,
        purpose=Purpose.LOAD,
        nonce="c0ffee",
        model="digits",
        slot="A",
        release=V2,
        running=None,
        verdict="package-altered",
        step=14,
        message="model.onnx differs from the manifest",
        evidence={"file": "model.onnx", "wanted": str(MODEL), "got": str(Digest.of(b"other"))},
        tier=1,
        log=SeenLog(origin=ORIGIN, size=31, root=MODEL.value),
        versions={"snapshot": 7, "status": 7},
        gen=12,
    )


def _recorded() -> bytes:
    record = Record(
        step=BuildType.TRAIN,
        model="digits",
        code=Code(entry="cell", parts={"code:cell": V1}, problem="code that was typed is in no commit"),
        surroundings=Surroundings(python="3.11.7", platform="Linux-6.1.0-x86_64", packages={"numpy": "2.4.6"}),
        started=NOON,
        finished=NOON,
        parameters={"epochs": 3, "rate": "0.1", "api_key": "<redacted>"},
        redacted=["api_key"],
        inputs={"data/rows.csv": V2},
        outputs={"weights.npz": MODEL},
    )
    builder = Builder(id="https://chopmark.dev/builder/acme", version={"chopmark": "0.1.0", "python": "3.11.7"})
    return encode_statement(record_statement(record, builder=builder, invocation="0c7d2b1e"))


def _vectors() -> selftest.Vectors:
    case = selftest.Case(inputs=(0, 16, 3), expect=(981_200, 18_800), label=0)
    return selftest.Vectors(cases=(case,), tolerance=2_000)


def _note() -> bytes:
    lines = tuple(SignatureLine(name=key.name, key_id=key.key_id, signature=SIGNATURE) for key in LOG_KEYS)
    return SignedNote(text=Checkpoint(origin=ORIGIN, size=31, root=MODEL.value).encode(), signatures=lines).encode()


def _index_root() -> bytes:
    return IndexRoot(about=ABOUT_VERSION, checkpoint_note=_note(), root=V1.value).encode()


def _extension(data: bytes) -> object:
    return canonical.decode(data, what="sample", max_bytes=MAX_ROOT_BYTES)


FORMATS = (
    Format(
        title="Manifest",
        text="Every file of a dataset, model or package. Its SHA-256 is the package digest.",
        kind="RFC 8785",
        encoder="artifacts.Manifest.encode",
        decoder="artifacts.decode_manifest",
        max_bytes=8 * 1024 * 1024,
        make=MANIFEST.encode,
        check=decode_manifest,
    ),
    Format(
        title="Self-test",
        text="`self-test.json` in a package. Inputs are whole numbers; `expect` and `tolerance` are millionths.",
        kind="JSON",
        encoder="artifacts.selftest.encode_vectors",
        decoder="artifacts.selftest.decode_vectors",
        max_bytes=selftest.MAX_VECTORS_BYTES,
        make=lambda: selftest.encode_vectors(_vectors()),
        check=selftest.decode_vectors,
    ),
    Format(
        title="Envelope",
        text="DSSE. The payload is an in-toto Statement v1; a signature is over DSSE's pre-authentication encoding.",
        kind="JSON",
        encoder="statements.encode_envelope",
        decoder="statements.decode_envelope",
        max_bytes=4 * 1024 * 1024,
        make=lambda: encode_envelope(_envelope()),
        check=decode_envelope,
    ),
    Format(
        title="Recorded run",
        text="What `chopmark.record` leaves: SLSA provenance v1, with the build type and the dependencies of a build's. "
        "`recorder` tells it from one. The dependency `code` is there, with a `gitCommit`, where the commit says all about the "
        "code; else `code:…` name its parts, and `internalParameters.code` says why. A number with a fraction is text. "
        "`rewritten` lists files that were read, then written or removed; `leftOut` counts files that were touched and not recorded.",
        kind="RFC 8785",
        encoder="builds.record_statement",
        decoder="builds.decode_provenance",
        max_bytes=3 * 1024 * 1024,
        make=_recorded,
        check=lambda data: decode_provenance(decode_statement(data).predicate),
    ),
    Format(
        title="Release payload",
        text="What approvers sign; its SHA-256 is the release hash.",
        kind="RFC 8785",
        encoder="channel.release_statement, statements.encode_statement",
        decoder="channel.decode_release",
        max_bytes=3 * 1024 * 1024,
        make=lambda: _envelope().payload,
        check=lambda data: (decode_statement(data), decode_release(data)),
    ),
    Format(
        title="root.json",
        text="A TUF root. Its `x-chopmark`:",
        kind="TUF metadata",
        encoder="trust.build_root",
        decoder="trust.pinned_root, trust.next_root",
        max_bytes=MAX_ROOT_BYTES,
        make=_root_extension,
        check=_extension,
    ),
    Format(
        title="trust.json",
        text="Named by root.json by hash. Groups in `algorithms` are all required; within a group any one will do.",
        kind="RFC 8785",
        encoder="trust.encode_trust",
        decoder="trust.decode_trust, trust.open_trust",
        max_bytes=MAX_TRUST_BYTES,
        make=lambda: encode_trust(_trust()),
        check=decode_trust,
    ),
    Format(
        title="Trust proposal",
        text="What root owners sign in turn: `chopmark trust change` writes it. `root` and `targets` are TUF metadata with the "
        "signatures that they have so far, here without any and cut short; `trust` is the trust.json that root names, in RFC 8785 "
        "form. Nothing that is not signed may stand in it.",
        kind="RFC 8785",
        encoder="trust.change.encode_proposal",
        decoder="trust.change.decode_proposal, trust.change.check",
        max_bytes=MAX_PROPOSAL_BYTES,
        make=_proposal,
        check=lambda data: canonical.decode(data, what="sample", max_bytes=MAX_PROPOSAL_BYTES),
    ),
    Format(
        title="Status",
        text="`status.json`, TUF metadata of the delegated role `status`. Its `x-chopmark`:",
        kind="TUF metadata",
        encoder="channel.status_extension",
        decoder="channel.decode_status",
        max_bytes=MAX_TARGETS_BYTES,
        make=lambda: canonical.encode({"x-chopmark": status_extension(_status())}),
        check=lambda data: decode_status(_extension(data)["x-chopmark"], version=7),  # type: ignore[index]
    ),
    Format(
        title="Channel file",
        text="`<channel>.json`, TUF metadata of the role with the channel's name. Its `x-chopmark`:",
        kind="TUF metadata",
        encoder="channel.channel_extension",
        decoder="channel.decode_assignments",
        max_bytes=MAX_TARGETS_BYTES,
        make=lambda: canonical.encode(
            {
                "x-chopmark": channel_extension(
                    (Assignment(model="digits", runtime="onnxruntime", first=0, end=10_000, release=V2),)
                )
            }
        ),
        check=lambda data: decode_assignments(_extension(data)["x-chopmark"]),  # type: ignore[index]
    ),
    Format(
        title="Ledger entry of a statement",
        text="An envelope in a leaf. One that is longer than 60,000 bytes stands as `statement-digest` with its digest and "
        "length instead.",
        kind="RFC 8785",
        encoder="statements.statement_leaf",
        decoder="statements.decode_leaf",
        max_bytes=MAX_ENTRY_BYTES,
        make=lambda: statement_leaf(_envelope()),
        check=decode_leaf,
    ),
    Format(
        title="Ledger entry of a publication",
        text="Computed by every device from the snapshot.json that it was served.",
        kind="RFC 8785",
        encoder="statements.publication_leaf",
        decoder="statements.decode_leaf",
        max_bytes=MAX_ENTRY_BYTES,
        make=lambda: publication_leaf(Digest.of(b"snapshot")),
        check=decode_leaf,
    ),
    Format(
        title="Checkpoint",
        text="A C2SP signed note with one line per key of the log; witnesses add theirs.",
        kind="text",
        encoder="ledger.sign_checkpoint",
        decoder="ledger.decode_note, ledger.Checkpoint.decode",
        max_bytes=1024 * 1024,
        make=_note,
        check=decode_note,
        language="text",
    ),
    Format(
        title="Proof",
        text="`.tlog-proof`: an entry's index, the path to the root, the checkpoint.",
        kind="text",
        encoder="ledger.TlogProof.encode",
        decoder="ledger.TlogProof.decode, ledger.verify_proof",
        max_bytes=MAX_PROOF_BYTES,
        make=lambda: TlogProof(index=7, path=(V1.value, V2.value), checkpoint_note=_note()).encode(),
        check=TlogProof.decode,
        language="text",
    ),
    Format(
        title="Index root",
        text="An entry of an index's own log: the root of the map of the log at `checkpoint`. `about` names the function "
        "from entries to keys, `map` the hashes of the trie.",
        kind="RFC 8785",
        encoder="ledger.index.IndexRoot.encode",
        decoder="ledger.index.IndexRoot.decode",
        max_bytes=MAX_ENTRY_BYTES,
        make=_index_root,
        check=IndexRoot.decode,
    ),
    Format(
        title="Index answer",
        text="All entries about a key, the key's way through the map, the entry that published its root, and the proof of "
        "that entry. `leaf` is what stands at the end of the way, also where it is another key's; null: nothing.",
        kind="RFC 8785",
        encoder="ledger.index.Answer.encode",
        decoder="ledger.index.Answer.decode, ledger.index.verify_index_answer",
        max_bytes=MAX_ANSWER_BYTES,
        make=lambda: Answer(
            key="model:digits",
            indices=(3, 7),
            leaf=AnswerLeaf(key=key_hash("model:digits"), count=2, root=list_root((3, 7))),
            path=(V1.value, V2.value),
            entry=_index_root(),
            proof=TlogProof(index=0, path=(), checkpoint_note=_note()).encode(),
        ).encode(),
        check=Answer.decode,
    ),
    Format(
        title="Append",
        text="`POST /append` of a log's server: the body is the entry, at most 65,535 bytes of `application/octet-stream`; the "
        "answer is the entry's proof as above, `text/plain; charset=utf-8`, or with `Accept: application/json` this object. "
        "`size` is the proof's. 202 in the place of 200 says that no quorum saw that checkpoint yet. Errors are "
        "`code`, `message`, `hint`: 401, 413, 415, 429 and 503 with `Retry-After`; [the guide](../guides/run-a-ledger-server.md) "
        "says when.",
        kind="RFC 8785",
        encoder="the server",
        decoder="ledger.TlogProof.decode, ledger.verify_proof",
        max_bytes=MAX_PROOF_BYTES,
        make=lambda: canonical.encode({"index": 7, "size": 31, "proof": "c2sp.org/tlog-proof@v1\nindex 7\n…"}),
        check=lambda data: canonical.decode(data, what="sample", max_bytes=MAX_PROOF_BYTES),
    ),
    Format(
        title="Append tokens",
        text="`append-tokens.json` beside a log, mode 0600: who may append over HTTP. `sha256` is of the token's text, "
        "`chopmark-append-` and 256 random bits in base64url; `per_minute` 0 is any number. "
        "`chopmark ledger token` writes it, and the server reads it whenever it changes.",
        kind="RFC 8785",
        encoder="ledger.tokens.encode_tokens",
        decoder="ledger.tokens.decode_tokens",
        max_bytes=MAX_TOKENS_BYTES,
        make=lambda: encode_tokens(
            [AppendToken(name="ci", sha256=V1.value, created="2026-11-24T12:00:00Z", per_minute=600)]
        ),
        check=decode_tokens,
    ),
    Format(
        title="Report",
        text="What a device signs, here without its signature; its SHA-256 is what the next report names as `prev`.",
        kind="RFC 8785",
        encoder="telemetry.encode_report",
        decoder="telemetry.decode_report",
        max_bytes=MAX_REPORT_BYTES,
        make=lambda: encode_report(_report()),
        check=decode_report,
    ),
    Format(
        title="Signed report",
        text="What a device sends. The signature is over `chopmark-report-v1\\0` and the payload.",
        kind="JSON",
        encoder="telemetry.sign_report",
        decoder="telemetry.decode_signed_report, telemetry.verify_report",
        max_bytes=MAX_REPORT_BYTES,
        make=lambda: encode_signed_report(
            SignedReport(payload=encode_report(_report()), keyid=_ed25519(7).keyid, sig=SIGNATURE)
        ),
        check=decode_signed_report,
    ),
    Format(
        title="Adoption",
        text="A statement of the role `adopter`: a model that was there before, its origin unknown. The subject is the file's "
        "SHA-256. `source.name` is an address without user, password, query and fragment, a place in a folder, or a file's "
        "name. `until`, where it stands, is the adopter's own end.",
        kind="in-toto Statement v1",
        encoder="release.adopt.adoption_statement",
        decoder="release.adopt.read_adoption",
        max_bytes=MAX_ENTRY_BYTES,
        make=lambda: encode_statement(adoption_statement(_adoption())),
        check=lambda data: read_adoption(decode_statement(data)),
    ),
    Format(
        title="Dossier",
        text="`<name>.chopmark`: the life of one artifact in one file, from `chopmark release export`. An uncompressed tar "
        "(POSIX ustar) with these members and no others, in this order, each header spelt in one way, so that equal "
        "contents are equal bytes. `dossier.json` is a claim (`v`, `workspace`, `about`, `log`, `channel`); everything "
        "is verified from a root that the reader has from elsewhere. An entry is a ledger leaf and its C2SP tlog-proof, "
        "all in one checkpoint; `entries/<index>.envelope.json` stands before it where the leaf names an envelope by "
        "digest. `channel/` is one publication as it is served; `policies/` are files that decisions of the gate name. "
        "Files of the package are called by their SHA-256; `manifest.json` has their names. The length limit is for "
        "everything but the package's files, of which each has at most 8 GiB less one byte. The sample lists members and "
        "their lengths.",
        kind="tar",
        encoder="release.dossier.write_dossier",
        decoder="release.dossier.read_dossier",
        max_bytes=MAX_KEPT_BYTES,
        make=lambda: _listing(_dossier()),
        check=lambda _: read_dossier(io.BytesIO(_dossier())),
        language="text",
    ),
    Format(
        title="Device state",
        text="`state.json` of a device: what it remembers, and a MAC over it by a key of that device.",
        kind="RFC 8785",
        encoder="device.wire.encode_state",
        decoder="device.wire.decode_state",
        max_bytes=MAX_STATE_BYTES,
        make=lambda: encode_state(_state(), MAC_KEY),
        check=lambda data: decode_state(data, MAC_KEY),
    ),
    Format(
        title="ModelRelease",
        text="`models/<name>.yaml` in the release repository. `chopmark release propose` writes it; people change it; the "
        "payload is generated from it. Every member is in the payload, `policy` excepted.",
        kind="YAML",
        encoder="release.wire.encode_model_release",
        decoder="release.wire.decode_model_release",
        max_bytes=MAX_DOCUMENT_BYTES,
        make=lambda: encode_model_release(model_release(_release(), policy="default")),
        check=lambda data: decode_model_release(data, workspace="acme"),
        language="yaml",
    ),
    Format(
        title="Channel",
        text="`channels/<name>.yaml` in the release repository. A model of which no ring speaks runs, on every device, its "
        "current release; where rings speak of it, the first whose buckets hold a device decides.",
        kind="YAML",
        encoder="release.wire.encode_channel",
        decoder="release.wire.decode_channel",
        max_bytes=MAX_DOCUMENT_BYTES,
        make=lambda: encode_channel(
            Channel(
                name="production",
                rings=(Ring(model="digits", first=0, end=100, release=V2), Ring(model="digits", release=V1)),
            )
        ),
        check=decode_channel,
        language="yaml",
    ),
    Format(
        title="ReleasePolicy",
        text="`policies/<name>.yaml` in the release repository. Every rule must hold; one that cannot be evaluated does not. "
        "`facts` are verified statements, `release` is what is to be released, `approvals` (in rules of the phase `approval`) "
        "the owners that signed with every key their role asks for. `{approvals}` and `{release.<member>}` are filled into a "
        "message. `chopmark init` writes a policy of ten rules, with the members of facts and release in its first lines.",
        kind="YAML",
        encoder="people",
        decoder="policy.decode_policy",
        max_bytes=MAX_DOCUMENT_BYTES,
        make=lambda: POLICY,
        check=decode_policy,
        language="yaml",
    ),
)
