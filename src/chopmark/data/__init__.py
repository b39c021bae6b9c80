# SPDX-License-Identifier: Apache-2.0
"""Data: what a model may learn from, checked value by value before anything learns from it.

    contract = pin(Path("data"), Path("schema.toml"))     # once, when a delivery was looked at: writes its digests
    dataset = register(Path("data"), Path("schema.toml"))  # every time: all files, all values, all digests, or an error
    statement = dataset_statement(dataset)                 # subject data/<name>, the digest of the dataset's manifest

A contract (``schema.toml``) names the columns with their bounds, the sources, the held-back file, and - pinned - the
SHA-256 and the number of rows of every file. What it does not name is refused: a file, a column, a source.

It decides whether files are what the contract says. Whether what they say is *true* is not decided here.
"""

from chopmark.data.model import Column, Contract, Dataset, File, Pin, Source, Table
from chopmark.data.read import read_table
from chopmark.data.register import pin, register
from chopmark.data.wire import dataset_statement, decode_contract, decode_dataset

__all__ = [
    "Column",
    "Contract",
    "Dataset",
    "File",
    "Pin",
    "Source",
    "Table",
    "dataset_statement",
    "decode_contract",
    "decode_dataset",
    "pin",
    "read_table",
    "register",
]
