# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chopmark.adapters.kms.file import generate
from chopmark.errors import DecodeError, Refused, UsageError, VerificationError
from chopmark.keys import Algorithm
from chopmark.ledger import (
    Checkpoint,
    LineKind,
    SignedNote,
    TlogProof,
    VerifierKey,
    WitnessPolicy,
    check_growth,
    cosign,
    decode_note,
    leaf_hash,
    log_key,
    sign_checkpoint,
    sign_line,
    verify_checkpoint,
    verify_lines,
    verify_proof,
    witness_key,
)
from unit.ledger.kit import LOG_SIGNERS, ORIGIN, make_witness, policy_of

KEYS = [log_key(ORIGIN, signer.public) for signer in LOG_SIGNERS]
REQUIRE = [key.encode() for key in KEYS]
CHECKPOINT = Checkpoint(origin=ORIGIN, size=1, root=leaf_hash(b"entry"))
SIGNED = sign_checkpoint(CHECKPOINT, LOG_SIGNERS, timestamp=7)
WITNESSES = [generate(Algorithm.ED25519), generate(Algorithm.ML_DSA_44), generate(Algorithm.ED25519)]
NONE = WitnessPolicy.parse("quorum none\n")
TWO_OF_THREE = WitnessPolicy.parse(
    "".join(f"witness w{n} {witness_key(f'wit{n}', s.public).encode()}\n" for n, s in enumerate(WITNESSES))
    + "group g 2 w0 w1 w2\nquorum g\n"
)


def cosigned(*times, text=None, base=SIGNED):
    """The signed checkpoint with a line of witness n at times[n]; None leaves it out."""
    lines = [
        cosign(text or base.text, signer, f"wit{n}", timestamp=time)
        for n, (signer, time) in enumerate(zip(WITNESSES, times, strict=False))
        if time is not None
    ]
    return SignedNote(text=base.text, signatures=(*base.signatures, *lines))


def proof_of(note, index=0):
    return TlogProof(index=index, path=(), checkpoint_note=note.encode()).encode()


def check(note, *, policy=TWO_OF_THREE, require=REQUIRE, origin=ORIGIN, leaf=b"entry"):
    return verify_proof(proof_of(note), leaf, origin=origin, require=require, policy=policy)


def refused(code, *args, **kwargs):
    with pytest.raises(Refused) as caught:
        check(*args, **kwargs)
    assert caught.value.code == code
    return caught.value


def test_a_witnessed_entry():
    included = check(cosigned(100, 300, 200))
    assert included.index == 0
    assert included.checkpoint == CHECKPOINT
    assert included.cosigned_by == ("w0", "w1", "w2")
    assert int(included.cosigned_at.timestamp()) == 200  # two saw it at 200 or later
    assert check(SIGNED, policy=NONE).cosigned_at is None


def test_both_algorithms_of_the_log_are_required():
    for kept in (0, 1):
        half = SignedNote(text=SIGNED.text, signatures=(SIGNED.signatures[kept],))
        error = refused("log-unproven", half, policy=NONE)
        assert str(KEYS[1 - kept].kind.algorithm) in error.message
        # a note ignores unknown lines, so somebody who asks for one key is content with it
        assert check(half, policy=NONE, require=[REQUIRE[kept]])


def test_a_bad_line_of_a_known_key_voids_the_note():
    other = sign_checkpoint(Checkpoint(origin=ORIGIN, size=2, root=bytes(32)), LOG_SIGNERS, timestamp=7)
    bad = SignedNote(text=SIGNED.text, signatures=(*SIGNED.signatures, other.signatures[0]))
    refused("log-unproven", bad, policy=NONE)
    bad = cosigned(1, 2, 3, text=other.text)
    refused("log-unwitnessed", bad)


def test_quorum():
    refused("log-unwitnessed", SIGNED)
    refused("log-unwitnessed", cosigned(1))
    refused("log-unwitnessed", cosigned(None, 5))
    assert check(cosigned(1, None, 3)).cosigned_by == ("w0", "w2")


def test_one_witness_twice_is_one_witness():
    twice = cosigned(1)
    note = SignedNote(text=SIGNED.text, signatures=(*twice.signatures, *cosigned(2).signatures[2:]))
    refused("log-unwitnessed", note)


def test_times_no_calendar_has_count_as_none():
    assert check(cosigned(2**62, 5, None)).cosigned_at is None
    assert int(check(cosigned(2**62, 5, 6)).cosigned_at.timestamp()) == 5


def test_another_log_leaf_index_or_key():
    refused("log-unproven", cosigned(1, 2), origin="log.other")
    refused("log-unproven", cosigned(1, 2), leaf=b"other")
    with pytest.raises(Refused, match="not in a tree"):
        verify_proof(proof_of(SIGNED, index=1), b"entry", origin=ORIGIN, require=REQUIRE, policy=NONE)
    stranger = log_key(ORIGIN, generate(Algorithm.ED25519).public).encode()
    refused("log-unproven", SIGNED, policy=NONE, require=[stranger])
    with pytest.raises(Refused, match="tlog-proof"):
        verify_proof(b"", b"entry", origin=ORIGIN, require=REQUIRE, policy=NONE)


