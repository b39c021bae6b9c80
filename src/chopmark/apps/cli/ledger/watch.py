# SPDX-License-Identifier: Apache-2.0
"""Who watches a log: witnesses that cosign its growth, and the feeder that asks them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chopmark.apps.cli.render import Answer, answers, bad, good, say

if TYPE_CHECKING:
    from chopmark.apps.cli.wiring import LogSite
    from chopmark.ledger import VerifierKey
    from chopmark.ledger.feed import Fed
    from chopmark.ledger.place import WitnessPlace
    from chopmark.ledger.ports import WitnessClient

_CLOCKS_DIFFER_S = 300
"""A cosignature that is dated later than this from now has a wrong clock."""
_PATH = click.Path(path_type=Path)


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True}, add_help_option=False)
@click.pass_context
def witness(ctx: click.Context) -> None:
    """Run the nearest witness: one of its own (witness.toml), or the workspace's. A process with its own key and folder.

    The set of logs is read when it starts: restart it after a change of witness.toml.

    \b
    Example:
        chopmark ledger witness
        chopmark ledger witness --host 0.0.0.0 --port 8450 --certificate w1.pem --key w1.key
    """
    from chopmark.apps.cli.services import start_own_witness, start_service
    from chopmark.ledger.place import WITNESS_CONFIG, find_either, read_witness_place
    from chopmark.release.workspace import CONFIG

    folder, config = find_either(ctx.obj, WITNESS_CONFIG, CONFIG)
    if config == CONFIG:
        start_service("witness", ctx)
    else:
        start_own_witness(folder, _port(read_witness_place(folder)), ctx)


def _port(place: WitnessPlace) -> int:
    """Return the port in the witness's address; 0, for any free one, where it has none."""
    from urllib.parse import urlsplit

    from chopmark.errors import UsageError

    try:
        return urlsplit(place.url).port or 0
    except ValueError as error:
        raise UsageError(f"{place.url[:80]}: is no address", hint=f"mend url in {place.folder}/witness.toml") from error


@click.command("create-witness")
@click.argument("folder", type=_PATH)
@click.option("--name", required=True, help="Its key name for ever, e.g. witness.example/w1 (no https://).")
@click.option("--log", "logs", required=True, multiple=True, help="A log's vkey; again for each further key or log.")
@click.option("--any-key", multiple=True, help="An origin of which a line by any one key is enough.")
@click.option("--ml-dsa", is_flag=True, help="Also an ML-DSA-44 key; policies can then ask for both.")
@click.option("--url", default="", help="Where logs will reach it, e.g. https://w1.example.")
@answers
def create_witness(
    folder: Path, name: str, logs: tuple[str, ...], any_key: tuple[str, ...], *, ml_dsa: bool, url: str
) -> Answer:
    """Make a witness in FOLDER: its keys, its memory, witness.toml. Prints the lines for the policy of the logs.

    It cosigns a checkpoint that carries a line by every key of the log that it is given.

    \b
    Example:
        chopmark ledger create-witness w1 --name witness.example/w1 --log VKEY --log VKEY --url https://w1.example
        cd w1 && chopmark ledger witness
    """
    from chopmark.apps.cli.wiring import create_witness as create
    from chopmark.apps.cli.wiring import open_witness
    from chopmark.keys import Algorithm

    algorithms = [Algorithm.ED25519, *([Algorithm.ML_DSA_44] if ml_dsa else [])]
    place = create(folder, name=name, logs=logs, any_key=any_key, url=url, algorithms=algorithms)
    made = open_witness(place.folder)
    lines = _policy_lines(place, made.verifier_keys)
    say(good(f"{place.name} in {place.folder}; it knows {', '.join(place.logs)}"))
    say("  its keys lie in keys/, what it cosigned in witness.db: never restore that from a backup")
    say("  for policy.txt of these logs:")
    data = {"ok": True, "folder": str(place.folder), "name": name, "logs": list(place.logs), "policy": lines}
    return data, lines


