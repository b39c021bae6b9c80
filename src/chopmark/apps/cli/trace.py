# SPDX-License-Identifier: Apache-2.0
"""``trace`` and ``release export``: one life, from the ledger here, or from one file that carries all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from chopmark.apps.cli.render import Answer, answers, bad, columns, counted, dim, good, moment, plain, strong
from chopmark.errors import UsageError, VerificationError, one_line

if TYPE_CHECKING:
    from chopmark.apps.cli.wiring import Site
    from chopmark.artifacts import Digest
    from chopmark.release.life import Event
    from chopmark.release.story import Replayed, Story

WIDTH: Final = 100
_BRANCH, _LAST, _DOWN, _BLANK = "├─ ", "└─ ", "│  ", "   "


@click.command()
@click.argument("what")
@click.option("--dossier", type=click.Path(path_type=Path, dir_okay=False), help="Look WHAT up in this dossier.")
@click.option("--root", help="The root that you trust: its file, or its sha256:…; default: the workspace's pin.")
@click.pass_obj
@answers
def trace(start: Path, what: str, dossier: Path | None, root: str | None) -> Answer:
    """Show the whole life of WHAT: what it came from, what was found out, who approved it, what became of it.

    WHAT is a dossier (from `chopmark release export`), which needs nothing else than a root that you trust; or a file, a
    folder or a digest, looked up in the workspace's ledger or in a dossier. Everything is verified, offline. Exit code 0:
    all of it verifies, nothing that it rests on is missing, and nothing takes it back.

    \b
    Example:
        chopmark trace digits-1.chopmark --root 1.root.json
        chopmark trace model.onnx --dossier digits-1.chopmark --root sha256:91c4…
        chopmark trace packages/digits-1/package/model.onnx
        chopmark trace 3fa1
    """
    if dossier is None and _is_dossier(Path(what)):
        return _from_dossier(start, Path(what), None, root)
    if dossier is not None:
        return _from_dossier(start, dossier, what, root)
    if root is not None:
        raise UsageError(
            "--root is for dossiers; a workspace has its own pin", hint="add --dossier FILE, or leave it out"
        )
    from chopmark.apps.cli.wiring import Site

    return _life(Site.at(start), what)


def follow(site: Site, what: str) -> tuple[str, tuple[Event, ...]]:
    """Return the digest of *what*, and all that came before and after it in the ledger here.

    Raises:
        UsageError, VerificationError: as :func:`chopmark.release.life.find_digest`.
    """
    from chopmark.release.life import find_digest, read_life
    from chopmark.release.life import trace as follow_digest

    events = read_life(site.statements(), site.trust, before=site.trust_before)
    found = find_digest(events, _digest_of(what))
    return found, follow_digest(events, found)


def _digest_of(what: str) -> str:
    """Return the digest (hex) of a file or folder, or *what* itself."""
    from chopmark.artifacts import hash_file, scan

    path = Path(what)
    if what and path.is_dir():
        return scan(path).digest.hex
    return hash_file(path).sha256.hex if path.is_file() else what


def _is_dossier(path: Path) -> bool:
    from chopmark.release.dossier import SUFFIX, is_dossier

    if path.suffix == SUFFIX and not path.is_dir():
        return True  # one that is damaged, or not there, is told as such
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return is_dossier(file.read(512))


def _from_dossier(start: Path, path: Path, what: str | None, root: str | None) -> Answer:
    from chopmark.artifacts import Digest
    from chopmark.clock import SystemClock
    from chopmark.release.dossier import open_dossier, read_dossier
    from chopmark.release.story import find_file, tell

    pin = _pin(start, root)
    try:
        with path.open("rb") as file:
            dossier = read_dossier(file)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: is not there", hint="make one: chopmark release export MODEL --out FILE") from error
    opened = open_dossier(dossier, pin, now=SystemClock().now())
    digest = opened.about
    if what is not None:
        text = _digest_of(what).removeprefix("sha256:")
        try:
            digest = find_file(opened, Digest.from_hex(text))
        except VerificationError as error:
            if error.code != "undecodable":
                raise
            raise UsageError(f"{what}: is no file here, and no whole digest", hint="give all 64 digits") from error
    story = tell(opened, digest)
    return {**story.as_json(), "dossier": str(path)}, tree(story)


def _pin(start: Path, root: str | None) -> Digest:
    """Return the digest of the root that the caller trusts; nothing is trusted because it lies beside what it proves.

    Raises:
        UsageError: ``no-root``: none is given, and here is no workspace.
    """
    from chopmark.artifacts import Digest, read_file
    from chopmark.release.workspace import open_workspace
    from chopmark.trust import MAX_ROOT_BYTES

    if root is None:
        try:
            return open_workspace(start).pin
        except UsageError as error:
            raise UsageError(
                "which root do you trust? A dossier cannot say it of itself",
                code="no-root",
                hint="--root 1.root.json or --root sha256:…, as the root owners gave it to you; or run it in the workspace",
            ) from error
    if root.startswith("sha256:"):
        try:
            return Digest.parse(root)
        except VerificationError as error:
            raise UsageError(error.message, hint="--root sha256: and 64 hex digits") from error
    return Digest.of(read_file(Path(root), max_bytes=MAX_ROOT_BYTES))


# The life as a tree, for people.


def tree(story: Story) -> list[str]:
    """Return a story as lines of at most 100 columns; marks and words carry the meaning, colour none."""
    from chopmark.release.story import Stage

    lines, gaps = _head(story), story.gaps()
    stages = [stage for stage in Stage if stage is not Stage.SINCE]
    again = {replayed.index: replayed for replayed in story.replayed}
    for stage in stages:
        rows = [_row(event, again.get(event.index)) for event in story.of(stage)]
        rows += _published(story) if stage is Stage.PUBLICATION else []
        rows += [f"· {gaps[stage]}"] if stage in gaps else []
        lines += _stage(str(stage), rows, last=False)
    since = [_row(event) for event in story.of(Stage.SINCE)]
    since += [
        bad(f"{'REVOKED' if w.kind == 'revocation' else 'HELD'} {w.digest.short}… by {w.by}: {one_line(w.reason)}")
        for w in story.withdrawn
    ]
    since += [f"· {story.known}"] if story.known else []
    lines += _stage(str(Stage.SINCE), since, last=True)
    lines += [bad(f"missing: {m.digest[:16]}…, which the {m.kind} #{m.by} rests on") for m in story.missing]
    return [line for long in lines for line in _folded(long)]


def _head(story: Story) -> list[str]:
    from chopmark.ledger import WitnessPolicy, witnessed_by

    opened = story.opened
    names = ", ".join(f"{r.model} {r.version}" for r in story.releases) or "not released"
    title = f"{one_line(names)}  {story.digest.short}…  {_outcome(story)}"
    checkpoint, at = opened.seen.checkpoint, opened.seen.cosigned_at
    witnessed = witnessed_by(WitnessPolicy.parse(opened.trust.witness_policy), opened.seen.cosigned_by)
    pinned = "pinned" if opened.root.digest == opened.pin else f"from the pinned {opened.pin.short}…"
    lines = [
        good(title) if story.ok else bad(title),
        f"  workspace {opened.root.workspace}, root {opened.root.version} ({pinned}), trust {opened.trust.version}",
        f"  ledger {checkpoint.origin}, {checkpoint.size:,} {'entry' if checkpoint.size == 1 else 'entries'}; {witnessed}",
        f"  logged before {moment(at)}, in the order of #" if at else "  no witness says when; the order is that of #",
    ]
    if opened.manifest is not None:
        files = counted(len(opened.manifest.files), "file")
        carried = "each as the manifest says" if opened.package else "listed only: their bytes are not in the dossier"
        lines.append(f"  package {opened.manifest.digest.short}…  {files}, {carried}")
    return [*lines, ""]


def _outcome(story: Story) -> str:
    if story.withdrawn:
        return "REVOKED" if any(w.kind == "revocation" for w in story.withdrawn) else "HELD"
    if not story.verified:
        return "NOT VERIFIED"
    return "approved" if story.releases else "verified, and not approved"


def _stage(title: str, rows: Sequence[str], *, last: bool) -> list[str]:
    down = _BLANK if last else _DOWN
    lines = [(_LAST if last else _BRANCH) + strong(title)]
    return lines + [down + (_LAST if n == len(rows) - 1 else _BRANCH) + row for n, row in enumerate(rows)]


def _row(event: Event, again: Replayed | None = None) -> str:
    from chopmark.release.story import claimed

    kind = f"#{event.index} {'gate' if event.type == 'vsa' else event.type}"
    if event.problem:
        return bad(one_line(f"{kind}  not believed: {event.problem}"))
    by = ", ".join(event.owners)
    said = [f"{kind}  {event.subject_name} {event.subject.short}…", detail(event)]
    said.append(f"by {by}" if by == event.role else f"by {by} ({event.role})")
    if event.depends and event.type not in ("vsa", "release"):
        more = f" +{len(event.depends) - 3}" if len(event.depends) > 3 else ""
        said.append("from " + ", ".join(text[:8] for text in event.depends[:3]) + more)
    if time := claimed(event):
        said.append(f"says {time}")
    said.append(event.note)
    if again is not None and again.differences:
        said.append(f"NOT CONFIRMED here: {'; '.join(again.differences)}")
        return bad(one_line("  ".join(part for part in said if part)))
    said += ["decided again here: the same"] if again is not None else []
    text = one_line("  ".join(part for part in said if part))
    return plain(text) if _refused(event) else good(text)


def _refused(event: Event) -> bool:
    return event.type == "vsa" and event.predicate.get("verificationResult") != "PASSED"


def _published(story: Story) -> list[str]:
    publication = story.opened.publication
    if publication is None:
        return []
    at = f"seen by witnesses at {moment(publication.at)}" if publication.at else "no witness says when"
    return [
        good(
            f"#{publication.index} channel {publication.file.name} {publication.file.version} assigns "
            f"{a.release.short}… to buckets {a.first} to {a.end}; {at}"
        )
        for a in story.assigned
    ]


def detail(event: Event) -> str:
    """Return what matters most in a statement, for people."""
    predicate, text = event.predicate, ""
    metrics = predicate.get("metrics")
    match event.type:
        case "test-result" if isinstance(metrics, dict) and isinstance(metrics.get("accuracy_ppm"), int):
            text = f"{predicate.get('result')} {metrics['accuracy_ppm'] / 10_000:.1f} %"
        case "inspection":
            text = str(predicate.get("result"))
        case "vsa":
            text = _decision(predicate)
        case "adoption":
            source = predicate.get("source")
            where = source.get("name") if isinstance(source, dict) else "?"
            text = f"origin unknown, found as {where}: {predicate.get('reason')}"
        case "release":
            text = f"version {predicate.get('version')}"
        case "revocation" | "hold":
            text = str(predicate.get("reason", ""))
    return text


def _decision(predicate: Mapping[str, object]) -> str:
    """Return what the gate decided, and why not."""
    listed = predicate.get("rules")
    rules = [rule for rule in listed if isinstance(rule, dict)] if isinstance(listed, list) else []
    failed = [f"{rule.get('id')}: {rule.get('message')}" for rule in rules if rule.get("ok") is not True]
    passed = predicate.get("verificationResult") == "PASSED"
    outcome = f"{predicate.get('phase')} {'ALLOWED' if passed else 'REFUSED'}, {len(rules) - len(failed)} of {len(rules)} rules"
    return outcome + "".join(f"; {text}" for text in failed)


def _folded(line: str) -> list[str]:
    """Fold a line that is too wide, between two parts of it or at a space; what follows is indented below it."""
    if len(click.unstyle(line)) <= WIDTH:
        return [line]
    text = click.unstyle(line)
    stem = text[: len(text) - len(text.lstrip("│├└─ "))]
    below = stem.replace("├─", "│ ").replace("└─", "  ").replace("─", " ") + "    "
    folded, left = [], text
    while len(left) > WIDTH:
        parts, words = (left.rfind(gap, len(below) + 1, WIDTH + 1) for gap in ("  ", " "))
        at = parts if parts > WIDTH // 2 else words
        cut = at if at > len(below) else WIDTH
        folded.append(left[:cut].rstrip())
        left = below + left[cut:].lstrip()
    return [*folded, left]


# The life as the ledger of this workspace tells it.


def _life(site: Site, what: str) -> Answer:
    digest, found = follow(site, what)
    ok = not any(event.problem for event in found)
    body = {"ok": ok, "digest": f"sha256:{digest}", "events": [event.as_json() for event in found]}
    lines = [
        f"{strong(digest[:16])}…  {counted(len(found), 'statement')}, each verified against root {site.root.version}",
        "",
    ]
    for subject, group in _by_subject(found):
        here = strong(subject) if digest in {e.subject.hex for e in group} | {e.digest.hex for e in group} else subject
        lines.append(f"{here}  {dim(group[0].subject.short + '…')}")
        for event, row in zip(group, columns([_event_row(event) for event in group], indent="  "), strict=True):
            lines += [row, f"       {one_line(event.note)}"] if event.note else [row]
    return body, lines


def _by_subject(events: Sequence[Event]) -> list[tuple[str, list[Event]]]:
    groups: dict[tuple[str, str], list[Event]] = {}
    for event in events:
        groups.setdefault((event.subject_name, event.subject.hex), []).append(event)
    return [(name, group) for (name, _), group in groups.items()]


def _event_row(event: Event) -> tuple[str, ...]:
    mark = bad(event.type) if event.problem else plain(event.type) if _refused(event) else good(event.type)
    said = event.problem or f"by {', '.join(event.owners)}"
    made_from = "from " + ", ".join(f"{digest[:8]}" for digest in event.depends[:4]) if event.depends else ""
    more = f" +{len(event.depends) - 4}" if len(event.depends) > 4 else ""
    return (f"#{event.index}", mark, said, "  ".join(part for part in (detail(event), dim(made_from + more)) if part))
