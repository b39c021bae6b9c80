# SPDX-License-Identifier: Apache-2.0
"""``adopt``: register models that were there before, so that a policy can speak of them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from chopmark.apps.cli.render import Answer, answers, columns, counted, dim, good, plain, say
from chopmark.canonical import check_name
from chopmark.errors import UsageError

if TYPE_CHECKING:
    from chopmark.apps.cli.wiring import Site
    from chopmark.artifacts import FileEntry
    from chopmark.release.adopt import Adoption, Source

MAX_BYTES: Final = 16 * 1024**3
_TOLD_EVERY: Final = 64 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A model file, where it is and what to call it."""

    path: Path
    model: str
    source: Source
    format: str
    file: FileEntry


@click.command()
@click.argument("what")
@click.option("--name", help="The model's name; for a folder, what its models' names begin with.")
@click.option("--reason", default="in use before it was registered", show_default=True, help="Why it is adopted.")
@click.option("--until", help="Not to be released from this day on (2027-06-30); a policy may end it earlier.")
@click.option("--dry-run", is_flag=True, help="Show what would be registered; record nothing.")
@click.option("--max-bytes", type=int, default=MAX_BYTES, show_default=True, help="The longest file to download.")
@click.pass_obj
@answers
def adopt(
    start: Path, what: str, name: str | None, reason: str, until: str | None, max_bytes: int, *, dry_run: bool
) -> Answer:
    """Register WHAT (a model file, a folder of them, an address) as "origin unknown", signed by an adopter.

    Adopting approves nothing: a policy may allow such models until a date (`chopmark policy adoption`). A folder is searched
    for model files by their content, and each is registered by itself; what is registered already stays as it is.

    \b
    Example:
        chopmark adopt model.onnx --name digits --until 2027-06-30
        chopmark adopt /srv/models --dry-run
        chopmark adopt https://models.example/digits.onnx --name digits
    """
    from chopmark.apps.cli.wiring import Site
    from chopmark.release.adopt import Adoption, adopted, adoption_statement, check_role, warnings_of

    site = Site.at(start)
    owner, known = check_role(site.trust), adopted(site.statements(), site.trust)
    ends = None if until is None else day(until)
    if ends is not None and ends <= site.clock.now():
        raise UsageError(f"--until {until}: is not in the future", hint="a day like 2027-06-30")
    rows: list[tuple[str, ...]] = []
    models: list[dict[str, object]] = []
    formats: dict[str, str] = {}
    for found in _find(site, what, name, max_bytes):
        adoption = Adoption(
            workspace=site.workspace.name,
            model=found.model,
            file=found.file,
            format=found.format,
            source=found.source,
            reason=reason,
            adopted=site.clock.now(),
            until=ends,
        )
        statement = adoption_statement(adoption)
        index, before = known.get(found.file.sha256, (None, None))
        if before is None and not dry_run:
            index, _ = site.record(statement, owner)
            known[found.file.sha256] = (index, adoption)
        formats[found.model] = found.format
        rows.append(_row(found, index, before))
        models.append(_json(found, index, before))
    for line in warnings_of(formats):
        say(f"warning: {line}")
    fresh = [model for model in models if not model["already"]]
    body = {"ok": True, "dry_run": dry_run, "models": models, "new": len(fresh), "adopter": owner}
    done = "would be adopted" if dry_run else "adopted"
    line = f"{counted(len(fresh), 'model')} {done} by {owner}, origin unknown; {len(models) - len(fresh)} were before"
    return body, [
        plain(line) if dry_run else good(line),
        *columns(rows, indent="  "),
        dim("  next: chopmark build package, then a policy that allows it: chopmark policy adoption --until DAY"),
    ]


def day(text: str) -> datetime:
    """Return the beginning of a day, or a moment.

    Raises:
        UsageError: neither.
    """
    from chopmark.clock import parse_time
    from chopmark.errors import DecodeError

    try:
        return parse_time(text if "T" in text else f"{text}T00:00:00Z", what="--until")
    except DecodeError as error:
        raise UsageError(f"{text!r}: is no day", hint="a day like 2027-06-30, or 2027-06-30T12:00:00Z") from error


def _row(found: Found, index: int | None, before: Adoption | None) -> tuple[str, ...]:
    already = f"already as {before.model}, entry {index}" if before else "" if index is None else f"entry {index}"
    kind = found.format or "unknown format"
    return (f"model/{found.model}", f"{found.file.sha256.short}…", kind, f"{found.file.length:,} B", already)


def _json(found: Found, index: int | None, before: Adoption | None) -> dict[str, object]:
    return {
        "model": before.model if before else found.model,
        "sha256": found.file.sha256.hex,
        "length": found.file.length,
        "format": found.format,
        "source": {"kind": found.source.kind, "name": found.source.name},
        "path": str(found.path),
        "already": before is not None,
        "entry": index,
    }


