# SPDX-License-Identifier: Apache-2.0
"""Every figure: its name, its unit, what makes it, and what it should reach. What each means: docs/reference/bench.md."""

from __future__ import annotations

from bench import device, hash, keys, ledger, ledger_scale, policy, signers, signing  # noqa: A004 - by what they measure
from bench.measure import Bench

BENCHES = (
    Bench("signing.hash_file", "ms", hash.hash_file, goal="≤ 3.5"),
    Bench("signing.scan_1000", "ms", hash.scan_folder),
    Bench("signing.flat_512MB", "ms", hash.in_memory(hash.flat_large), goal="≤ 1.05"),
    Bench("signing.flat_5000", "ms", hash.in_memory(hash.flat_small)),
    Bench("signing.tree_512MB", "MB/s", hash.in_memory(hash.tree_verify), goal="≥ 1.8", per=512),
    Bench("signing.touched_blocks", "ms", hash.in_memory(hash.touched), goal="≤ 0.08"),
    Bench("signing.verify_envelope", "us", keys.verify_envelope, goal="≤ 1.25"),
    Bench("signing.pkcs11_p256", "signatures/s", signers.sign_on_token, goal="≥ 20", per=signers.SIGNATURES),
    Bench("oms.sign_2GB", "s", signing.sign_one, goal="≤ 0.77"),
    Bench("oms.verify_2GB", "s", signing.verify_one, goal="≤ 0.77"),
    Bench("oms.memory_2GB", "B", signing.memory_one, goal="≤ 0.5"),
    Bench("oms.sign_1000x1MB", "s", signing.sign_thousand, goal="≤ 0.45"),
    Bench("oms.verify_1000x1MB", "s", signing.verify_thousand, goal="≤ 0.45"),
    Bench("oms.memory_1000x1MB", "B", signing.memory_thousand, goal="≤ 0.5"),
    Bench("oms.sign_20000x10KB", "s", signing.sign_many, goal="≤ 0.1"),
    Bench("oms.verify_20000x10KB", "s", signing.verify_many, goal="≤ 0.1"),
    Bench("oms.memory_20000x10KB", "B", signing.memory_many, goal="≤ 0.5"),
    Bench("oms.verify_cold", "ms", signing.verify_cold, goal="≤ 0.5"),
    Bench("ledger.append_batch4096", "entries/s", ledger.append_batch, goal="≥ 0.15", per=ledger.BATCH),
    Bench("ledger.append_batch4096_twice", "entries/s", ledger.append_batch_twice, goal="≥ 0.25", per=ledger.BATCH),
    Bench("ledger.append_single", "ms", ledger.append_single, goal="≤ 6"),
    Bench("ledger.verify_proof", "us", ledger.verify, goal="≤ 1.25"),
    Bench("ledger.prove_verify", "us", ledger.prove_verify),
    Bench("ledger.prove_1M", "proofs/s", ledger_scale.prove_beside_pymerkle, goal="≥ 100", per=1),
    Bench("ledger.prove_10M", "us", ledger_scale.prove_huge, goal="≤ 2"),
    Bench("ledger.proof_bytes", "B", ledger_scale.proof_bytes, goal="≤ 1"),
    Bench("ledger.proof_bytes_hybrid", "B", ledger_scale.proof_bytes_hybrid),
    Bench("ledger.admit", "entries/s", keys.admit, goal="≥ 0.8", per=1),
    Bench("ledger.fsck_1M", "entries/s", ledger_scale.check, goal="≥ 0.4", per=ledger_scale.LARGE),
    Bench("ledger.fsck_1M_once", "entries/s", ledger_scale.check_once, goal="≥ 0.4", per=ledger_scale.LARGE),
    Bench("ledger.fsck_two_cores", "s", ledger_scale.check_two_cores, goal="≥ 1.7"),
    Bench("ledger.disk", "B", ledger_scale.disk, goal="≤ 1.02"),
    Bench("ledger.append_beside_tessera", "entries/s", ledger_scale.beside_tessera, per=ledger.BATCH),
    Bench("policy.decide_12_rules", "ms", policy.decide, goal="≤ 27"),
    Bench("policy.evaluate_12_rules", "ms", policy.evaluate, goal="≤ 27"),
    Bench("device.load_5MB", "ms", device.load, goal="≤ 1.5"),
    Bench("device.verify_50MB", "ms", device.verify, goal="≤ 1.15"),
    Bench("device.sealed_copy_5MB", "ms", device.sealed_copy_5mb, goal="≤ 2"),
    Bench("device.sealed_copy_50MB", "ms", device.sealed_copy_50mb, goal="≤ 1.5"),
)
