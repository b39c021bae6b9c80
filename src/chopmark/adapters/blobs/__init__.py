# SPDX-License-Identifier: Apache-2.0
"""Where bytes are kept: a folder today; object stores as further files of this family."""