def test_nothing_required_is_a_fault_of_the_caller():
    for require in ([], ["nonsense"]):
        with pytest.raises(UsageError):
            check(SIGNED, policy=NONE, require=require)


def test_a_log_does_not_witness_itself():
    """The log's own ML-DSA line has the form of a cosignature: listing it as a witness does not make it one."""
    policy = WitnessPolicy.parse(f"witness self {REQUIRE[1]}\nquorum self\n")
    refused("log-unwitnessed", SIGNED, policy=policy)
    policy = WitnessPolicy.parse(f"witness self {witness_key('w', LOG_SIGNERS[0].public).encode()}\nquorum self\n")
    line = cosign(SIGNED.text, LOG_SIGNERS[0], "w", timestamp=4)
    refused("log-unwitnessed", SignedNote(text=SIGNED.text, signatures=(*SIGNED.signatures, line)), policy=policy)


def test_logs_that_the_policy_lists():
    stranger = log_key(ORIGIN, generate(Algorithm.ED25519).public).encode()
    assert check(SIGNED, policy=WitnessPolicy.parse(f"log {stranger}\nlog {REQUIRE[0]}\nquorum none\n"))
    refused("log-unproven", SIGNED, policy=WitnessPolicy.parse(f"log {stranger}\nquorum none\n"))


def test_extension_lines_are_kept_and_signed_by_ed25519_only():
    text = SIGNED.text + "an extension\n"
    lines = tuple(sign_line(key, signer, text, timestamp=7) for key, signer in zip(KEYS, LOG_SIGNERS, strict=True))
    seen = verify_checkpoint(
        SignedNote(text=text, signatures=lines).encode(), origin=ORIGIN, require=REQUIRE, policy=NONE
    )
    assert seen.checkpoint.extensions == ("an extension",)
    with pytest.raises(VerificationError):
        verify_lines(SIGNED.text, lines[:1], KEYS)
    assert verify_lines(SIGNED.text, lines[1:], KEYS)
    with pytest.raises(UsageError):
        sign_checkpoint(seen.checkpoint, LOG_SIGNERS, timestamp=7)


def test_growth():
    larger = Checkpoint(origin=ORIGIN, size=2, root=bytes(32))
    check_growth(CHECKPOINT, CHECKPOINT)
    check_growth(CHECKPOINT, larger)
    with pytest.raises(Refused) as caught:
        check_growth(larger, CHECKPOINT)
    assert caught.value.code == "log-rollback"
    with pytest.raises(Refused) as caught:
        check_growth(larger, Checkpoint(origin=ORIGIN, size=2, root=b"\1" * 32))
    assert caught.value.code == "log-fork"
    assert caught.value.evidence["seen"] == larger.encode()
    with pytest.raises(UsageError):
        check_growth(larger, Checkpoint(origin="other", size=2, root=bytes(32)))


def test_note_limits_and_shapes():
    line = SIGNED.signatures[0].encode()
    decode_note((SIGNED.text + "\n" + line * 16).encode())
    bad = [
        b"",
        b"text\n",
        b"text\n\n",
        SIGNED.text.encode() + b"\n",
        (SIGNED.text + "\n" + line * 65).encode(),
        (SIGNED.text + "\n" + line[:-1]).encode(),
        (SIGNED.text + "\n" + line + "\n").encode(),
        (SIGNED.text + "\n" + line.replace("— ", "- ")).encode(),
        (SIGNED.text + "\n" + line.replace(ORIGIN, "a b")).encode(),
        (SIGNED.text + "\n" + line.replace(ORIGIN, "a+b")).encode(),
        (SIGNED.text + "\n" + line.replace(ORIGIN, "a\N{NO-BREAK SPACE}b")).encode(),
        ("\x01" + SIGNED.text + "\n" + line).encode(),
        (SIGNED.text + "\r\n\n" + line).encode(),
        b"\xff" + SIGNED.encode(),
        f"{SIGNED.text}\n— {ORIGIN} AAAAAA==\n".encode(),
        f"{SIGNED.text}\n— {ORIGIN} AAAAAAB=\n".encode(),
        b"a" * 2**20 + SIGNED.encode(),
    ]
    for data in bad:
        with pytest.raises(DecodeError):
            decode_note(data)
    assert decode_note(f"a\n\nb\n\n{line}".encode()).text == "a\n\nb\n"


def test_checkpoint_shapes():
    good = CHECKPOINT.encode()
    assert Checkpoint.decode(good) == CHECKPOINT
    origin, size, root, _ = good.split("\n")
    for text in (
        "",
        good[:-1],
        f"\n{size}\n{root}\n",
        f"{origin}\n01\n{root}\n",
        f"{origin}\n-1\n{root}\n",
        f"{origin}\n\N{ARABIC-INDIC DIGIT ONE}\n{root}\n",
        f"{origin}\n{2**63}\n{root}\n",
        f"{origin}\n{size}\n{root[:-1]}\n",
        f"{origin}\n{size}\nAAAA\n",
        f"{origin}\n{size}\n{root}\n\n",
        f"{'o' * 256}\n{size}\n{root}\n",
    ):
        with pytest.raises(DecodeError):
            Checkpoint.decode(text)


