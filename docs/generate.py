# SPDX-License-Identifier: Apache-2.0
"""Write the pages of docs/reference/ from the code, or check that they are as the code says.

    python docs/generate.py            write
    python docs/generate.py --check    exit 1 where a page is stale or a link in a Markdown file leads nowhere

Commands come from the tree of click commands, failures from ``errors.FAILURES``, formats from what the encoders make of
fixed samples, signers from their table. Nothing here runs a command.
"""
# ruff: noqa: PLC0415 - what cannot be imported spoils its own page, with a message, and not the others

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))
sys.dont_write_bytecode = True

if TYPE_CHECKING:
    import click

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
NOTE = "<!-- Written by docs/generate.py from the code. Change the code, then run `make docs`. -->\n"


class StaleError(Exception):
    """A page cannot be made; the message says why."""


def commands_page() -> str:
    """Return reference/commands.md."""
    from chopmark.apps.cli.main import COMMANDS, cli

    out = [NOTE, "# Commands", ""]
    out += _help(cli)
    out += [
        "Data goes to stdout, talk to stderr. `--json`, where a command has it, replaces the data by one JSON object, errors",
        "included. Options of `chopmark` itself stand before the command.",
        "",
        *_options(cli),
        "| command | |",
        "|---|---|",
        *(f"| [`{name}`](#chopmark-{name}) | {line} |" for name, (_, line) in COMMANDS.items()),
        "",
    ]
    for name in COMMANDS:
        out += _command(f"chopmark {name}", load_command(name))
    return "\n".join(out).rstrip("\n") + "\n"


def load_command(name: str) -> click.Command:
    """Return the click command *name*.

    Raises:
        StaleError: its module cannot be imported, or does not hold it.
    """
    from chopmark.apps.cli.main import COMMANDS

    module, _, attribute = COMMANDS[name][0].partition(":")
    try:
        return getattr(importlib.import_module(f"chopmark.apps.cli.{module}"), attribute)  # type: ignore[no-any-return]
    except Exception as error:
        raise StaleError(
            f"the command `{name}` (chopmark.apps.cli.{module}:{attribute}) cannot be imported: {type(error).__name__}: {error}"
        ) from error


def _command(path: str, command: click.Command, level: int = 2) -> list[str]:
    import click

    context = click.Context(command, info_name=path)
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    out = [f"{'#' * level} {path}", "", f"    {usage}", ""]
    out += _help(command)
    out += _options(command)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):  # not its attribute: a lazy group has nothing there yet
            below = command.get_command(context, name)
            if below is not None:
                out += _command(f"{path} {name}", below, level + 1)
    return out


def _help(command: click.Command) -> list[str]:
    """Return a command's help as Markdown; what click would not wrap (``\\b``) becomes a block."""
    out: list[str] = []
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        lines = paragraph.splitlines()
        if lines and lines[0].strip() == "\b":
            title, *block = lines[1:]
            out += [title.strip(), "", *(f"    {line.strip()}" for line in block), ""]
        else:
            out += [*lines, ""]
    return out


def _options(command: click.Command) -> list[str]:
    import click

    rows = []
    for option in command.params:
        if not isinstance(option, click.Option) or option.hidden:
            continue
        names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
        value = "|".join(option.type.choices) if isinstance(option.type, click.Choice) else option.metavar
        text = [option.help or "", _default(option), "Required." if option.required else ""]
        shown = f"{names} `{value}`" if value else names
        rows.append(f"| {_cell(shown)} | {_cell(' '.join(filter(None, text)))} |")
    return ["| option | |", "|---|---|", *rows, ""] if rows else []


def _default(option: click.Option) -> str:
    """Return what stands where an option is not given; as a text where that depends on the machine."""
    if isinstance(option.show_default, str):
        return f"Default: `{option.show_default}`."
    if not option.show_default or option.default in (None, False, ()) or callable(option.default):
        return ""
    return f"Default: `{', '.join(map(str, option.default)) if isinstance(option.default, tuple) else option.default}`."


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def failures_page() -> str:
    """Return reference/failures.md."""
    from chopmark.errors import FAILURES
    from chopmark.fleet.model import FLEET_FAILURES

    out = [
        NOTE,
        "# Failures",
        "",
        "A refusal has one of these names, in the code (`chopmark.errors.FAILURES`), the output, the reports of devices and",
        "the alerts. The step is that of [the procedure](../concepts/trust.md#procedure) that finds it first.",
        "",
        "| step | name | meaning | next |",
        "|---|---|---|---|",
    ]
    out += [f"| {f.step} | `{name}` | {f.meaning} | {f.hint} |" for name, f in FAILURES.items()]
    out += [
        "",
        "`key-refused` and `seal-broken` belong to sealed packages, which are not built yet; nothing raises them.",
        "",
        "## Found by the fleet",
        "",
        "No step of a device finds these; the service does, from reports.",
        "",
        "| name | meaning | next |",
        "|---|---|---|",
    ]
    out += [f"| `{name}` | {f.meaning} | {f.hint} |" for name, f in FLEET_FAILURES.items()]
    out += [
        "",
        "## Exit codes",
        "",
        "| code | class | meaning |",
        "|---|---|---|",
        "| 0 | | verified, or done |",
    ]
    from chopmark.errors import ChopmarkError, InternalError, UndecidedError, UsageError, VerificationError

    classes: tuple[type[ChopmarkError], ...] = (VerificationError, UsageError, UndecidedError, InternalError)
    out += [f"| {c.exit_code} | `{c.__name__}` | {(c.__doc__ or '').splitlines()[0]} |" for c in classes]
    return "\n".join(out) + "\n"


