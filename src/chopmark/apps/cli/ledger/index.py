# SPDX-License-Identifier: Apache-2.0
"""The index of a log: make it, ask it, verify what it says, make it again and compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from chopmark.apps.cli.lazy import Group
from chopmark.apps.cli.render import Answer, answers, counted, good, say

if TYPE_CHECKING:
    from chopmark.ledger.index import About, IndexAnswer
    from chopmark.ledger.place import LogPlace

_MIRROR: Final = "mirror.db"
_SHOWN: Final = 20


@click.group(cls=Group)
def index() -> None:
    """Every entry about a key, with a proof that there are no more of them.

    \b
    A key is a kind and a value:
        model:digits                  the model that a statement is about
        digest:sha256:91c4…           an artifact, a statement, or a publication's snapshot
        signer:11ab…                  a key id among the signatures
        predicate:https://…           a type of statement

    \b
    Example:
        chopmark ledger index update
        chopmark ledger index look model:digits
    """


@index.command()
@click.option(
    "--from", "where", help="Where the log is served (URL or folder); default: its stores here, with its keys."
)
@click.pass_obj
@answers
def update(start: Path, where: str | None) -> Answer:
    """Read the log's new entries and publish the root of the map in the index's own log.

    The index is made the first time, in the folder index beside the log's stores, with keys of its own. It covers what
    the log's witnesses have cosigned. A run that was stopped is taken up where it was. With --from, the log's
    configuration (ledger.toml, policy.txt) is all that has to be here of it, so that an index needs no key of the log.

    \b
    Example:
        chopmark ledger index update
        chopmark ledger index update --from https://log.example/models
    """
    from chopmark.apps.cli.ledger.wiring import IndexSite, LogSite, open_log_files
    from chopmark.ledger.feed import feed
    from chopmark.ledger.index import newest_seen
    from chopmark.ledger.index import update as update_index

    site = LogSite.at(start)
    if where is None:
        site.ledger.signed_checkpoint()  # what was appended since is covered as well
    found = IndexSite.made(site)
    files = site.files if where is None else open_log_files(where)
    note, source = newest_seen(files, found.trusted.source)
    done = update_index(found.map, source, note, found.own.ledger, about=_about(), progress=_progress)
    fed = feed(found.own.ledger, found.own.place.policy, found.own.witnesses())
    covered = done.state.size
    waiting = site.ledger.checkpoint.size - covered if where is None else 0
    data = {
        "ok": True,
        "origin": found.own.place.origin,
        "size": covered,
        "new": done.new,
        "root": done.state.root.hex(),
        "published": done.published,
        "witnesses": list(fed.witnessed.cosigned_by),
        "waiting": waiting,
    }
    lines = [good(f"{found.own.place.origin}: {done.new:,} new of {covered:,} entries")]
    if waiting:
        lines.append(f"  {waiting:,} more wait for the log's witnesses")
    return data, lines


@index.command()
@click.argument("key")
@click.option("--out", type=click.Path(path_type=Path), help="Write the answer here, for whoever verifies it.")
@click.pass_obj
@answers
def look(start: Path, key: str, out: Path | None) -> Answer:
    """List every entry about KEY; or say, provably, that there is none.

    \b
    Example:
        chopmark ledger index look model:digits
        chopmark ledger index look digest:sha256:91c4… --out digest.json
    """
    from chopmark.apps.cli.ledger.wiring import IndexSite, LogSite
    from chopmark.artifacts import write_file
    from chopmark.ledger.index import look as look_up
    from chopmark.ledger.index import newest_seen, verify_index_answer
    from chopmark.statements import check_key

    found = IndexSite(LogSite.at(start))
    note, own = newest_seen(found.own.files, found.trusted.own)
    answer = look_up(found.map, check_key(key), own=own, note=note, trusted=found.trusted)
    if out is not None:
        write_file(out, answer)
    data, lines = _shown(verify_index_answer(answer, key, trusted=found.trusted), found.own.place)
    return data, lines if out is None else [*lines, f"  proof: {out}"]


@index.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--key", required=True, help="The key that was asked for.")
@click.option("--at-least", type=click.IntRange(min=0), default=0, help="How many entries it has to cover.")
@click.pass_obj
@answers
def verify(start: Path, file: Path, key: str, at_least: int) -> Answer:
    """Verify an answer offline: the list, its place in the map, the published root, signatures and witnesses.

    \b
    Example:
        chopmark ledger index verify digits.json --key model:digits
    """
    from chopmark.apps.cli.ledger.wiring import IndexSite, LogSite
    from chopmark.artifacts import read_file
    from chopmark.ledger.index import MAX_ANSWER_BYTES, verify_index_answer
    from chopmark.statements import check_key

    check_key(key)
    found = IndexSite(LogSite.at(start))
    data = read_file(file, max_bytes=MAX_ANSWER_BYTES)
    return _shown(verify_index_answer(data, key, trusted=found.trusted, at_least=at_least), found.own.place)


@index.command()
@click.argument("where")
@click.option("--index", "index_where", help="Where the index's own log is served; default: WHERE/index.")
@click.option("--answer", "files", type=click.Path(path_type=Path), multiple=True, help="Compare an answer as well.")
@click.option("--state", type=click.Path(path_type=Path), help="The mirror's memory; default: mirror.db in the index.")
@click.pass_obj
@answers
def mirror(start: Path, where: str, index_where: str | None, files: Sequence[Path], state: Path | None) -> Answer:
    """Make the index again from the log's signed bytes at WHERE (URL or folder), and alarm where it differs.

    The keys and witnesses that count are those of the log here: its configuration, without private keys, is enough.

    \b
    Example:
        chopmark ledger index mirror https://log.example/models
        chopmark ledger index mirror /srv/log --answer digits.json
    """
    from chopmark.apps.cli.ledger.wiring import IndexSite, LogSite, open_log_files
    from chopmark.artifacts import read_file
    from chopmark.ledger.index import MAX_ANSWER_BYTES, newest_seen
    from chopmark.ledger.index import mirror as compare

    found = IndexSite(LogSite.at(start))
    trusted = found.trusted
    _, own = newest_seen(open_log_files(index_where or f"{where.rstrip('/')}/index"), trusted.own)
    _, source = newest_seen(open_log_files(where), trusted.source)
    done = compare(
        found.store(state or found.folder / _MIRROR),
        source,
        own,
        trusted=trusted,
        about=_about(),
        answers=[read_file(file, max_bytes=MAX_ANSWER_BYTES) for file in files],
        progress=_progress,
    )
    size, behind = done.state.size, source.checkpoint.size - done.state.size
    data = {"ok": True, "size": size, "behind": behind, "roots": done.roots, "answers": done.answers}
    lines = [good(f"{counted(done.roots, 'root')} and {counted(done.answers, 'answer')} are what the log says")]
    return data, [*lines, f"  the newest covers {size:,} entries; the log has {behind:,} more"]


def _about() -> About:
    from chopmark.ledger.index import About
    from chopmark.statements import ABOUT_VERSION, about

    return About(version=ABOUT_VERSION, keys=about)


def _progress(done: int, size: int) -> None:
    if done < size:
        say(f"{done:,} of {size:,} entries …")


def _shown(answer: IndexAnswer, own: LogPlace) -> Answer:
    from chopmark.ledger import witnessed_by

    published = answer.published
    seen = witnessed_by(own.policy, published.cosigned_by, own.external)
    data = {
        "ok": True,
        "key": answer.key,
        "indices": list(answer.indices),
        "size": answer.source.size,
        "root_number": published.index,
        "witnesses": list(published.cosigned_by),
        "witnessed": seen,
        "cosigned_at": published.cosigned_at,
    }
    where = f"the first {answer.source.size:,} of {answer.source.origin}"
    if not answer.indices:
        return data, [good(f"{answer.key}: none of {where}"), f"  the index is {seen}"]
    some = ", ".join(map(str, answer.indices[:_SHOWN])) + (" …" if len(answer.indices) > _SHOWN else "")
    first = good(f"{answer.key}: {len(answer.indices):,} of {where}, and no other")
    return data, [first, f"  {some}", f"  the index is {seen}"]
