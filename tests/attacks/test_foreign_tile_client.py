# SPDX-License-Identifier: Apache-2.0
"""Other people's C2SP software meets a Chopmark ledger: it reads what we export, cosigns what we log, logs what we cosign.

Readers, none of them ours: tlog-scales and aics-tlog (Python), torchwood with ML-DSA-44 by filippo.io/mldsa, Tessera's
client and Tessera's fsck (Go). Witnesses: aics-witness and litewitness. Logs that ask our witness: the feeder of
aics-witness, and Tessera. A reader that accepts everything would prove nothing, so each is also shown damaged files.
"""

from __future__ import annotations

import base64
import json
import shutil
import sqlite3

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from attacks.foreign import kit
from chopmark.adapters.http.witness import HttpWitness
from chopmark.adapters.kms import file as kms
from chopmark.adapters.sql import witness as sql_witness
from chopmark.errors import Refused
from chopmark.keys import Algorithm
from chopmark.ledger import EMPTY_ROOT, WitnessPolicy, log_key, verify_checkpoint, verify_proof, witness_key
from chopmark.ledger.feed import feed
from chopmark.ledger.place import write_witness_config
from unit.fleet.kit import ORIGIN as SERVICE_ORIGIN
from unit.ledger.kit import LOG_SIGNERS, ORIGIN, DirectClient, close, make_ledger, make_witness
from unit.service.kit import found_workspace, running

pytestmark = pytest.mark.slow

HALF, ALL = 300, 600
# The shortest entry, the longest, bytes that are no text; and both sides of every tile's edge.
ENTRIES = [b"", bytes(65_535), *(b"\x00\xff\n\n entry %d" % n for n in range(2, ALL))]
SAMPLES = (0, 1, 5, 255, 256, 300, 511, 512, 599)
LOG_VKEY = log_key(ORIGIN, LOG_SIGNERS[0].public).encode()
READERS = ("scales", "aics", "torchwood", "tessera", "fsck")


@pytest.fixture(scope="module")
def scales_bin(tmp_path_factory):
    return kit.install_python(tmp_path_factory.mktemp("scales") / "venv", packages=[kit.SCALES])