def formats_page() -> str:
    """Return reference/formats.md."""
    try:
        from formats import FORMATS
    except ImportError as error:
        raise StaleError(f"the samples in docs/formats.py cannot be made: {error}") from error

    out = [
        NOTE,
        "# Formats",
        "",
        "Every sample is what the encoder makes of a fixed value; long strings are cut at `…`. Rules that hold for all of them:",
        "[decoding](../concepts/trust.md#decoding). Where `x-chopmark` is shown, it is the signed extra member of a TUF object.",
        "",
        "| format | type | at most |",
        "|---|---|---|",
        *(f"| [{f.title}](#{slug(f.title)}) | {f.kind} | {f.max_bytes:,} B |" for f in FORMATS),
        "",
    ]
    for f in FORMATS:
        out += [f"## {f.title}", "", f.text, "", f"Written by {_names(f.encoder)}, read by {_names(f.decoder)}.", ""]
        out += [f"```{f.language}", f.sample(), "```", ""]
    return "\n".join(out).rstrip("\n") + "\n"


def signers_page() -> str:
    """Return reference/signers.md."""
    from chopmark.adapters.kms import ENTRY_POINTS, SCHEMES

    out = [
        NOTE,
        "# Signers",
        "",
        "Where a private key is wanted, a path or one of these URIs names it (`chopmark.adapters.kms.SCHEMES`). How to set one",
        "up: [keys in hardware](../guides/keys-in-hardware.md).",
        "",
        "| scheme | where the key is | URI | signs with | install | tried on |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in SCHEMES.items():
        extra = f"`pip install 'chopmark[{row.extra}]'`" if row.extra else "nothing"
        cells = (f"`{name}`", row.what, f"`{row.uri}`", row.algorithms, extra, row.tried)
        out.append("| " + " | ".join(map(_cell, cells)) + " |")
    out += [
        "",
        f"Another package adds a scheme with an entry point of the group `{ENTRY_POINTS}` named `kms.<scheme>`: a function that",
        "takes the URI, and something to call for a passphrase or None, and returns a `chopmark.keys.Signer`. It cannot replace a",
        "scheme of this table.",
    ]
    return "\n".join(out) + "\n"


def _names(text: str) -> str:
    return ", ".join(f"`{name}`" if "." in name else name for name in text.split(", "))


PAGES: dict[str, Callable[[], str]] = {
    "reference/commands.md": commands_page,
    "reference/failures.md": failures_page,
    "reference/formats.md": formats_page,
    "reference/signers.md": signers_page,
}


def slug(heading: str) -> str:
    """Return the anchor that a heading gets."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def markdown_files() -> list[Path]:
    """Return the documents of the project."""
    return sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])


def links(text: str) -> Iterator[str]:
    """Yield the targets of links, outside of code."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`\n]*`", "", text)
    yield from re.findall(r"\]\(([^)\s]+)\)", text)


def anchors(path: Path) -> set[str]:
    """Return the anchors of a Markdown file."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {slug(line.lstrip("#")) for line in text.splitlines() if re.match(r"#{1,6} ", line)}


def broken_links() -> list[str]:
    """Return a line for each relative link that leads nowhere."""
    out = []
    for path in markdown_files():
        for link in links(path.read_text(encoding="utf-8")):
            if re.match(r"[a-z]+:", link):
                continue
            name, _, anchor = link.partition("#")
            target = (path.parent / name).resolve() if name else path
            if not target.exists():
                out.append(f"{path.relative_to(ROOT)}: {link} does not exist")
            elif anchor and target.suffix == ".md" and anchor not in anchors(target):
                out.append(f"{path.relative_to(ROOT)}: {link} has no such heading")
    return out


def shortened(value: object) -> object:
    """Return a JSON value with long strings and long lists cut."""
    if isinstance(value, dict):
        return {key if len(key) <= 40 else key[:12] + "…": shortened(member) for key, member in value.items()}
    if isinstance(value, list):
        return [shortened(member) for member in value]
    if isinstance(value, str) and len(value) > 48:
        return value[:20] + "…"
    return value


def pretty(data: bytes) -> str:
    """Return JSON bytes for people: indented, long strings cut, short objects on one line."""
    text = json.dumps(shortened(json.loads(data)), indent=2, ensure_ascii=False)
    # Innermost objects and lists fit on a line.
    return re.sub(
        r"[\[{]\n[^\[\]{}]*?\n\s*[\]}]",
        lambda m: flat if len(flat := re.sub(r"\s*\n\s*", " ", m.group())) <= 100 else m.group(),
        text,
    )


def main(argv: list[str]) -> int:
    """Write or check; return the exit code."""
    check = "--check" in argv
    problems = []
    for name, make in PAGES.items():
        path = DOCS / name
        try:
            page = make()
        except StaleError as error:
            problems.append(f"docs/{name}: {error}")
            continue
        if path.exists() and path.read_text(encoding="utf-8") == page:
            continue
        if check:
            problems.append(f"docs/{name}: is not what the code says; run `make docs`")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(page, encoding="utf-8")
            print(f"written: docs/{name}")
    problems += broken_links()
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
