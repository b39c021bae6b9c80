# SPDX-License-Identifier: Apache-2.0
"""``status`` and ``why``: one screen, one reason."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chopmark.apps.cli.render import Answer, answers, bad, columns, counted, dim, good, moment, plain, strong
from chopmark.errors import ChopmarkError, UndecidedError, UsageError

if TYPE_CHECKING:
    from chopmark.apps.cli.wiring import Site
    from chopmark.artifacts import Digest
    from chopmark.fleet import Device, Refusal
    from chopmark.policy import Verdict

MAX_HISTORY = 20
_DECISION = re.compile(r"G([1-9]\d{0,6})")
_REFUSAL = re.compile(r"R([1-9]\d{0,6})")


@click.command()
@click.pass_obj
@answers
def status(start: Path) -> Answer:
    """Show what Git wants, what the ledger holds, what is published and what runs, on one screen.

    \b
    Example:
        chopmark status
    """
    from chopmark.apps.cli.wiring import Site

    site = Site.at(start)
    rows: list[tuple[str, ...]] = []
    body: dict[str, object] = {"ok": True, "workspace": site.workspace.name}
    for name, look in (("git", _git), ("ledger", _ledger), ("channel", _channel), ("fleet", _fleet)):
        try:
            found, row = look(site)
            rows.append((strong(name), row))
        except ChopmarkError as error:
            found = {"error": error.code, "message": error.message, "hint": error.hint}
            rows += [(strong(name), bad(error.message)), *[("", f"  hint: {error.hint}")] * bool(error.hint)]
            if body["ok"] is not False:
                body["ok"] = None if isinstance(error, UndecidedError) else False
        body[name] = found
    lines = columns(rows)
    if body["ok"] and (devices := site.fleet.devices()):
        lines += ["", *columns([_device_row(device, site) for device in devices], indent="  ")]
    return body, lines


@click.command()
@click.argument("what")
@click.pass_obj
@answers
def why(start: Path, what: str) -> Answer:
    """Explain WHAT: a decision (G1), a refusal (R1), a device, or a file or digest that was decided over.

    The rule, the facts, the next step.

    \b
    Example:
        chopmark why G1
        chopmark why R1
        chopmark why kiosk-2
        chopmark why 3fa1
    """
    from chopmark.apps.cli.wiring import Site

    site = Site.at(start)
    if match := _DECISION.fullmatch(what):
        return _explain_decision(site, int(match.group(1)))
    if match := _REFUSAL.fullmatch(what):
        return _explain_refusal(site, site.fleet.refusal(int(match.group(1))), what)
    for device in site.fleet.devices():
        if what in (device.id, device.name):
            return _explain_device(site, device)
    return _explain_artifact(site, what)


def _explain_artifact(site: Site, what: str) -> Answer:
    """Explain the newest decision that *what* had a part in."""
    from chopmark.apps.cli.trace import follow
    from chopmark.release.record import decisions

    digest, life = follow(site, what)
    entries = {event.index for event in life}
    made = [
        decision
        for decision in decisions(site.statements(), site.trust, before=site.trust_before)
        if decision.index in entries
    ]
    if not made:
        shown = f"{digest[:16]}…  was not decided over yet"
        nothing = {"ok": True, "digest": f"sha256:{digest}", "decision": None}
        return nothing, [shown, f"  next   chopmark trace {digest[:8]}, then chopmark release propose"]
    body, lines = _explain_decision(site, made[-1].number)
    decided = f"{strong(digest[:16])}…  the newest of {counted(len(made), 'decision')} that it had a part in"
    return {**body, "digest": f"sha256:{digest}"}, [decided, *lines]


def _explain_decision(site: Site, number: int) -> Answer:
    from chopmark.release.record import decisions

    made = decisions(site.statements(), site.trust, before=site.trust_before)
    if number > len(made):
        raise UsageError(f"G{number}: there are {len(made)} decisions", hint="chopmark release check makes one")
    decision = made[number - 1]
    index, summary, verdicts = decision.index, decision.summary, decision.verdicts
    held = [verdict for verdict in verdicts if verdict.ok]
    body = {
        "ok": True,
        "decision": f"G{number}",
        "allowed": summary.passed,
        "entry": index,
        "time": summary.time,
        "policy": {"digest": summary.policy, "uri": summary.policy_uri},
        "subject": summary.subject.name,
        "manifest": summary.subject.digest,
        "release": summary.release,
        "approvals": summary.approvals,
        "rules": [
            {"id": v.id, "phase": str(v.phase), "ok": v.ok, "message": v.message, "facts": v.facts} for v in verdicts
        ],
    }
    step = "chopmark release approve NAME --as an owner who is missing, then chopmark release check NAME"
    body["next"] = None if summary.passed else step
    outcome = good("ALLOWED") if summary.passed else bad("REFUSED")
    lines = [
        f"{strong(f'G{number}')}  {outcome}  {len(held)} of {len(verdicts)} rules hold",
        f"  {summary.subject.name}  package {summary.subject.digest.short}…  at {moment(summary.time)}",
        f"  policy {summary.policy.short}…  {summary.policy_uri}",
        "",
    ]
    rows = [
        (
            good(verdict.id) if verdict.ok else bad(verdict.id),
            str(verdict.phase),
            _grounds(verdict),
        )
        for verdict in verdicts
    ]
    lines += columns(rows, indent="  ")
    lines += ["", f"  entry {index} of the ledger, signed by the gate: chopmark ledger proof {index}"]
    if not summary.passed:
        lines.append(f"  next: {step}")
    return body, lines


def _grounds(verdict: Verdict) -> str:
    if not verdict.ok:
        return verdict.message
    return dim("from " + ", ".join(fact.short for fact in verdict.facts[:4])) if verdict.facts else ""


def _explain_refusal(site: Site, refusal: Refusal | None, what: str) -> Answer:
    if refusal is None:
        raise UsageError(f"{what}: there is no such refusal", hint="chopmark fleet refusals")
    device = site.fleet.device(refusal.device)
    name = device.name if device else refusal.device
    settled = device is None or _settled(device, refusal)
    hint = "nothing; a later report of the device settled it" if settled else refusal.hint
    body = {
        "ok": True,
        "refusal": refusal.id,
        "device": refusal.device,
        "name": name,
        "settled": settled,
        "code": refusal.code,
        "step": refusal.step,
        "message": refusal.message,
        "facts": dict(refusal.facts),
        "hint": hint,
        "report": refusal.report,
        "first": refusal.first,
        "count": refusal.count,
    }
    lines = [
        f"{strong(refusal.id)}  {bad('REFUSED')}  {strong(refusal.code)}  on {name}",
        f"  rule   step {refusal.step} of the protocol, docs/concepts/trust.md: {refusal.message}",
        *columns([("  facts" if n == 0 else "", k, v) for n, (k, v) in enumerate(refusal.facts.items())]),
        (
            f"  when   {moment(refusal.first)}, {counted(refusal.count, 'time')}; "
            f"report {refusal.report.short}…, signed by the device"
        ),
        f"  next   {hint}",
    ]
    return body, lines


def _settled(device: Device, refusal: Refusal) -> bool:
    return refusal.number not in {standing.refusal for standing in device.standings.values()}


def _explain_device(site: Site, device: Device) -> Answer:
    body = {
        "ok": True,
        "device": device.id,
        "name": device.name,
        "condition": str(device.condition),
        "tier": device.tier,
        "standings": {
            topic: {"verdict": s.verdict, "refusal": s.refusal, "running": s.running, "time": s.time}
            for topic, s in device.standings.items()
        },
    }
    history = site.fleet.refusals(device=device.id, limit=MAX_HISTORY)
    body["refusals"] = [
        {"id": r.id, "code": r.code, "first": r.first, "last": r.last, "settled": _settled(device, r)} for r in history
    ]
    lines = [
        f"{strong(device.name)}  {device.id}  {device.condition}  T{device.tier}",
        *([f"  held: {device.held}"] * bool(device.held)),
        *([f"  released from a hold by {device.released}"] * bool(device.released)),
    ]
    rows = [
        (
            (good if s.refusal is None else bad)(topic),
            s.verdict,
            f"why R{s.refusal}" if s.refusal else "",
            f"runs {_label(site, s.running)}" if s.running else "",
            moment(s.time),
        )
        for topic, s in device.standings.items()
    ]
    past = [(r.id, r.code, "settled" if _settled(device, r) else "open", moment(r.first)) for r in history]
    lines += columns(rows, indent="  ")
    return body, [*lines, *([dim("  refused, newest first:"), *columns(past, indent="  ")] if past else [])]


def _git(site: Site) -> tuple[dict[str, object], str]:
    from chopmark.apps.cli.releasing import wanted_releases

    head = site.git.head("main")
    releases = {release.model: release.version for release in wanted_releases(site)}
    if not releases:
        return {"head": head, "releases": {}}, f"main at {str(head)[:8]}  nothing released yet"
    text = ", ".join(f"{model} v{version}" for model, version in releases.items())
    return {"head": head, "releases": releases}, f"main at {str(head)[:8]}  wants {text}"


def _ledger(site: Site) -> tuple[dict[str, object], str]:
    from chopmark.ledger import Checkpoint, decode_note, verify_checkpoint, witnessed_by

    log, place = site.ledger, site.log_place
    note = log.witnessed_checkpoint()
    size = log.checkpoint.size
    witnessed = 0
    who: tuple[str, ...] = ()
    if note is not None:
        witnessed = Checkpoint.decode(decode_note(note).text).size
        keys = [key.encode() for key in log.verifier_keys]
        who = verify_checkpoint(note, origin=log.origin, require=keys, policy=place.policy).cosigned_by
    phrase = witnessed_by(place.policy, who, place.external)
    text = f"{size} entries, {witnessed} of them witnessed by {len(who)}; {phrase}"
    return {"size": size, "witnessed": witnessed, "witnesses": len(who), "witnessed_by": phrase}, text


def _channel(site: Site) -> tuple[dict[str, object], str]:
    from chopmark.channel.publish import read_current
    from chopmark.release.reconcile import assignments_of

    published = read_current(site.published, site.workspace.channel)
    assignments = assignments_of(published)
    assigned = ", ".join(f"{a.model} {_label(site, a.release)}" for a in assignments) or "nothing"
    version, status = published.version(site.workspace.channel), published.version("status")
    body = {
        "name": site.workspace.channel,
        "version": version,
        "timestamp": published.timestamp,
        "status": status,
        "assigned": {a.model: a.release for a in assignments},
    }
    return body, f"{site.workspace.channel} {version}  assigns {assigned}; status {status}"


def _fleet(site: Site) -> tuple[dict[str, object], str]:
    from chopmark.fleet import summarise

    summary = summarise(site.fleet)
    conditions = ", ".join(f"{count} {condition}" for condition, count in summary.conditions.items() if count)
    newest = f"; newest refusal: why {summary.newest.id}" if summary.newest else ""
    body = {
        "devices": summary.devices,
        "conditions": {str(k): v for k, v in summary.conditions.items()},
        "refusals": summary.refusals,
        "newest": summary.newest.id if summary.newest else None,
        "list": [
            {"id": d.id, "name": d.name, "condition": str(d.condition), "tier": d.tier, "running": dict(d.running)}
            for d in site.fleet.devices()
        ],
    }
    devices, refusals = counted(summary.devices, "device"), counted(summary.refusals, "refusal")
    return body, f"{devices}: {conditions or 'none reported yet'}; {refusals}{newest}"


def _device_row(device: Device, site: Site) -> tuple[str, ...]:
    runs = ", ".join(f"{model} {_label(site, release)}" for model, release in device.running.items())
    open_refusals = sorted({s.refusal for s in device.standings.values() if s.refusal is not None})
    mark = bad if open_refusals or device.held else good if runs else plain
    reasons = ", ".join(f"why R{number}" for number in open_refusals)
    return (
        mark(device.name),
        str(device.condition).upper(),
        f"T{device.tier}",
        f"runs {runs}" if runs else "",
        reasons,
    )


def _label(site: Site, release: Digest | None) -> str:
    from chopmark.apps.cli.releasing import version_of

    return version_of(site, release)
