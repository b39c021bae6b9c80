# SPDX-License-Identifier: Apache-2.0
"""The one YAML of Chopmark: what people edit, read so that it means one thing to every reader.

Accepted: one document of mappings, lists, strings, whole numbers, ``true``, ``false`` and ``null``. Refused: duplicate keys,
anchors, aliases, tags, directives, a second document, too deep or too long a file, and every plain word that YAML
versions read differently (``no``, ``1.10``, ``0x1f``, ``12:30``): such a value is written in quotes.

Reading stops at the parser's events; no YAML constructor ever runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, TypeVar

import yaml

from chopmark import canonical
from chopmark.errors import DecodeError

MAX_DOCUMENT_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 12

_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,15})")
_WORDS: Final[Mapping[str, bool | None]] = {"true": True, "false": False, "null": None}
_AMBIGUOUS_WORDS: Final = frozenset({"~", "", "y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_NUMBER_LIKE: Final = re.compile(r"[-+.]?[0-9][0-9_.,:xXoObBeE+a-fA-F-]*|[-+]?\.(inf|nan)", re.IGNORECASE)
_PLAIN: Final = re.compile(r"(sha256:)?[A-Za-z][A-Za-z0-9._/-]*|sha256:[0-9a-f]{64}")

T = TypeVar("T")


def read_document(data: bytes, *, what: str) -> dict[str, object]:
    """Read one YAML document that is a mapping.

    Raises:
        DecodeError: anything that the module refuses.
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        raise DecodeError(f"{what}: {len(data):,} bytes, more than the {MAX_DOCUMENT_BYTES:,} allowed")
    try:
        events = _one_document(yaml.parse(data.decode("utf-8"), Loader=yaml.SafeLoader))
        value = _value(next(events), events, depth=0)
        trailing = next(events, None)
    except DecodeError as error:
        raise DecodeError(f"{what}: {error.message}", hint=error.hint) from error
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise DecodeError(f"{what}: not YAML{where}") from error
    if not isinstance(value, dict) or trailing is not None:
        raise DecodeError(f"{what}: not one document with members")
    return value


def read_document_as(data: bytes, kind: type[T], *, what: str) -> T:
    """Read one YAML document into *kind*, a msgspec struct declared with ``forbid_unknown_fields=True``.

    Raises:
        DecodeError: as :func:`read_document`, or it does not fit *kind*.
    """
    return canonical.convert(read_document(data, what=what), kind, what=what)


def write_document(value: Mapping[str, object], *, comment: str = "") -> bytes:
    """Return YAML that :func:`read_document` reads back as *value*, members in their order.

    Args:
        comment: one line for the top of the file.
    """
    text = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, default_flow_style=False, allow_unicode=False, width=1_000_000
    )
    return (f"# {comment}\n{text}" if comment else text).encode()


def _one_document(events: Iterator[yaml.Event]) -> Iterator[yaml.Event]:
    documents = 0
    for event in events:
        match event:
            case yaml.StreamStartEvent() | yaml.StreamEndEvent() | yaml.DocumentEndEvent():
                continue
            case yaml.DocumentStartEvent():
                documents += 1
                if documents > 1 or event.version or event.tags:
                    raise DecodeError("a second document, or a directive")
            case yaml.AliasEvent():
                raise DecodeError("an alias", hint="write the value where it is used")
            case _:
                yield event
    if not documents:
        raise DecodeError("an empty file")


def _value(event: yaml.Event, events: Iterator[yaml.Event], *, depth: int) -> object:
    if depth > MAX_DEPTH:
        raise DecodeError(f"more than {MAX_DEPTH} levels")
    if getattr(event, "anchor", None) is not None or getattr(event, "tag", None) is not None:
        raise DecodeError("an anchor or a tag", hint="write plain values")
    if isinstance(event, yaml.ScalarEvent):
        return event.value if event.style is not None else _plain(event.value)
    if isinstance(event, yaml.SequenceStartEvent):
        return list(_sequence(events, depth=depth + 1))
    return _mapping(events, depth=depth + 1)


def _sequence(events: Iterator[yaml.Event], *, depth: int) -> Iterator[object]:
    while not isinstance(event := next(events), yaml.SequenceEndEvent):
        yield _value(event, events, depth=depth)


def _mapping(events: Iterator[yaml.Event], *, depth: int) -> dict[str, object]:
    members: dict[str, object] = {}
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        key = _value(event, events, depth=depth)
        if not isinstance(key, str):
            raise DecodeError("a key that is not text", hint="write it in quotes")
        if key in members:
            raise DecodeError(f"{key[:40]!r} stands twice")
        members[key] = _value(next(events), events, depth=depth)
    return members


def _plain(text: str) -> object:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text) and text != "-0":
        if abs(int(text)) > canonical.MAX_INTEGER:
            raise DecodeError("a number is beyond 2^53")
        return int(text)
    if text.lower() in _AMBIGUOUS_WORDS or _NUMBER_LIKE.fullmatch(text):
        raise DecodeError(f"{text[:40]!r} means different things to different readers", hint="write it in quotes")
    return text


class _Dumper(yaml.SafeDumper):
    """Quotes every string that is more than a word, and never writes an anchor."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: FBT001, FBT002, ARG002
        super().increase_indent(flow, False)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = _PLAIN.fullmatch(text) and text.lower() not in _AMBIGUOUS_WORDS
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _represent_text)
