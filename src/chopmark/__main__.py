# SPDX-License-Identifier: Apache-2.0
"""``python -m chopmark`` is the command ``chopmark``."""

from chopmark.apps.cli.main import main

main()