def test_keys_fit_their_kind():
    with pytest.raises(UsageError):
        VerifierKey(name="n", kind=LineKind.ML_DSA_44, public=LOG_SIGNERS[0].public)
    with pytest.raises(UsageError):
        log_key("n", generate(Algorithm.ECDSA_P256).public)
    with pytest.raises(UsageError):
        cosign(SIGNED.text, WITNESSES[0], "w", timestamp=0)
    with pytest.raises(UsageError):
        sign_line(KEYS[0], WITNESSES[0], SIGNED.text)
    with pytest.raises(UsageError):
        sign_checkpoint(CHECKPOINT, [], timestamp=1)
    with pytest.raises(DecodeError):
        cosign("no checkpoint\n", WITNESSES[0], "w", timestamp=1)


def test_two_keys_with_one_name_and_id_are_ambiguous(monkeypatch):
    stranger = log_key(ORIGIN, WITNESSES[0].public)
    assert len(verify_lines(SIGNED.text, SIGNED.signatures, [*KEYS, stranger])) == 2
    monkeypatch.setattr(VerifierKey, "key_id", b"same")
    with pytest.raises(UsageError, match="two keys"):
        verify_lines(SIGNED.text, SIGNED.signatures, [KEYS[0], stranger])


POLICY_KEYS = [witness.verifier_keys[0].encode() for witness in (make_witness(f"w{n}", []) for n in range(6))]


def test_policy_of_the_specification():
    lines = [
        f"witness {name} {key}" for name, key in zip(("X1", "X2", "X3", "Y1", "Y2", "Y3"), POLICY_KEYS, strict=True)
    ]
    text = "\n".join(
        [
            "# a comment",
            f"\tlog {REQUIRE[0]} https://log.example/  ",
            "",
            *lines[:3],
            "group X-witnesses 2 X1 X2 X3",
            *lines[3:],
            "group Y-witnesses any Y1 Y2 Y3",
            "group X-and-Y all X-witnesses Y-witnesses",
            "quorum X-and-Y",
            "",
        ]
    )
    policy = WitnessPolicy.parse(text)
    assert policy == WitnessPolicy.parse(text.encode())
    assert policy.logs[0].url == "https://log.example/"
    assert policy.satisfied({"X1", "X3", "Y2"})
    for few in (set(), {"X1", "Y1"}, {"X1", "X2", "X3"}, {"Y1", "Y2", "Y3"}, {"X-and-Y"}):
        assert not policy.satisfied(few)
    assert policy.since({"X1": 10, "X2": 20, "X3": 30, "Y1": 5, "Y2": 25}) == 20
    assert policy.since({"X1": 10, "X2": 20, "Y1": 0}) is None


def test_policies_that_are_none():
    w, v = f"witness a {POLICY_KEYS[0]}\n", f"witness b {POLICY_KEYS[1]}\n"
    for text in (
        "",
        "\n",
        w,
        "quorum none",
        "quorum none\nquorum none\n",
        "quorum a\n",
        w + "quorum b\n",
        w + w + "quorum a\n",
        w + f"witness b {POLICY_KEYS[0]}\nquorum a\n",
        w + v + "group a 1 b\nquorum a\n",
        w + "group g 2 a\nquorum g\n",
        w + "group g 0 a\nquorum g\n",
        w + "group g 01 a\nquorum g\n",
        w + "group g some a\nquorum g\n",
        w + "group g any\nquorum g\n",
        w + v + "group g any a a\nquorum g\n",
        w + v + "group g any a\ngroup h any a b\nquorum h\n",
        w + "group g any h\ngroup h any a\nquorum g\n",
        w + "group g any none\nquorum g\n",
        f"witness none {POLICY_KEYS[0]}\nquorum none\n",
        f"witness a {REQUIRE[0]}\nquorum a\n",
        f"log {POLICY_KEYS[0]}\nquorum none\n",
        f"log {REQUIRE[0]}\nlog {REQUIRE[0]}\nquorum none\n",
        "quorum none\r\n",
        "quorum none # comment\n",
        "witnesses a b\nquorum none\n",
        "log\nquorum none\n",
    ):
        with pytest.raises(DecodeError):
            WitnessPolicy.parse(text)


def test_policy_names_are_bytes():
    text = f"witness K {POLICY_KEYS[0]}\nwitness \N{KELVIN SIGN} {POLICY_KEYS[1]}\nquorum \N{KELVIN SIGN}\n"
    policy = WitnessPolicy.parse(text)
    assert policy.satisfied({"\N{KELVIN SIGN}"})
    assert not policy.satisfied({"K"})
    odd = WitnessPolicy.parse(f"witness \udcff {POLICY_KEYS[0]}\nquorum \udcff\n")
    assert odd.satisfied({"\udcff"})


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5), st.sets(st.integers(0, 4)))
def test_k_of_n(k, who):
    policy = policy_of([make_witness(f"w{n}", []) for n in range(5)], k)
    assert policy.satisfied({f"w{n}" for n in who}) == (len(who) >= k)