def _find(site: Site, what: str, name: str | None, max_bytes: int) -> Iterator[Found]:
    from chopmark.release.adopt import Source, SourceKind, names_for, shown

    if what.startswith(("http://", "https://")):
        yield _download(site, what, name, max_bytes)
        return
    path = Path(what.removeprefix("file://"))
    if path.is_dir():
        yield from _search(path, name or "")
    elif path.is_file():
        source = Source(kind=SourceKind.FILE, name=shown(path.name))
        yield _look(path, model=name or names_for([path.name])[path.name], source=source)
    else:
        raise UsageError(f"{what}: is no file, folder or address here", hint="a path, or https://host/model.onnx")


def _search(folder: Path, prefix: str) -> Iterator[Found]:
    """Yield the model files below *folder*, by content; links are not followed."""
    from chopmark.release.adopt import MAX_FOUND, Source, SourceKind, names_for, shown

    places = [place for place in sorted(_places(folder)) if _format(folder / place)]
    if not places:
        raise UsageError(f"{folder}: no file in it begins like a model", hint="name a file to adopt whatever it is")
    if len(places) > MAX_FOUND:
        raise UsageError(f"{folder}: {len(places):,} models; {MAX_FOUND:,} are adopted at once", hint="one part of it")
    names, root = names_for(places, prefix), folder.resolve().name
    for number, place in enumerate(places, start=1):
        say(f"{number} of {len(places)}: {shown(place)}")
        source = Source(kind=SourceKind.FOLDER, name=shown(f"{root}/{place}"))
        yield _look(folder / place, model=names[place], source=source)


def _places(folder: Path) -> Iterator[str]:
    """Yield what may be read below *folder*: regular files; links, pipes and hidden folders are passed over."""
    passed = 0
    for base, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(base, name)
            if path.is_symlink() or not path.is_file():
                passed += 1
            else:
                yield path.relative_to(folder).as_posix()
    if passed:
        say(f"{counted(passed, 'link')} or other special files passed over; adopt what they lead to")


def _look(path: Path, *, model: str, source: Source) -> Found:
    from chopmark.artifacts import hash_file
    from chopmark.release.adopt import shown

    name = shown(source.name.rpartition("/")[2]) or model
    return Found(path=path, model=model, source=source, format=_format(path), file=hash_file(path, name=name))


def _format(path: Path) -> str:
    from chopmark.artifacts import open_regular
    from chopmark.inspection import HEAD_BYTES, model_format

    with os.fdopen(open_regular(path), "rb") as file:
        return model_format(file.read(HEAD_BYTES))


def _download(site: Site, url: str, name: str | None, max_bytes: int) -> Found:
    """Download to ``packages/adopted/<model>-<digits of its digest><suffix>``; once more is the same file."""
    from chopmark.apps.cli.wiring import download
    from chopmark.release.adopt import names_for, url_source

    source = url_source(url)
    last = source.name.rpartition("/")[2] or "model"
    model = check_name(name, what="model") if name else names_for([last])[last]  # a path is made of it
    folder = site.workspace.packages / "adopted"
    arriving = folder / f".{secrets.token_hex(8)}.tmp"
    told = 0

    def progress(came: int, said: int | None) -> None:
        nonlocal told
        if came - told >= _TOLD_EVERY:
            told = came
            say(f"{came:,} bytes{f' of {said:,}' if said else ''} …")

    try:
        download(url, arriving, max_bytes=max_bytes, on_bytes=progress)
        found = _look(arriving, model=model, source=source)
        suffix = "".join(char for char in Path(last).suffix if char.isalnum() or char == ".")[:16]
        path = folder / f"{model}-{found.file.sha256.short}{suffix}"
        arriving.replace(path)
    finally:
        arriving.unlink(missing_ok=True)
    return _look(path, model=model, source=source)


@click.command()
@click.option("--until", help="From this day on it allows nothing; default: in half a year.")
@answers
def adoption(until: str | None) -> Answer:
    """Print the policy that allows adopted models until a day: put it into the release repository, and review it there.

    \b
    Example:
        chopmark policy adoption --until 2027-06-30 > release/policies/adoption.yaml
    """
    from chopmark.clock import SystemClock, format_time
    from chopmark.policy import adoption_policy_file

    now = SystemClock().now()
    ends = now.replace(hour=0, minute=0, second=0) + timedelta(days=182) if until is None else day(until)
    if ends <= now:
        raise UsageError(f"--until {until}: is not in the future", hint="a day like 2027-06-30")
    text = adoption_policy_file(ends).decode()
    return {"ok": True, "until": format_time(ends), "policy": text}, text.rstrip("\n").split("\n")