@pytest.fixture(scope="module")
def aics_bin(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aics") / "venv"
    return kit.install_python(folder, packages=["cryptography"], needs_other_python=kit.AICS)


@pytest.fixture(scope="module")
def go_bin(tmp_path_factory):
    return kit.install_go(tmp_path_factory.mktemp("go"))


@pytest.fixture
def reader(request):
    """One of READERS; only what it needs is installed."""
    match request.param:
        case "scales":
            return kit.scales(request.getfixturevalue("scales_bin"))
        case "aics":
            return kit.aics(request.getfixturevalue("aics_bin"))
        case name:
            return kit.go_reader(request.getfixturevalue("go_bin"), name)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A log of 600 entries with two witnesses, exported at 300 and again at 600; and the plan for its readers."""
    folder = tmp_path_factory.mktemp("log")
    ledger = make_ledger(folder)
    witnesses = [make_witness(f"w.example/{n}", ledger.verifier_keys) for n in range(2)]
    vkeys = [witness.verifier_keys[0].encode() for witness in witnesses]
    policy = f"log {ledger.verifier_keys[0].encode()}\n"
    policy += "".join(f"witness w{n} {vkey}\n" for n, vkey in enumerate(vkeys)) + "group both 2 w0 w1\nquorum both\n"
    clients = {f"w{n}": DirectClient(witness) for n, witness in enumerate(witnesses)}
    ledger.append(ENTRIES[:HALF])
    old = feed(ledger, WitnessPolicy.parse(policy), clients).note
    ledger.export(folder / "export")
    ledger.append(ENTRIES[HALF:])
    feed(ledger, WitnessPolicy.parse(policy), clients)
    ledger.export(folder / "export")
    write_plan(folder, ledger, policy=policy, witnesses=vkeys, old=old, entries=ENTRIES, samples=SAMPLES)
    yield folder
    close(ledger)


def write_plan(folder, ledger, *, policy, witnesses, old, entries, samples):
    plan = {
        "origin": ledger.origin,
        "ed25519": ledger.verifier_keys[0].encode(),
        "ml_dsa_44": ledger.verifier_keys[1].encode(),
        "policy": policy,
        "witnesses": witnesses,
        "old": old.decode(),
        "entries": [entry.hex() for entry in entries],
        "proofs": {index: ledger.prove(index).decode() for index in samples},
    }
    (folder / "plan.json").write_text(json.dumps(plan))


@pytest.mark.parametrize("reader", READERS, indirect=True)
def test_they_read_our_log(reader, log):
    with kit.served(log / "export") as url:
        verdict = reader(url, log / "plan.json")
    assert verdict.verified, verdict.words


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def replace(path, old, new):
    path.write_bytes(path.read_bytes().replace(old, new))


def spoil(note, line, at):
    """Change one character of base64, so that it stays base64."""
    lines = note.read_text(encoding="utf-8").split("\n")
    text = lines[line]
    lines[line] = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
    note.write_text("\n".join(lines), encoding="utf-8")


DAMAGE = {
    "a hash in a full tile": lambda log: flip(log / "tile/0/000", 5 * 32),
    "a hash in a partial tile": lambda log: flip(log / "tile/0/002.p/88", 87 * 32),
    "a hash in a tile above": lambda log: flip(log / "tile/1/000.p/2", 3),
    "an entry": lambda log: flip(log / "tile/entries/001", 10),
    "the last entry": lambda log: flip(log / "tile/entries/002.p/88", -1),
    "a tile cut short": lambda log: (log / "tile/0/001").write_bytes((log / "tile/0/001").read_bytes()[:-32]),
    "no tile": lambda log: (log / "tile/0/000").unlink(),
    "the size": lambda log: replace(log / "checkpoint", b"\n600\n", b"\n599\n"),
    "the root": lambda log: spoil(log / "checkpoint", 2, 10),
    "the log's Ed25519 signature": lambda log: spoil(log / "checkpoint", 4, 60),
    "the log's ML-DSA-44 signature": lambda log: spoil(log / "checkpoint", 5, 2000),
    "a witness's signature": lambda log: spoil(log / "checkpoint", 7, 60),
}
# What a reader does not look at by its own rules. Signed-note says: pass over lines of unknown keys. A reader that knows
# Ed25519 alone is therefore not what we call verifying: ours requires both lines.
PASSED_OVER = {
    ("aics", "the log's ML-DSA-44 signature"),
    *((reader, f"{who} signature") for reader in ("tessera", "fsck") for who in ("the log's ML-DSA-44", "a witness's")),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("reader", READERS, indirect=True)
def test_they_refuse_a_damaged_log(reader, log, damage, tmp_path, request):
    shutil.copytree(log / "export", tmp_path / "export")
    shutil.copy(log / "plan.json", tmp_path)
    DAMAGE[damage](tmp_path / "export")
    with kit.served(tmp_path / "export") as url:
        verdict = reader(url, tmp_path / "plan.json")
    passed_over = (request.node.callspec.params["reader"], damage) in PASSED_OVER
    assert verdict.verified is passed_over, verdict.words


def test_they_make_the_same_proofs(scales_bin, log):
    plan = json.loads((log / "plan.json").read_text())
    for index in SAMPLES:
        made = kit.run(scales_bin / "tlog-tiles", "gen-proof", f"{log}/export", str(index)).words
        assert made == plan["proofs"][str(index)]
        keys = [plan["ed25519"], plan["ml_dsa_44"]]
        policy = WitnessPolicy.parse(plan["policy"])
        found = verify_proof(made.encode(), ENTRIES[index], origin=ORIGIN, require=keys, policy=policy)
        assert found.index == index


@pytest.mark.parametrize("reader", ["scales", "torchwood", "tessera", "fsck"], indirect=True)
def test_they_read_what_the_service_serves(reader, tmp_path):
    made = found_workspace(tmp_path / "workspace")
    policy = f"log {made.ledger.verifier_keys[0].encode()}\nquorum none\n"
    old = feed(made.ledger, WitnessPolicy.parse(policy), {}).note
    made.ledger.append(ENTRIES)
    feed(made.ledger, WitnessPolicy.parse(policy), {})
    entries = [b"one", b"two", b"three", *ENTRIES]
    write_plan(tmp_path, made.ledger, policy=policy, witnesses=[], old=old, entries=entries, samples=SAMPLES)
    argv = ("service", "--workspace", str(made.workspace.folder), "--create", "--public-entries")
    with running(*argv) as (_, url):
        verdict = reader(f"{url}/ledger/", tmp_path / "plan.json")
    assert verdict.verified, verdict.words
    close(made.ledger)


@pytest.fixture
def aics_witness(aics_bin, tmp_path):
    """Run aics-witness, which knows the log's Ed25519 key; give its vkey and address."""
    config = tmp_path / "witness.json"
    vkey = kit.run(aics_bin / "aics-witness", "init", "--config", config, "--name", "w.example/aics").words.strip()
    kit.run(aics_bin / "aics-witness", "add-log", "--config", config, "--origin", ORIGIN, "--vkey", LOG_VKEY)
    argv = [aics_bin / "aics-witness", "serve", "--config", config, "--listen", "127.0.0.1:0"]
    with kit.running(argv) as process:
        line = kit.wait_for(process, "listening on ")
        yield vkey, line.split("listening on ")[1].split()[0]


@pytest.fixture
def litewitness(tmp_path_factory):
    """Run litewitness with a key in an agent of its own; give its vkey and address."""
    folder = tmp_path_factory.mktemp("lite")
    programs = kit.install_go(folder / "go", packages=[".", kit.LITEWITNESS])
    address = f"127.0.0.1:{kit.free_port()}"
    with kit.running([programs / "foreign", "agent", folder / "s"]) as agent:
        key = kit.wait_for(agent, "SHA256:").strip()
        argv = [programs / "litewitness", "-name=w.example/lite", f"-db={folder}/db", f"-ssh-agent={folder}/s"]
        with kit.running([*argv, f"-listen={address}", f"-key={key}"]) as process:
            vkey = kit.wait_for(process, "vkey=").split("vkey=")[1].strip()
            kit.wait_for(process, "listening")
            # As its witnessctl does, which needs a module that not every mirror has.
            with sqlite3.connect(folder / "db") as db:
                empty = base64.b64encode(EMPTY_ROOT).decode()
                db.execute("INSERT INTO log (origin, tree_size, tree_hash) VALUES (?, 0, ?)", (ORIGIN, empty))
                db.execute("INSERT INTO key (origin, key) VALUES (?, ?)", (ORIGIN, LOG_VKEY))
            db.close()
            yield vkey, f"http://{address}"


@pytest.mark.parametrize("witness", ["aics_witness", "litewitness"])
def test_they_cosign_our_log(witness, request, tmp_path):
    vkey, url = request.getfixturevalue(witness)
    policy = WitnessPolicy.parse(f"witness w {vkey}\nquorum w\n")
    clients = {"w": HttpWitness(url)}
    folders = [tmp_path / name for name in ("log", "small", "fork")]
    for folder in folders:
        folder.mkdir()
    ledger, small, fork = map(make_ledger, folders)
    for size in (1, HALF, HALF, ALL):
        ledger.append(ENTRIES[:size])
        fed = feed(ledger, policy, clients)
        assert (fed.witnessed.checkpoint.size, fed.failed) == (size, {})
    small.append(ENTRIES[:HALF])
    with pytest.raises(Refused, match="0 of the 1 witnesses") as refused:
        feed(small, policy, clients)
    assert refused.value.evidence["failed"]["w"].startswith("it has seen 600 entries")
    fork.append([b"another past", *ENTRIES])
    with pytest.raises(Refused, match="0 of the 1 witnesses") as refused:
        feed(fork, policy, clients)
    assert refused.value.evidence["failed"]["w"].startswith("it answered 422")
    for log in (ledger, small, fork):
        close(log)


def own_witness(folder, *, logs):
    """Make a witness of its own with two keys; return its vkeys."""
    algorithms = (Algorithm.ED25519, Algorithm.ML_DSA_44)
    public = [kms.create(folder / "keys" / f"{each}.pem", each).public for each in algorithms]
    (folder / "witness.toml").write_bytes(write_witness_config("w.example/own", logs))
    sql_witness.create(folder / "witness.db").close()
    return [witness_key("w.example/own", each).encode() for each in public]


def test_they_feed_our_witness(aics_bin, tmp_path):
    made = found_workspace(tmp_path / "workspace")
    vkey = witness_key("witness-1", made.keys["witness-1"][0].public).encode()
    policy = WitnessPolicy.parse(f"witness w {vkey}\nquorum w\n")
    require = [key.encode() for key in made.ledger.verifier_keys]

    def submit(folder):
        return kit.run(aics_bin / "python", kit.HERE / "feeder.py", folder, url, vkey, tmp_path / "state.json")

    arguments = ("witness", "--workspace", str(made.workspace.folder), "--name", "witness-1", "--create")
    with running(*arguments) as (_, url):
        for size in (3, HALF + 3, ALL + 3):
            made.ledger.append(ENTRIES[: size - 3])
            made.ledger.export(tmp_path / "export")
            fed = submit(tmp_path / "export")
            note = (tmp_path / "export/checkpoint").read_bytes() + fed.words.encode()
            found = verify_checkpoint(note, origin=SERVICE_ORIGIN, require=require, policy=policy)
            assert (found.checkpoint.size, found.cosigned_by) == (size, ("w",))
        (tmp_path / "fork").mkdir()
        fork = make_ledger(tmp_path / "fork", signers=made.keys["log"], origin=SERVICE_ORIGIN)
        fork.append([b"another past", *ENTRIES, b"and", b"a longer", b"one"])
        fork.export(tmp_path / "fork/export")
        (tmp_path / "state.json").unlink()
        assert "answered 422: invalid consistency proof" in submit(tmp_path / "fork/export").words
    close(made.ledger)
    close(fork)


def test_our_witness_cosigns_a_tessera_log_with_the_same_tiles(go_bin, tmp_path):
    made = found_workspace(tmp_path / "workspace")
    pem = (made.workspace.state / "keys/log/ed25519.pem").read_bytes()
    seed = load_pem_private_key(pem, None).private_bytes_raw()
    log_vkey = made.ledger.verifier_keys[0]
    signer = f"PRIVATE+KEY+{SERVICE_ORIGIN}+{log_vkey.key_id.hex()}+{base64.b64encode(bytes([1]) + seed).decode()}"
    vkey = own_witness(tmp_path / "witness", logs=[log_vkey.encode()])[0]  # Tessera signs with this key alone
    with running("witness", "--folder", str(tmp_path / "witness")) as (_, url):
        policy = f"witness w {vkey} {url}\nquorum w\n"
        for entries in (ENTRIES[:HALF], ENTRIES[HALF:]):
            wanted = {"signer": signer, "policy": policy, "entries": [entry.hex() for entry in entries]}
            verdict = kit.run(go_bin / "foreign", "log", tmp_path / "tessera", input=json.dumps(wanted))
            assert verdict.verified, verdict.words
    (tmp_path / "ours").mkdir()
    ours = make_ledger(tmp_path / "ours", origin=SERVICE_ORIGIN)
    ours.append(ENTRIES)
    ours.export(tmp_path / "ours/export")
    note = (tmp_path / "tessera/checkpoint").read_bytes()
    require = [log_vkey.encode()]
    found = verify_checkpoint(note, origin=SERVICE_ORIGIN, require=require, policy=WitnessPolicy.parse(policy))
    assert found.checkpoint == ours.checkpoint
    tiles = [path.relative_to(tmp_path / "ours/export") for path in (tmp_path / "ours/export/tile").rglob("*")]
    for path in tiles:
        theirs = tmp_path / "tessera" / path
        assert theirs.is_dir() or theirs.read_bytes() == (tmp_path / "ours/export" / path).read_bytes(), path
    assert len([path for path in tiles if (tmp_path / "tessera" / path).is_file()]) == 7
    close(made.ledger)
    close(ours)
