# SPDX-License-Identifier: Apache-2.0
"""``ledger monitor``: follow a log from outside, tell what is new in it, and alarm when it lies.

``--json`` writes one object on each line as things happen, unlike other commands: a loop has no single answer.
"""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from chopmark.apps.cli.render import bad, dim, good, say
from chopmark.errors import ChopmarkError, UndecidedError, UsageError, VerificationError, printable, spoken

if TYPE_CHECKING:
    from chopmark.ledger.compare import Watched
    from chopmark.ledger.events import Event, Watch
    from chopmark.ledger.monitor import Monitor, Second, Turn

_LONGEST_PAUSE_S: Final = 600.0
_MAX_POLICY_BYTES: Final = 1024 * 1024
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_ORDINARY: Final = frozenset({"checkpoint", "compared", "turn"})
_NAMES: Final = ("checkpoint", "witnessed-checkpoint")


def _duration(_ctx: click.Context, _param: click.Parameter, value: str | None) -> timedelta | None:
    if value is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,6})([smhd])", value)
    if found is None:
        raise click.BadParameter(f"{value!r} is not like 60s, 5m, 24h or 7d")
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


@click.command()
@click.argument("log")
@click.option("--state", type=click.Path(path_type=Path), required=True, help="A folder of its own: what was seen.")
@click.option("--policy", type=click.Path(path_type=Path), help="Keys and witnesses (tlog-policy); all its keys count.")
@click.option("--origin", help="Which log of the policy LOG is, where it names several.")
@click.option("--model", multiple=True, help="Tell only entries about this model.")
@click.option("--signer", multiple=True, help="… with a signature by this key id, or one that begins so.")
@click.option("--predicate", multiple=True, help="… of this predicate type.")
@click.option("--digest", multiple=True, help="… about this digest (SHA-256).")
@click.option("--compare", multiple=True, help="A checkpoint of the same log from elsewhere: URL, file, or mirror.")
@click.option("--reported", type=click.Path(path_type=Path), multiple=True, help="What devices saw: a file.")
@click.option("--successor", help="The log that may follow this one: URL or folder.")
@click.option("--successor-policy", type=click.Path(path_type=Path), help="Its keys and witnesses; default: --policy.")
@click.option("--max-age", callback=_duration, help="How long ago a quorum may have seen the log, e.g. 24h.")
@click.option("--every", callback=_duration, help="Look again and again, e.g. 60s, until stopped.")
@click.option("--resume", metavar="REASON", help="Go on after an alarm; the reason is written down.")
@click.option("--rescan", is_flag=True, help="Tell every entry again.")
@click.option("--quiet", is_flag=True, help="Say nothing where nothing is new or wrong: for cron.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on each line of stdout, for programs.")
@click.pass_context
def monitor(ctx: click.Context, /, log: str, *, as_json: bool, **options: object) -> None:
    """Follow LOG (a URL or a folder of static files): signatures, witnesses, growth, new entries.

    \b
    Example:
        chopmark ledger monitor https://log.example/models --state watch --policy models.txt
        chopmark ledger monitor /srv/ledger --state watch --model digits --max-age 24h --every 60s

    Without --policy, the nearest log or workspace says which keys and witnesses count. Filters of one kind are
    alternatives; kinds add up. Compare with what devices saw: chopmark fleet checkpoints --json > seen.json, and
    --reported seen.json. After an alarm for a fork or a rollback nothing is looked at until --resume.

    Exit codes: 0 nothing is wrong, 1 alarm, 3 something could not be found out.
    """
    try:
        found = _Options(options)
        ctx.exit(_run(ctx.obj, log, found, tell=_teller(as_json=as_json, quiet=found.flag("quiet"))))
    except ChopmarkError as error:
        if not as_json:
            raise
        body = {"event": "error", "error": error.code, "message": error.message, "hint": error.hint}
        click.echo(json.dumps(body))
        ctx.exit(error.exit_code)