def _policy_lines(place: WitnessPlace, keys: Sequence[VerifierKey]) -> list[str]:
    """Return what names a witness in a tlog-policy; with two keys, both are needed."""
    end = f" {place.url}" if place.url else ""
    if len(keys) == 1:
        return [f"witness {place.name} {keys[0].encode()}{end}"]
    names = {f"{place.name}-{key.kind.algorithm}": key for key in keys}
    lines = [f"witness {name} {key.encode()}{end}" for name, key in names.items()]
    return [*lines, f"group {place.name} all {' '.join(names)}"]


@click.command()
@click.argument("request", type=_PATH)
@click.option("--out", type=_PATH, required=True, help="Write the cosigned checkpoint here, to be carried back.")
@click.pass_obj
@answers
def cosign(start: Path, request: Path, out: Path) -> Answer:
    """Cosign a REQUEST that was carried here, with the nearest witness: its checks and its memory, without a network.

    \b
    Example:
        chopmark ledger cosign request.txt --out answer.txt
    """
    from chopmark.apps.cli.wiring import open_witness
    from chopmark.artifacts import read_file, write_file
    from chopmark.ledger import Checkpoint, decode_note
    from chopmark.ledger.carry import MAX_ANSWER_BYTES, answer_to

    answer = answer_to(open_witness(start), read_file(request, max_bytes=MAX_ANSWER_BYTES))
    write_file(out, answer)
    point = Checkpoint.decode(decode_note(answer).text)
    data = {"ok": True, "origin": point.origin, "size": point.size, "root": point.root.hex(), "answer": str(out)}
    return data, [good(f"cosigned {point.origin} at {point.size} entries: {out}")]


@click.command()
@click.option(
    "--every", "every_s", type=click.FloatRange(min=1), help="Ask again every so many seconds, until stopped."
)
@click.option("--refresh", "refresh_s", default=600.0, show_default=True, help="Seconds a cosignature stays fresh.")
@click.option("--metrics", type=_PATH, help="Write what came of it here as JSON, each time.")
@click.option("--out", type=_PATH, help="Write a request to carry to a witness without a network.")
@click.option("--for", "name", help="The witness that the request is for; default: the one without an address.")
@click.option("--old", type=click.IntRange(min=0), help="How many entries that witness has seen, if it said so.")
@click.option("--answer", "carried", type=_PATH, multiple=True, help="Take an answer that was carried back.")
@click.pass_obj
@answers
def feed(
    start: Path,
    every_s: float | None,
    refresh_s: float,
    metrics: Path | None,
    out: Path | None,
    name: str | None,
    old: int | None,
    carried: tuple[Path, ...],
) -> Answer:
    """Have the newest checkpoint cosigned by the witnesses of the policy; a log that does not grow too, when it is due.

    Appending never waits for this. Where too few cosign, it says which and why, and exits with 3; devices go on with the
    last checkpoint that a quorum saw, as long as they may.

    \b
    Example:
        chopmark ledger feed
        chopmark ledger feed --every 60 --metrics feed.json
        chopmark ledger feed --out request.txt
        chopmark ledger feed --answer answer.txt
    """
    from chopmark.apps.cli.wiring import LogSite

    if sum((every_s is not None, out is not None, bool(carried))) > 1:
        raise click.UsageError("--every, --out and --answer are three ways to do it: choose one")
    site = LogSite.at(start)
    if out is not None:
        return _write_request(site, out, name or _without_address(site), old)
    if carried:
        return _take(site, carried)
    if every_s is not None:
        return _loop(site, every_s, refresh_s, metrics)
    data = _turn(site, site.witnesses(), refresh_s, metrics)
    if not data["ok"]:
        raise _unwitnessed(data)
    return data, _shown(data)


def _turn(
    site: LogSite, clients: Mapping[str, WitnessClient], refresh_s: float, metrics: Path | None
) -> dict[str, object]:
    """Ask once; say what came of it. Too few witnesses are an answer here, not an error."""
    from chopmark.artifacts import write_file
    from chopmark.canonical import encode
    from chopmark.errors import Refused
    from chopmark.ledger.feed import Fresh
    from chopmark.ledger.feed import feed as ask

    now = int(site.clock.now().timestamp())
    fresh = Fresh(since=now - int(refresh_s), until=now + _CLOCKS_DIFFER_S)
    try:
        data = _result(site, ask(site.ledger, site.place.policy, clients, fresh=fresh))
    except Refused as error:
        if error.code != "log-unwitnessed":
            raise
        failed = error.evidence.get("failed", {})
        data = {"ok": False, "size": site.ledger.checkpoint.size, "why": error.message, "failed": failed}
    data["seconds_since_quorum"] = _since_quorum(site, now)
    if metrics is not None:
        write_file(metrics, encode(data) + b"\n")
    return data


