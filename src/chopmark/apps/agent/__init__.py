# SPDX-License-Identifier: Apache-2.0
"""The agent: follows the channel, keeps looking at what is installed, delivers reports. One process a device.

enroll -> run, run, run …                 verify is a look by hand
"""
