# SPDX-License-Identifier: Apache-2.0
"""Builds: the steps from data to package, each run as committed code and recorded as SLSA provenance.

    dataset <- train <- convert <- quantise <- package <- test

Each step names the digest of what the step before left, and checks it before it runs. A step returns a statement that
is not signed yet: who signs it, and where it is recorded, is decided by whoever calls.
"""

from chopmark.builds.evaluate import Assessed, Evaluation, Requirements, evaluate, evaluate_package, make_self_test
from chopmark.builds.model import (
    Builder,
    BuildRequest,
    BuildType,
    Built,
    Dependency,
    Examples,
    Input,
    Isolation,
    Provenance,
    Workshop,
)
from chopmark.builds.package import PACKAGE_FILES, Package, fill_card, package
from chopmark.builds.place import digest_of
from chopmark.builds.ports import Completed, Runner, SourceTree
from chopmark.builds.run import PARAMETERS_VARIABLE, convert, quantise, train
from chopmark.builds.wire import (
    decode_labels,
    decode_parameters,
    decode_provenance,
    decode_test_result,
    parse_parameter,
    provenance_statement,
)

__all__ = [
    "PACKAGE_FILES",
    "PARAMETERS_VARIABLE",
    "Assessed",
    "BuildRequest",
    "BuildType",
    "Builder",
    "Built",
    "Completed",
    "Dependency",
    "Evaluation",
    "Examples",
    "Input",
    "Isolation",
    "Package",
    "Provenance",
    "Requirements",
    "Runner",
    "SourceTree",
    "Workshop",
    "convert",
    "decode_labels",
    "decode_parameters",
    "decode_provenance",
    "decode_test_result",
    "digest_of",
    "evaluate",
    "evaluate_package",
    "fill_card",
    "make_self_test",
    "package",
    "parse_parameter",
    "provenance_statement",
    "quantise",
    "train",
]