class _Options:
    """What click read, by its types: sixteen parameters would say less."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    def text(self, name: str) -> str | None:
        value = self._values[name]
        return value if isinstance(value, str) else None

    def texts(self, name: str) -> list[str]:
        value = self._values[name]
        return [str(each) for each in value] if isinstance(value, tuple) else []

    def path(self, name: str) -> Path | None:
        value = self._values[name]
        return value if isinstance(value, Path) else None

    def flag(self, name: str) -> bool:
        return self._values[name] is True

    def duration(self, name: str) -> timedelta | None:
        value = self._values[name]
        return value if isinstance(value, timedelta) else None


def _run(start: Path, log: str, options: _Options, *, tell: Callable[[Event], None]) -> int:
    """Do what was asked for; return the exit code."""
    try:
        watching = _open(start, log, options, tell=tell)
    except VerificationError as error:  # a file or word of the caller's is malformed, which is no alarm
        raise UsageError(error.message, hint=error.hint or "chopmark ledger monitor --help") from error
    if reason := options.text("resume"):
        watching.resume(reason)
    if options.flag("rescan"):
        watching.rescan()
    every = options.duration("every")
    return _code(watching.turn()) if every is None else _loop(watching, every.total_seconds())


def _open(start: Path, log: str, options: _Options, *, tell: Callable[[Event], None]) -> Monitor:
    from chopmark.apps.cli.ledger.wiring import open_monitor
    from chopmark.artifacts import read_file
    from chopmark.clock import SystemClock
    from chopmark.ledger.compare import MAX_REPORTED_BYTES, decode_reported
    from chopmark.ledger.monitor import Monitor
    from chopmark.statements import about

    policy = options.path("policy")
    logs = [_watched(log, policy, origin=options.text("origin")) if policy else _watched_here(start, log)]
    if successor := options.text("successor"):
        policy = options.path("successor_policy") or policy
        if policy is None:
            raise UsageError("a successor has keys of its own", hint="name them: --successor-policy FILE")
        logs.append(_watched(successor, policy, after=logs[0].origin))
    reported = [
        each
        for path in options.texts("reported")
        for each in decode_reported(read_file(Path(path), max_bytes=MAX_REPORTED_BYTES))
    ]
    return Monitor(
        logs,
        store=open_monitor(options.path("state") or start),
        about=about,
        tell=tell,
        clock=SystemClock(),
        watch=_watch(options),
        max_age=options.duration("max_age"),
        seconds=[_second(where) for where in options.texts("compare")],
        reported=reported,
        progress=None if options.flag("quiet") else _progress,
    )


def _progress(seen: int, size: int) -> None:
    if seen < size:
        say(dim(f"  {seen:,} of {size:,} entries"))


def _watched_here(start: Path, where: str) -> Watched:
    """Return a log with the keys and witnesses that count where this command runs."""
    from chopmark.apps.cli.ledger.wiring import LogSite, open_log_files
    from chopmark.ledger.compare import Watched

    place = LogSite.at(start).place
    return Watched(origin=place.origin, require=place.require, policy=place.policy, files=open_log_files(where))


def _watched(where: str, path: Path, *, origin: str | None = None, after: str | None = None) -> Watched:
    """Return a log with the keys and witnesses of the policy in *path*.

    Args:
        origin: which of its logs; None where there is one, not counting the one that it comes *after*.
    """
    from chopmark.apps.cli.ledger.wiring import open_log_files
    from chopmark.artifacts import read_file
    from chopmark.ledger import WitnessPolicy
    from chopmark.ledger.compare import Watched

    policy = WitnessPolicy.parse(read_file(path, max_bytes=_MAX_POLICY_BYTES))
    origins = {log.key.name for log in policy.logs} - {after}
    if origin is not None:
        origins &= {origin}
    if len(origins) != 1:
        named = ", ".join(sorted({log.key.name for log in policy.logs})) or "none"
        hint = "a line `log VKEY` for each key of the log; --origin where there are several logs"
        raise UsageError(f"{path}: does not say which log this is (it names: {named})", hint=hint)
    name = origins.pop()
    require = tuple(log.key.encode() for log in policy.logs if log.key.name == name)
    return Watched(origin=name, require=require, policy=policy, files=open_log_files(where))


def _watch(options: _Options) -> Watch:
    from chopmark.artifacts import Digest
    from chopmark.ledger.events import Watch

    patterns = [f"model:{name}" for name in options.texts("model")]
    patterns += [f"predicate:{name}" for name in options.texts("predicate")]
    patterns += [f"signer:{name}*" for name in options.texts("signer")]
    for text in options.texts("digest"):
        digest = Digest.parse(text) if text.startswith("sha256:") else Digest.from_hex(text)
        patterns.append(f"digest:{digest}")
    return Watch(tuple(sorted(set(patterns))))


def _second(where: str) -> Second:
    from chopmark.apps.cli.ledger.wiring import open_log_files
    from chopmark.ledger.monitor import Second

    remote = where.startswith(("http://", "https://"))
    folder, _, name = where.rpartition("/")
    if name in _NAMES if remote else not Path(where.removeprefix("file://")).is_dir():
        return Second(where=where, files=open_log_files(folder or ("/" if where.startswith("/") else ".")), path=name)
    return Second(where=where, files=open_log_files(where), path=_NAMES[0])


def _loop(watching: Monitor, every_s: float) -> int:
    """Look until SIGTERM or SIGINT, or until a human has to act; back off while something is wrong."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    pause = every_s
    while not stop.is_set():
        try:
            turn = watching.turn()
        except UndecidedError as error:
            for line in spoken(error):
                say(line)
            code = error.exit_code
        else:
            code = _code(turn)
            if turn.stands:
                return code
        pause = every_s if code == 0 else max(every_s, min(pause * 2, _LONGEST_PAUSE_S))
        stop.wait(pause)
    return 0


