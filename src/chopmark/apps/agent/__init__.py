# SPDX-License-Identifier: Apache-2.0
"""The agent: follows the channel, keeps looking at what is installed, delivers reports. One process a device.

enroll -> run, run, run …                 verify and load are what an application does, for a look by hand
"""
