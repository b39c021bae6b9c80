# SPDX-License-Identifier: Apache-2.0
"""Repositories of the desired state: a local one by the ``git`` program today; forges as further files of this family."""