def _code(turn: Turn) -> int:
    if turn.alarms:
        return 1
    return 3 if turn.undecided else 0


def _teller(*, as_json: bool, quiet: bool) -> Callable[[Event], None]:
    """Return what prints an event; where it cannot, the event is not told, and so not marked."""

    def tell(event: Event) -> None:
        if quiet and event.kind in _ORDINARY:
            return
        lines = [event.encode().decode()] if as_json else _shown(event.kind, event.data)
        try:
            for line in lines:
                click.echo(line)
        except OSError as error:
            raise UndecidedError(f"stdout takes nothing ({error.strerror})", code="not-written") from error

    return tell


def _shown(kind: str, data: Mapping[str, object]) -> Iterator[str]:
    """Yield an event for people; what others wrote is shown without its control characters."""

    def text(name: str) -> str:
        value = data.get(name)
        return printable(", ".join(map(str, value)) if isinstance(value, list) else str(value)).replace("\n", " ")

    match kind:
        case "entry":
            yield f"#{text('index')}  {text('keys') or dim('not a statement')}"
        case "checkpoint":
            seen = f"seen by {text('cosigned_by')} since {text('cosigned_at')}" if data["cosigned_by"] else "no witness"
            yield dim(f"{text('origin')}: {text('size')} entries, root {text('root')[:16]}…, {seen}")
        case "compared":
            yield dim(f"compared with {text('where')}: the same history")
        case "alarm" | "stands":
            yield bad(f"{'ALARM' if kind == 'alarm' else 'still standing:'} {text('code')}: {text('message')}")
            files = data["evidence"]
            yield from (f"  evidence: {printable(str(path))}" for path in (files if isinstance(files, list) else []))
            yield (
                f"  hint: {text('hint')}" if data.get("hint") else "  hint: look at the evidence, then --resume REASON"
            )
        case "undecided":
            yield f"? {text('code')}: {text('message')}"
            yield f"  hint: {text('hint')}"
        case "resumed":
            yield f"goes on after {text('code')}: {text('reason')}"
        case "successor":
            yield good(f"{text('after')} ended with {text('size')} entries; {text('origin')} is followed now")
        case _:
            line = f"{text('origin')}: {text('seen')} of {text('size')} entries seen, {text('told')} told"
            wrong = data["alarms"] or data["undecided"]
            yield f"  {line}, {text('alarms')} alarms, {text('undecided')} undecided" if wrong else good(line)
