# SPDX-License-Identifier: Apache-2.0
"""Serve a log to others: its files, the way into it, and who may append."""

from __future__ import annotations

from pathlib import Path

import click

from chopmark.apps.cli.render import Answer, answers, columns, counted, good


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.option("--port", type=int, help="Port to listen on; default: any free one.")
@click.option("--host", help="Address to listen on; default: this machine alone.")
@click.option("--certificate", type=click.Path(), help="PEM; TLS 1.3 is then required of clients.")
@click.option("--key", type=click.Path(), help="PEM of the certificate's key.")
@click.option("--behind-proxy", is_flag=True, help="Plain HTTP, since a proxy ends TLS; it limits connections instead.")
@click.option("--public-entries", is_flag=True, help="Let whoever reaches the server read every entry.")
@click.option("--read-only", is_flag=True, help="Take no entries; none of the log's keys is opened.")
@click.option("--ledger-folder", type=click.Path(), help="Serve an exported log instead, for reading.")
@click.option("--token-file", type=click.Path(), help="Who may append; default: append-tokens.json beside the log.")
@click.option("--require-signature", is_flag=True, help="Take only statements that a role signed and may sign.")
@click.option("--trust", type=click.Path(), help="The workspace of --require-signature; default: the log's own.")
@click.option("--waiting", type=int, help="Entries that may wait to be logged; more are told to come again.")
@click.option("--port-file", type=click.Path(), help="Write the port here once it answers.")
@click.pass_context
def serve(ctx: click.Context, /, **options: str | int | bool | None) -> None:
    """Serve the log over HTTP: checkpoint and tiles to everybody, POST /append to whoever has a token.

    It runs until it is told to stop, and takes the limits of `chopmark serve` too.

    \b
    Example:
        chopmark ledger serve --port 8443
        chopmark ledger serve --host 0.0.0.0 --port 443 --certificate cert.pem --key key.pem --public-entries
    """
    from chopmark.apps.cli.services import start_log_server

    argv = []
    for name, value in options.items():
        if value is not None and value is not False:
            argv += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    start_log_server(ctx, argv)


@click.group()
def token() -> None:
    """Who may append to the log over HTTP. A token adds entries; it signs nothing and changes nothing.

    \b
    Example:
        chopmark ledger token new ci --per-minute 600 --out ci.token
        chopmark ledger token revoke ci
    """


@token.command()
@click.argument("name")
@click.option("--per-minute", default=0, metavar="N", help="Requests a minute; 0 (the default) for any number.")
@click.option("--out", type=click.Path(path_type=Path), help="Write it here, mode 0600, instead of printing it.")
@click.pass_obj
@answers
def new(start: Path, name: str, per_minute: int, out: Path | None) -> Answer:
    """Make a token for NAME and show it, once: only its hash is kept.

    \b
    Example:
        chopmark ledger token new ci --per-minute 600 --out ci.token
    """
    import secrets

    from chopmark.apps.cli.wiring import LogSite
    from chopmark.artifacts import write_file
    from chopmark.clock import SystemClock, format_time
    from chopmark.ledger.tokens import SECRET_BYTES, TOKENS, AppendToken, add_token, hash_of, make_token

    place = LogSite.at(start).place
    text = make_token(secrets.token_bytes(SECRET_BYTES))
    created = format_time(SystemClock().now())
    kept = AppendToken(name=name, sha256=hash_of(text), created=created, per_minute=per_minute)
    add_token(place.path(TOKENS), kept)
    if out is not None:
        write_file(out, f"{text}\n".encode(), mode=0o600)
        return {"ok": True, "name": name, "file": str(out)}, [good(f"{name}: its token is in {out}")]
    return {"ok": True, "name": name, "token": text}, [text]


@token.command("list")
@click.pass_obj
@answers
def list_(start: Path) -> Answer:
    """List who may append, and how fast.

    \b
    Example:
        chopmark ledger token list
    """
    from chopmark.apps.cli.wiring import LogSite
    from chopmark.ledger.tokens import TOKENS, read_tokens

    tokens = read_tokens(LogSite.at(start).place.path(TOKENS))
    rows = [{"name": t.name, "per_minute": t.per_minute, "created": t.created} for t in tokens]
    lines = [(t.name, f"{t.per_minute:,} a minute" if t.per_minute else "any number", t.created) for t in tokens]
    return {"ok": True, "tokens": rows}, [*columns(lines), counted(len(tokens), "token")]


@token.command()
@click.argument("name")
@click.pass_obj
@answers
def revoke(start: Path, name: str) -> Answer:
    """Revoke the token of NAME; a server that runs refuses it from the next request on.

    \b
    Example:
        chopmark ledger token revoke ci
    """
    from chopmark.apps.cli.wiring import LogSite
    from chopmark.ledger.tokens import TOKENS, revoke_token

    revoke_token(LogSite.at(start).place.path(TOKENS), name)
    return {"ok": True, "name": name}, [good(f"{name}: may append no more; what it appended stays")]
