# SPDX-License-Identifier: Apache-2.0
"""The command line: parse, call one function of a noun, render."""
