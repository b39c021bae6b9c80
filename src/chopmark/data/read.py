# SPDX-License-Identifier: Apache-2.0
"""CSV bytes -> rows of whole numbers, every value checked. Pure but for ``read_table``.

One spelling a value: no quotes, no spaces, no plus sign, no leading zero, so that every reader reads what was checked.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from chopmark.artifacts import Digest, read_file
from chopmark.data.model import Column, Contract, Table
from chopmark.errors import DecodeError, VerificationError

MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_ROWS = 5_000_000

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,15}")


def read_table(path: Path, contract: Contract, *, digest: Digest | None = None) -> Table:
    """Return the rows of one CSV file; the bytes that are hashed are the bytes that are read.

    Args:
        digest: what the file must be, where that is known.

    Raises:
        VerificationError: ``dataset-altered`` (another digest) or ``dataset-invalid`` (a value, column or row).
    """
    data = read_file(path, max_bytes=MAX_FILE_BYTES)
    actual = Digest.of(data)
    if digest is not None and actual != digest:
        raise altered(path.name, expected=digest, actual=actual)
    at = label_position(contract)
    rows = list(read_rows(data, contract.columns, file=path.name))
    return Table(
        digest=actual,
        inputs=tuple(row[:at] + row[at + 1 :] for row in rows),
        labels=tuple(row[at] for row in rows),
    )


def read_rows(data: bytes, columns: tuple[Column, ...], *, file: str) -> Iterator[tuple[int, ...]]:
    """Yield each row of CSV *data*, checked.

    Raises:
        DecodeError: not UTF-8, or not CSV without quotes.
        VerificationError: ``dataset-invalid``: other columns, a row too long or short, a value that is no whole number
            or out of bounds, no row, too many. Names file, row (1 is the first below the header) and column.
    """
    header, *names = _lines(data, file=file), [column.name for column in columns]
    first = next(header, None)
    if first != names[0]:
        raise _invalid(file, 0, _other_columns(first or [], names[0]))
    number = 0
    for number, fields in enumerate(header, start=1):
        if number > MAX_ROWS:
            raise _invalid(file, number, f"more than {MAX_ROWS:,} rows")
        yield _row(fields, columns, file=file, number=number)
    if number == 0:
        raise _invalid(file, 0, "no rows below the header")


def label_position(contract: Contract) -> int:
    """Return the 0-based position of the label column."""
    return [column.name for column in contract.columns].index(contract.label)


def altered(file: str, *, expected: Digest, actual: Digest) -> VerificationError:
    """Return the error for a file that is not what the contract pins."""
    return VerificationError(
        f"{file}: is {actual.short}…, and the contract pins {expected.short}…",
        code="dataset-altered",
        hint="restore the file; if the new one is right, look at what changed and pin it: `chopmark data register --pin`",
        evidence={"file": file, "expected": str(expected), "actual": str(actual)},
    )


def _lines(data: bytes, *, file: str) -> Iterator[list[str]]:
    if b'"' in data or b"\0" in data:
        raise DecodeError(f"{file}: holds quotes or zero bytes; whole numbers need neither")
    try:
        text = data.decode("utf-8")
        yield from csv.reader(io.StringIO(text, newline=""), strict=True)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DecodeError(f"{file}: not CSV in UTF-8 ({str(error)[:120]})") from error


def _row(fields: list[str], columns: tuple[Column, ...], *, file: str, number: int) -> tuple[int, ...]:
    if len(fields) != len(columns):
        raise _invalid(file, number, f"{len(fields)} values for {len(columns)} columns")
    values = []
    for text, column in zip(fields, columns, strict=True):
        if not _INTEGER.fullmatch(text):
            raise _invalid(file, number, f"{text[:40]!r} is not a whole number", column=column.name)
        value = int(text)
        if not column.minimum <= value <= column.maximum:
            reason = f"{value} is not within {column.minimum} to {column.maximum}"
            raise _invalid(file, number, reason, column=column.name)
        values.append(value)
    return tuple(values)


def _other_columns(found: list[str], wanted: list[str]) -> str:
    missing = [name for name in wanted if name not in found]
    unknown = [name[:40] for name in found if name not in wanted]
    parts = [f"without {', '.join(missing[:5])}"] if missing else []
    parts += [f"unknown: {', '.join(unknown[:5])}"] if unknown else []
    return "not the columns of the contract: " + ("; ".join(parts) or "another order, or one twice")


def _invalid(file: str, row: int, reason: str, *, column: str = "") -> VerificationError:
    where = ", ".join([f"row {row}" if row else "header", *([f"column {column}"] if column else [])])
    return VerificationError(
        f"{file}, {where}: {reason}",
        code="dataset-invalid",
        hint="ask its source for a correct delivery, or change the contract in a reviewed commit",
        evidence={"file": file, "row": row, "column": column},
    )
