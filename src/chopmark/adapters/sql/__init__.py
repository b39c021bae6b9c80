# SPDX-License-Identifier: Apache-2.0
"""SQL stores. SQLite is the embedded default: one durable file, several processes, no service."""
