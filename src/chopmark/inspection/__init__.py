# SPDX-License-Identifier: Apache-2.0
r"""Inspection: what is in a model file, found out before anybody approves it and without loading it.

    >>> from chopmark.inspection import inspect_bytes
    >>> inspection = inspect_bytes(b"\x80\x04N.")
    >>> inspection.format, inspection.passed
    ('pickle', False)

Default deny: an operator, a domain, a field, a byte that is not known refuses the file, and so does a walk that could not be
completed. What an inspector signs is :func:`inspection_predicate`; what goes into a package beside it is :func:`build_sbom`.
"""

from chopmark.inspection.examine import DEFAULT_LIMITS, inspect_bytes, inspect_file
from chopmark.inspection.formats import HEAD_BYTES, model_format
from chopmark.inspection.model import Finding, Inspection, Limits
from chopmark.inspection.operators import DEFAULT_OPERATORS
from chopmark.inspection.predicate import allow_list_digest, inspection_predicate
from chopmark.inspection.sbom import DatasetPart, LibraryPart, Metric, ModelPart, build_sbom, library, validate_sbom

__all__ = [
    "DEFAULT_LIMITS",
    "DEFAULT_OPERATORS",
    "HEAD_BYTES",
    "DatasetPart",
    "Finding",
    "Inspection",
    "LibraryPart",
    "Limits",
    "Metric",
    "ModelPart",
    "allow_list_digest",
    "build_sbom",
    "inspect_bytes",
    "inspect_file",
    "inspection_predicate",
    "library",
    "model_format",
    "validate_sbom",
]
