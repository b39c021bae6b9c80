# SPDX-License-Identifier: Apache-2.0
"""Builds: the steps from data to package, each run as committed code and recorded as SLSA provenance.

    dataset <- train <- convert <- quantise <- package <- test

Each step names the digest of what the step before left, and checks it before it runs. A step returns a statement that
is not signed yet: who signs it, and where it is recorded, is decided by whoever calls. A step that somebody runs in a
process of their own (``chopmark.record``) is recorded in the same shape: :mod:`chopmark.builds.recorder`.
"""

from chopmark.builds.discretion import (
    describe_argument,
    is_data,
    is_room,
    is_secret_file,
    record_parameter,
)
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
from chopmark.builds.recorder import (
    Code,
    Record,
    Surroundings,
    is_code_name,
    model_name,
    order_outputs,
    record_statement,
    recorded_step,
)
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
    "Code",
    "Completed",
    "Dependency",
    "Evaluation",
    "Examples",
    "Input",
    "Isolation",
    "Package",
    "Provenance",
    "Record",
    "Requirements",
    "Runner",
    "SourceTree",
    "Surroundings",
    "Workshop",
    "convert",
    "decode_labels",
    "decode_parameters",
    "decode_provenance",
    "decode_test_result",
    "describe_argument",
    "digest_of",
    "evaluate",
    "evaluate_package",
    "fill_card",
    "is_code_name",
    "is_data",
    "is_room",
    "is_secret_file",
    "make_self_test",
    "model_name",
    "order_outputs",
    "package",
    "parse_parameter",
    "provenance_statement",
    "quantise",
    "record_parameter",
    "record_statement",
    "recorded_step",
    "train",
]
