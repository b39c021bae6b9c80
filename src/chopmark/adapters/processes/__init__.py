# SPDX-License-Identifier: Apache-2.0
"""Commands as processes of this machine, and the code they run as a Git tree."""
