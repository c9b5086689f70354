#!/usr/bin/env python3
"""Half an hour of all that clients do, against the broadcast example.

Connections come and go in every way, three publish, some listen, some read slowly and some never. The server
has to take no more memory at the end than at the beginning, to keep no descriptor, to complain of nothing, and to
lose no message of those that keep up.
"""

import argparse
import asyncio
import statistics
import sys
import threading
import time

from server import Server
from swarm import WAYS, Swarm

import harness
from harness import Checks

MIB = 1 << 20
# The heaps of the C library take some minutes to reach the size at which they stay: one a thread, each with
# holes where large buffers were.
WARM_UP = 300
# What memory may have grown by: a part of it, or so many bytes. Where a third takes less than five minutes, its
# median still depends on which large buffers happen to be in use, and a short run only finds what is gross.
GROWTH_MAX, GROWTH_MAX_IN_SHORT, GROWTH_BYTES_MAX = 0.05, 0.25, MIB
SHORT_THIRD = 300
# How long the server may take to see that all have left.
LEFT_PATIENCE = 15
# How long it has to give back what they took, before that is looked at.
QUIET = 3


class Samples:
    """A line each second: when, resident bytes, descriptors."""

    def __init__(self, server):
        self.server = server
        self.lines = []
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        start = time.monotonic()
        while not self.stopping.wait(1) and self.server.process.poll() is None:
            self.lines.append((time.monotonic() - start, self.server.resident(), self.server.descriptors()))

    def stop(self):
        self.stopping.set()
        self.thread.join()

    def thirds(self, seconds):
        """The median resident bytes of each third of the time after the warm-up, and how long a third is."""
        warm_up = min(WARM_UP, seconds / 4)
        third = (seconds - warm_up) / 3
        starts = [warm_up + third * number for number in range(3)]
        return [
            statistics.median(bytes for at, bytes, _ in self.lines if start <= at < start + third)
            for start in starts
        ], third


def descriptors_once_all_left(server, before):
    """How many there are once they are no more than before, or after a while."""
    deadline = time.monotonic() + LEFT_PATIENCE
    while (count := server.descriptors()) > before and time.monotonic() < deadline:
        time.sleep(0.1)
    return count


def soak(checks, server, seconds):
    before, empty = server.descriptors(), server.resident()
    samples = Samples(server)
    swarm = Swarm(server.port)

    async def all_of_it():
        # Bounded, whatever happens.
        async with asyncio.timeout(seconds + 120):
            await swarm.run(seconds)

    with checks.check("the clients ran to their end"):
        asyncio.run(all_of_it())
    samples.stop()
    for at, bytes, descriptors in samples.lines[::60]:
        print(f"        after {at:5.0f} s {bytes / MIB:6.1f} MiB, {descriptors} descriptors")
    after = descriptors_once_all_left(server, before)
    time.sleep(QUIET)
    kept = server.resident()
    for what, count in sorted(swarm.done.items()):
        print(f"        {count:8} {what}")
    print(f"        {sum(swarm.published):8} messages published, each to {len(swarm.received)} that listened")
    with checks.check("the server runs"):
        assert server.process.poll() is None
    with checks.check("all that came and went was treated as it has to be"):
        assert not swarm.failures, "\n".join(swarm.failures)
        missing = [way.__name__ for way in WAYS if not swarm.done[way.__name__]]
        assert not missing, f"never done: {missing}"
    with checks.check("those that listened got every message, in order"):
        assert sum(swarm.published) > 0
        assert all(one == swarm.published for one in swarm.received), (swarm.published, swarm.received)
    with checks.check("memory is flat"):
        (first, second, last), third = samples.thirds(seconds)
        growth_max = GROWTH_MAX_IN_SHORT if third < SHORT_THIRD else GROWTH_MAX
        print(f"        resident MiB: {empty / MIB:.1f} empty, then {first / MIB:.2f}, {second / MIB:.2f}, "
              f"{last / MIB:.2f} in the thirds after the warm-up, {kept / MIB:.1f} after all left")
        assert last - first <= max(GROWTH_BYTES_MAX, growth_max * first), (first, last)
    with checks.check("no descriptor is left"):
        most = max(descriptors for *_, descriptors in samples.lines)
        print(f"        descriptors: {before} before, {most} at most, {after} after")
        assert after <= before < most
    with checks.check("the server complains of nothing"):
        assert not server.complaints(), "\n".join(server.complaints()[:20])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary", help="target/release/broadcast")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--driver", choices=harness.DRIVERS, default="auto")
    arguments = parser.parse_args()
    harness.DRIVER = arguments.driver
    checks = Checks()
    server = Server(arguments.binary, arguments.workers)
    try:
        soak(checks, server, arguments.minutes * 60)
    finally:
        server.stop()
    print(f"{checks.passed} passed, {checks.failed} failed")
    sys.exit(1 if checks.failed else 0)


main()