def _result(site: LogSite, fed: Fed) -> dict[str, object]:
    from chopmark.ledger import witnessed_by

    seen = fed.witnessed
    phrase = witnessed_by(site.place.policy, seen.cosigned_by, site.place.external)
    data = {"ok": True, "size": seen.checkpoint.size, "cosigned_by": list(seen.cosigned_by), "witnessed": phrase}
    return {**data, "failed": dict(fed.failed)}


def _since_quorum(site: LogSite, now: int) -> int | None:
    """Return how old the witnesses' word is that devices have; None where there is none, or none is asked for."""
    from chopmark.ledger.feed import last_quorum

    since = last_quorum(site.ledger, site.place.policy)
    return None if since is None else max(0, now - int(since.timestamp()))


def _shown(data: Mapping[str, object]) -> Iterator[str]:
    if data["ok"]:
        yield good(f"{data['size']:,} entries; {data['witnessed']}")
    else:
        age = data["seconds_since_quorum"]
        yield bad(f"{data['why']}; the last quorum was {'never' if age is None else f'{age} s ago'}")
    failed = data["failed"]
    if isinstance(failed, Mapping):
        yield from (bad(f"{name}: {why}") for name, why in failed.items())


def _unwitnessed(data: Mapping[str, object]) -> Exception:
    from chopmark.errors import UndecidedError

    for line in list(_shown(data))[1:]:
        say(line)
    evidence = {name: data[name] for name in ("size", "failed", "seconds_since_quorum")}
    hint = "the log goes on without them; look at each witness, or at the policy"
    return UndecidedError(str(data["why"]), code="log-unwitnessed", hint=hint, evidence=evidence)


def _loop(site: LogSite, every_s: float, refresh_s: float, metrics: Path | None) -> Answer:
    """Ask until SIGTERM or SIGINT; what one turn cannot do, the next one tries again."""
    import signal
    import threading

    from chopmark.errors import ChopmarkError, spoken

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    turns, clients = 0, site.witnesses()
    while not stop.is_set():
        try:
            lines = list(_shown(_turn(site, clients, refresh_s, metrics)))
        except ChopmarkError as error:
            lines = spoken(error)
        for line in lines:
            say(line)
        turns += 1
        stop.wait(every_s)
    return {"ok": True, "turns": turns}, []


def _write_request(site: LogSite, out: Path, name: str, old: int | None) -> Answer:
    from chopmark.artifacts import write_file
    from chopmark.ledger.carry import request_to

    write_file(out, request_to(site.ledger, site.place.policy, site.witnesses(), name, old=old))
    data = {"ok": True, "witness": name, "request": str(out)}
    return data, [good(f"a request for {name}: {out}"), f"  there: chopmark ledger cosign {out.name} --out answer.txt"]


def _without_address(site: LogSite) -> str:
    from chopmark.errors import UsageError

    found = [each.name for each in site.place.policy.witnesses if each.name not in site.place.urls]
    if not found:
        raise UsageError("every witness of the policy has an address", hint="name the one that is meant: --for NAME")
    # Several keys of one witness are one witness; which of them is meant makes no difference to it.
    keys = {each.key.name for each in site.place.policy.witnesses if each.name in found}
    if len(keys) > 1:
        raise UsageError(f"without an address are {', '.join(found)}", hint="name the one that is meant: --for NAME")
    return found[0]


def _take(site: LogSite, carried: tuple[Path, ...]) -> Answer:
    from chopmark.artifacts import read_file
    from chopmark.ledger.carry import MAX_ANSWER_BYTES, take_answers

    notes = [read_file(path, max_bytes=MAX_ANSWER_BYTES) for path in carried]
    data = _result(site, take_answers(site.ledger, site.place.policy, notes))
    return data, _shown(data)
