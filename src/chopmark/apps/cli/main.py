# SPDX-License-Identifier: Apache-2.0
"""The command ``chopmark``: a table of groups, each imported when it is used, and what errors become.

Exit codes: 0 verified or done, 1 denied or not verified, 2 the call is wrong, 3 could not be decided, 4 a fault of ours.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import click

from chopmark.apps.cli.lazy import lazy_group
from chopmark.apps.cli.render import show_error
from chopmark.errors import ChopmarkError, InternalError, UndecidedError, UsageError

COMMANDS: Final = {
    "init": ("setup:init", "make a workspace"),
    "demo": ("demo:demo", "the whole product in a minute, on real parts"),
    "doctor": ("setup:doctor", "what is missing on this machine or in this workspace"),
    "status": ("overview:status", "Git, ledger, channel and fleet on one screen"),
    "why": ("overview:why", "a decision, a refusal or a device: the rule, the facts, the next step"),
    "trace": ("trace:trace", "the whole life of a model, verified offline, also from one file"),
    "try": ("tryout:try_", "sign your own .onnx, load it, tamper with it, see it refused"),
    "adopt": ("adopt:adopt", "register models that were there before, as origin unknown"),
    "data": ("data:data", "register a dataset"),
    "build": ("build:build", "train, convert, quantise, package: run it and record it"),
    "test": ("checks:test", "measure a package's accuracy with the real runtime"),
    "inspect": ("checks:inspect", "look into a model file: operators, external data, hidden bytes"),
    "sbom": ("checks:sbom", "write the CycloneDX SBOM of model, dataset and libraries"),
    "hash": ("hashing:hash_", "the manifest and digest of a file or folder"),
    "sign": ("files:sign", "sign a package for stock tools (OpenSSF Model Signing)"),
    "verify": ("files:verify", "verify a package against its signature"),
    "sigstore": ("sigstore:sigstore", "bundles of Sigstore: sign, export, verify offline, say whom to trust"),
    "ledger": ("ledger:ledger", "the transparency log: entries, proof, verify, fsck, export"),
    "policy": ("policy:policy", "check a release policy"),
    "release": ("release:release", "propose, approve, check, merge, history, export, rollback, revoke"),
    "operator": ("services:operator", "publish what Git says"),
    "channel": ("channel:channel", "what is published, followed as a device does"),
    "device": ("device:device", "enroll, run, verify, load"),
    "fleet": ("fleet:fleet", "devices, refusals, alerts, release from a hold"),
    "keys": ("keys:keys", "list the keys, and which are here"),
    "trust": ("trust:trust", "who may say what; change it together: change, sign, merge, apply"),
    "serve": ("services:serve", "the service: channel, ledger and fleet over HTTP"),
}
"""The table of :func:`chopmark.apps.cli.lazy.lazy_group`."""


@click.group(cls=lazy_group("chopmark.apps.cli", COMMANDS), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="chopmark", message="chopmark %(version)s")
@click.option(
    "--workspace",
    "-w",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="A folder in the workspace; default: where you are.",
)
@click.pass_context
def cli(ctx: click.Context, workspace: Path) -> None:
    """Prove that the model on a device is the one that was trained, tested and approved.

    \b
    Example, with nothing set up:
        chopmark demo                 see it work, and refuse
        chopmark try model.onnx       the same with your own model
        chopmark init acme            a workspace of your own

    Exit codes: 0 verified or done, 1 denied, 2 wrong call, 3 could not decide, 4 internal.
    """
    ctx.obj = workspace


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: list[str]) -> int:
    """Run the command line; return the exit code."""
    try:
        result = cli.main(args=argv, prog_name="chopmark", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return UsageError.exit_code  # not 0: where a script's command is empty by accident, nothing was verified
    except BrokenPipeError:
        return 0
    except SystemExit as stop:  # of a part that is started here; and 1 is click's word for a pipe that nobody reads
        return UndecidedError.exit_code if stop.code == 1 else int(stop.code or 0)
    except Exception as error:  # noqa: BLE001 - the last line of defence: a fault of ours has its own exit code
        known = _as_ours(error)
        with suppress(BrokenPipeError):
            show_error(known, as_json="--json" in argv)
        return known.exit_code
    return result if isinstance(result, int) else 0


def _as_ours(error: Exception) -> ChopmarkError:
    if isinstance(error, ChopmarkError):
        return error
    if isinstance(error, click.UsageError):
        return UsageError(error.format_message(), hint=f"{error.ctx.command_path if error.ctx else 'chopmark'} --help")
    if isinstance(error, click.ClickException):
        return UsageError(error.format_message(), hint="chopmark --help")
    if isinstance(error, click.Abort):
        return UsageError("stopped", code="stopped")
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        hint = "check the path, who owns it, and the space on the disk"
        return UndecidedError(f"{where}{error.strerror or type(error).__name__}", code="not-possible", hint=hint)
    _debug()
    hint = "this is a fault of chopmark; run again with CHOPMARK_DEBUG=1 and report what it prints"
    return InternalError(f"{type(error).__name__}: {error}", hint=hint)


def _debug() -> None:
    import os
    import traceback

    if os.environ.get("CHOPMARK_DEBUG"):
        traceback.print_exc()
