# SPDX-License-Identifier: Apache-2.0
"""``data``: what a model may learn from, registered before anything learns from it."""

from __future__ import annotations

from pathlib import Path

import click

from chopmark.apps.cli.lazy import Group
from chopmark.apps.cli.render import Answer, answers, columns, good


@click.group(cls=Group)
def data() -> None:
    """Datasets: checked value by value against a contract, then recorded.

    \b
    Example:
        chopmark data register data --contract schema.toml
    """


@data.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--contract", type=click.Path(path_type=Path), required=True, help="The contract, schema.toml.")
@click.option(
    "--pin", is_flag=True, help="First write the digest of each file into the contract; look at the data before."
)
@click.pass_obj
@answers
def register(start: Path, folder: Path, contract: Path, *, pin: bool) -> Answer:
    """Check every value and every source's digest in FOLDER, and record the dataset.

    \b
    Example:
        chopmark data register data --contract schema.toml --pin
        git commit -am "New delivery of branch-b"
        chopmark data register data --contract schema.toml
    """
    from chopmark.apps.cli.steps import register_data
    from chopmark.apps.cli.wiring import Site
    from chopmark.data import pin as pin_contract

    if pin:
        pinned = pin_contract(folder, contract)
        body = {"ok": True, "pinned": str(contract), "files": len(pinned.pins)}
        return body, [
            good(f"{len(pinned.pins)} files pinned in {contract}"),
            "  commit it, then register without --pin",
        ]
    dataset, index = register_data(Site.at(start), folder, contract)
    rows = [(name, f"{sum(file.rows for file in files):,} rows") for name, files in dataset.sources.items()]
    body = {"ok": True, "name": dataset.name, "digest": str(dataset.digest), "rows": dataset.rows, "entry": index}
    return body, [
        good(f"dataset {dataset.name}: {dataset.rows:,} rows to learn from  {dataset.digest}"),
        *columns(rows, indent="  "),
        f"  entry {index} of the ledger",
    ]
