# SPDX-License-Identifier: Apache-2.0
"""Simulators of what stands around a device: the people, the ledger, the channel. A tutorial.

Everything is in memory and really signed; what is simulated is only that no disk, network or second person is needed.
A test says what the world looks like, then what one attacker changes, then what the device calls it:

    >>> from simulators import SimChannel
    >>> channel = SimChannel()                          # founds a workspace: SimTrust, SimLog, three witnesses
    >>> first = channel.approve(version="1", counter=1)  # two owners sign a release envelope, both halves each
    >>> published = channel.publish(first)               # a real Publisher writes files, logs a leaf, proves it
    >>> device = follower(channel)                       # steps 2 to 13 of the procedure, with a memory
    >>> device.refresh(channel.now).version
    '1'

The security owners revoke it; the next publication carries the new status:

    >>> status = channel.revoke(first.digest)
    >>> published = channel.publish(first)
    >>> with refuses("release-revoked", step=13) as refused:
    ...     device.refresh(channel.now)
    >>> refused.value.message
    'revoked: backdoor'

Attackers, from weak to strong:

* **who serves the files** changes bytes: ``channel.lies["metadata/timestamp.json"] = b"…"``, serves an old copy:
  ``old = channel.copy()`` … ``channel.store.files = old``, or nothing: ``channel.down = True``.
* **who stole the operator's host** signs what the operator signs: ``channel.resign("production", change)`` changes a file
  and signs it again, ``channel.force({"production": data})`` puts files into a new, properly logged publication.
* **who runs the ledger** rewrites history: ``channel.log.fork(keep=2)`` is a second history with the same keys,
  ``channel.log.shrink(1)`` forgets, ``channel.log.drop.add(LineKind.ML_DSA_44)`` strips the post-quantum half.
  Honest witnesses do not cosign a fork; ``channel.log.collude()`` makes them.
* **some of the owners** sign alone: ``channel.approve(by=["owner-a"])`` or, half a signature,
  ``channel.approve(signers=[...])``; ``SimTrust.build_root`` and ``build_targets`` take signers too.

Time never passes by itself: ``channel.now`` is when things are signed, the argument of ``refresh`` is when they are read.
"""

from simulators.channel import RUNTIME, RUNTIME_VERSION, SimChannel, everyone
from simulators.clock import NOW, HeldClock, StandingClock
from simulators.expect import refuses
from simulators.follower import Memory, SimFollower
from simulators.log import SimLog, SimWitness
from simulators.release import plain_release
from simulators.store import MemoryChannel
from simulators.trust import SimTrust

__all__ = [
    "NOW",
    "RUNTIME",
    "RUNTIME_VERSION",
    "HeldClock",
    "Memory",
    "MemoryChannel",
    "SimChannel",
    "SimFollower",
    "SimLog",
    "SimTrust",
    "SimWitness",
    "StandingClock",
    "everyone",
    "follower",
    "plain_release",
    "refuses",
]


def follower(channel: SimChannel, **options: str) -> SimFollower:
    """Return a new device that follows *channel*, with its first root pinned.

    Args:
        options: ``model`` and ``device``.
    """
    return SimFollower(channel, root=channel.trust.first, pin=channel.trust.pin, name=channel.name, **options)
