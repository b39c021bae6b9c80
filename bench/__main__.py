# SPDX-License-Identifier: Apache-2.0
"""Measure, print a table as it grows, and write it as JSON. A goal that is missed is shown, and is no failure."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from bench import ROOT
from bench.measure import Bench, Figure, Unavailable
from bench.table import BENCHES

_WIDTH = max(len(bench.name) for bench in BENCHES)
_HEADINGS = ("figure", "value", "floor", "unit", "ratio", "goal", "met")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench", description="Ratios to floors and peers of the same run.")
    parser.add_argument(
        "--only", metavar="PREFIX", default="", help="figures whose name starts so: ledger, device.load"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, default=ROOT / "build" / "bench.json")
    options = parser.parse_args(argv)
    chosen = [bench for bench in BENCHES if bench.name.startswith(options.only)]
    if not chosen:
        parser.error(f"no figure starts with {options.only!r}; there are {', '.join(bench.name for bench in BENCHES)}")
    print(_line(_HEADINGS))
    figures = list(_shown(_measured(chosen)))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=1, ensure_ascii=False) + "\n")
    return 0


def _measured(benches: Iterable[Bench]) -> Iterator[Figure]:
    build = ROOT / "build"  # and not /tmp, which may be memory, where a sync costs nothing
    build.mkdir(exist_ok=True)
    for bench in benches:
        with tempfile.TemporaryDirectory(prefix="bench-", dir=build) as folder:
            try:
                yield bench.measure(Path(folder))
            except Unavailable as why:
                print(f"{bench.name:{_WIDTH}}  left out: {why}", file=sys.stderr, flush=True)


def _shown(figures: Iterable[Figure]) -> Iterator[Figure]:
    for one in figures:
        met = "" if one.met is None else "yes" if one.met else "no"
        numbers = (f"{one.value:,.6g}", f"{one.floor:,.6g}", one.unit, f"{one.ratio:.3g}")
        print(_line((one.name, *numbers, one.goal or "", met)), flush=True)
        yield one


def _line(cells: Sequence[str]) -> str:
    name, value, floor, unit, ratio, goal, met = cells
    return f"{name:{_WIDTH}}  {value:>10}  {floor:>10}  {unit:9}  {ratio:>6}  {goal:6}  {met}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
