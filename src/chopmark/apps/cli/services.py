# SPDX-License-Identifier: Apache-2.0
"""``serve`` and ``operator``: long-running parts, each an application of its own that is started here by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from chopmark.apps.cli.render import Answer, answers, good

_PASS = {"ignore_unknown_options": True, "allow_extra_args": True}


@click.command(context_settings=_PASS)
@click.option(
    "--only",
    type=click.Choice(["service", "witness", "security"]),
    default="service",
    show_default=True,
    help="Which part: the service, the witness, or the security host.",
)
@click.pass_context
def serve(ctx: click.Context, only: str) -> None:
    """Serve channel, ledger and fleet over HTTP, on this machine's own address by default.

    \b
    Example:
        chopmark serve
        chopmark serve --only witness
        chopmark serve --only security
    """
    start_service(only, ctx)


def start_service(part: str, ctx: click.Context) -> None:
    """Hand over to ``apps.service``, on the address that the workspace gives this part, until it is told to stop."""
    from urllib.parse import urlsplit

    import chopmark.apps.service.main as service
    from chopmark.apps.cli.wiring import WITNESS
    from chopmark.release import open_workspace

    workspace = open_workspace(ctx.obj)
    urls = {
        "service": workspace.service_url,
        "security": workspace.security_url,
        "witness": workspace.witness_urls.get(WITNESS, ""),
    }
    argv = [part, "--workspace", str(workspace.folder), "--port", str(urlsplit(urls[part]).port or 0)]
    if part == "witness":
        argv += ["--name", WITNESS]
    service.main([*argv, *ctx.args])  # what the user adds stands later, and so decides


def start_own_witness(folder: Path, port: int, ctx: click.Context) -> None:
    """Hand over to ``apps.service`` for the witness in *folder*, which belongs to no workspace."""
    import chopmark.apps.service.main as service

    service.main(["witness", "--folder", str(folder), "--port", str(port), *ctx.args])


def start_log_server(ctx: click.Context, argv: Sequence[str]) -> None:
    """Hand over to ``apps.service``, for the nearest log, until it is told to stop."""
    import chopmark.apps.service.main as service

    service.main(["ledger", "--workspace", str(ctx.obj), *argv, *ctx.args])


@click.group()
def operator() -> None:
    """The operator: reads Git, verifies it, and publishes the channel.

    \b
    Example:
        chopmark operator once
        chopmark operator run
    """


@operator.command()
@click.pass_obj
@answers
def once(start: Path) -> Answer:
    """Compare Git with the channel and publish what differs, once.

    \b
    Example:
        chopmark operator once
    """
    import chopmark.apps.operator.main as app

    done = app.once(start)
    return done.as_json(), [good(line) for line in done.explain()]


@operator.command()
@click.option("--every", "every_s", default=5.0, show_default=True, help="Seconds between looks at Git.")
@click.option("--refresh", "refresh_s", default=3600.0, show_default=True, help="Seconds a timestamp may age.")
@click.pass_obj
def run(start: Path, every_s: float, refresh_s: float) -> None:
    """Keep the channel as Git says, until stopped.

    \b
    Example:
        chopmark operator run --every 5
    """
    import chopmark.apps.operator.main as app

    app.run(start, every_s=every_s, refresh_s=refresh_s)
