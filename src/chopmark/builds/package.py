# SPDX-License-Identifier: Apache-2.0
"""Assemble the package: what a device gets, no file more and none less.

<into>/package/       model.onnx labels.json preprocessing.json MODEL_CARD.md self-test.json
<into>/manifest.json  its SHA-256 is the package digest, the subject of every later statement
<into>/model.sig      OMS bundle over the package, for stock tools; nothing of ours decides by it
"""

from __future__ import annotations

import string
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chopmark import canonical
from chopmark.artifacts import MAX_MANIFEST_BYTES, Digest, Manifest, read_file, scan, write_file
from chopmark.artifacts.selftest import MAX_VECTORS_BYTES, SELF_TEST_FILE, decode_vectors
from chopmark.builds.model import BuildType, Dependency, Provenance, Workshop
from chopmark.builds.place import copy, remove
from chopmark.builds.wire import MAX_SMALL_FILE_BYTES, check_preprocessing, decode_labels, provenance_statement
from chopmark.errors import DecodeError, UsageError, VerificationError
from chopmark.keys import Signer
from chopmark.statements import OMS_FILE, Statement, Subject, build_oms, verify_oms

MODEL_FILE: Final = "model.onnx"
LABELS_FILE: Final = "labels.json"
CARD_FILE: Final = "MODEL_CARD.md"
PREPROCESSING_FILE: Final = "preprocessing.json"
PACKAGE_FILES: Final = (MODEL_FILE, LABELS_FILE, PREPROCESSING_FILE, CARD_FILE, SELF_TEST_FILE)
MAX_MODEL_BYTES: Final = 2 * 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A package on disk, and the statement about it that is not signed yet.

    Attributes:
        oms: the OMS bundle, or None where nobody signed one.
    """

    folder: Path
    manifest: Manifest
    manifest_file: Path
    oms: Path | None
    statement: Statement
    provenance: Provenance

    @property
    def digest(self) -> Digest:
        return self.manifest.digest


def package(
    files: Mapping[str, Path],
    *,
    model: str,
    former: Digest,
    workshop: Workshop,
    into: Path,
    signer: Signer | None = None,
) -> Package:
    """Copy *files* into a package, replacing the one that was there.

    Args:
        files: each of ``PACKAGE_FILES`` -> where it is now.
        former: SHA-256 of the model file that the step before left.
        signer: a P-256 key for the OMS bundle.

    Raises:
        UsageError: a file too many or too few.
        VerificationError: ``input-altered``: the model file is another.
        DecodeError: a small file that does not say what it should.
    """
    canonical.check_name(model, what="model")
    wrong = sorted(set(files) ^ set(PACKAGE_FILES))
    if wrong:
        raise UsageError(f"a package has {', '.join(PACKAGE_FILES)}; not so: {', '.join(wrong)}")
    started = workshop.clock.now()
    into.mkdir(parents=True, exist_ok=True)
    folder = into / "package"
    with tempfile.TemporaryDirectory(dir=into, prefix=".packaging-") as temporary:
        staging = Path(temporary) / "package"
        staging.mkdir()
        for name in PACKAGE_FILES:
            copy(files[name], staging / name)
            (staging / name).chmod(0o644)
        _check_contents(staging)
        manifest = scan(staging)
        _check_model(manifest, former)
        _check_size(manifest)
        subjects, oms = _subjects(model, manifest, signer)
        remove(folder)
        staging.rename(folder)
    manifest_file = into / "manifest.json"
    write_file(manifest_file, manifest.encode())
    remove(into / OMS_FILE)
    if oms is not None:
        write_file(into / OMS_FILE, oms)
    provenance = Provenance(
        build_type=BuildType.PACKAGE,
        external={"files": list(PACKAGE_FILES)},
        internal={},
        dependencies=tuple(
            Dependency(name=entry.name, algorithm="sha256", digest=entry.sha256.hex) for entry in manifest.files
        ),
        builder=workshop.builder,
        invocation=workshop.new_id(),
        started=started,
        finished=workshop.clock.now(),
    )
    return Package(
        folder=folder,
        manifest=manifest,
        manifest_file=manifest_file,
        oms=None if oms is None else into / OMS_FILE,
        statement=provenance_statement(subjects, provenance),
        provenance=provenance,
    )


def fill_card(template: str, values: Mapping[str, str]) -> str:
    """Fill the ``${name}`` places of a model card.

    Raises:
        UsageError: a place without a value, or a ``$`` that is none.
    """
    try:
        return string.Template(template).substitute(values)
    except KeyError as error:
        raise UsageError(f"model card: nothing to put for {error}") from error
    except ValueError as error:
        raise UsageError(f"model card: {error}", hint="write $$ for a dollar sign") from error


def _check_contents(folder: Path) -> None:
    _checked(folder, LABELS_FILE, decode_labels)
    _checked(folder, PREPROCESSING_FILE, check_preprocessing)
    _checked(folder, CARD_FILE, _check_card)
    _checked(folder, SELF_TEST_FILE, decode_vectors, max_bytes=MAX_VECTORS_BYTES)


def _checked(
    folder: Path, name: str, check: Callable[[bytes], object], *, max_bytes: int = MAX_SMALL_FILE_BYTES
) -> None:
    check(read_file(folder / name, max_bytes=max_bytes))


def _check_card(data: bytes) -> None:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DecodeError(f"{CARD_FILE}: not UTF-8") from error
    if not text.strip() or "${" in text:
        raise DecodeError(f"{CARD_FILE}: is empty, or has places that nobody filled", hint="fill every ${...}")


def _check_model(manifest: Manifest, former: Digest) -> None:
    entry = manifest.file(MODEL_FILE)
    if entry is None or entry.sha256 != former:
        actual = "missing" if entry is None else entry.sha256.short
        raise VerificationError(
            f"input {MODEL_FILE}: is {actual}…, and the step before left {former.short}…",
            code="input-altered",
            hint="package the file that the last step wrote",
            evidence={"expected": str(former), "actual": "" if entry is None else str(entry.sha256)},
        )


def _check_size(manifest: Manifest) -> None:
    """Refuse here what no device reads."""
    length = len(manifest.encode())
    if length > MAX_MANIFEST_BYTES:
        raise UsageError(
            f"{len(manifest.files):,} files: the manifest has {length:,} bytes, and devices read {MAX_MANIFEST_BYTES:,}",
            code="too-many-files",
            hint="pack small files into archives",
        )


def _subjects(model: str, manifest: Manifest, signer: Signer | None) -> tuple[tuple[Subject, ...], bytes | None]:
    """Return the subjects, and the OMS bundle: its root digest is the second subject, for those who know only that."""
    name = f"model/{model}"
    first = Subject(name, manifest.digest)
    if signer is None:
        return (first,), None
    oms = build_oms(manifest, signer, name=name)
    return (first, Subject(f"{name}/oms", verify_oms(oms, manifest, signer.public))), oms
