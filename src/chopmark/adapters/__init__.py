# SPDX-License-Identifier: Apache-2.0
"""Everything outside Python's memory that Chopmark talks to: one outside thing per file, by family."""
