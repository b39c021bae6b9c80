# SPDX-License-Identifier: Apache-2.0
"""Servers over HTTP: :mod:`.client` speaks with one, each module beside it knows what one kind of server means."""
