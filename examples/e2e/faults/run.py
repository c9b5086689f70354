#!/usr/bin/env python3
"""Peers that are gone, silent, slow or too fast, against an echo server: run.py ECHO_BINARY [--driver NAME]

Each has to be ended by its deadline, and for the right cause: that is what the server logs. Needs to be
root, for the network namespaces of the peer whose cable is pulled.
"""

import argparse
import concurrent.futures
import contextlib
import pathlib
import re
import sys
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "clients"))

import harness
from cable import cable
from harness import Checks
from peer import CLOSE, HEAD, PING, PONG, TEXT, Peer, frame
from server import echo

# Enough that each of two workers gets some.
PEERS = 24
# How much later than its deadline a connection may end, in seconds; and how much earlier, as timers
# have ticks. Times are taken before what starts them, so that a slow machine makes nothing early.
LATE, EARLY = 0.5, 0.02
# The server's default: no option changes it.
CLOSE_TIMEOUT = 5.0
# The close codes 1000 and 1008, as they are on the wire.
NORMAL, TOO_FAST = b"\x03\xe8", b"\x03\xf0"


class Ends:
    """Checks of how long after a fault connections ended."""

    def __init__(self, earliest, deadline):
        self.earliest = earliest - EARLY
        self.deadline = deadline
        self.times = []

    def add(self, seconds):
        self.times.append(seconds)
        assert seconds <= self.deadline + LATE, f"ended after {seconds:.3f} s, not {self.deadline} s"
        assert seconds >= self.earliest, f"ended after {seconds:.3f} s already"

    def __str__(self):
        times = f"{min(self.times):.3f}-{max(self.times):.3f} s"
        return f"{len(self.times)} ended after {times}, due by {self.deadline} s"


def is_closed(server, peer, cause, code, patience):
    """When the server called a connection closed, for that cause."""
    connection = server.connection_of(peer)
    at, found = server.wait_for(rf"closed conn={re.escape(connection)} (.*)", patience)
    assert found[1] == f"code={code} cause={cause}", found[1]
    return at


def all_workers_had_some(server, peers, workers):
    had = {int(server.connection_of(peer).split(".")[0]) for peer in peers}
    assert had == set(range(workers)), had


def each(server, workers, one):
    """Does something with many connections at once; all have to do well."""
    with contextlib.ExitStack() as stack:
        peers = [Peer("127.0.0.1", server.port) for _ in range(PEERS)]
        for peer in peers:
            stack.callback(peer.close)
        with concurrent.futures.ThreadPoolExecutor(PEERS) as threads:
            list(threads.map(one, peers))
        all_workers_had_some(server, [peer.address for peer in peers], workers)


def a_peer_whose_cable_is_pulled_is_timed_out(binary, workers):
    interval, timeout = 1.0, 0.5
    arguments = ["--workers", workers, "--ping-interval", interval, "--pong-timeout", timeout]
    # It was pinged after it was heard of last, or was to be within the interval.
    ends = Ends(timeout, interval + timeout)
    with cable(binary, arguments, PEERS) as joined:
        server = joined.echo
        # Those that answer live longer than those that do not; and it is not just when they are pinged.
        time.sleep(2.25 * (interval + timeout))
        all_workers_had_some(server, joined.peers, workers)
        for peer in joined.peers:
            lines = server.logged(server.connection_of(peer))
            assert not any("closed" in line for line in lines), lines
        pulling = time.monotonic()
        joined.pull()
        segments = joined.segments_received()
        for peer in joined.peers:
            at = is_closed(server, peer, "TimedOut", 1006, ends.deadline + LATE + 1)
            ends.add(at - pulling)
        assert joined.segments_received() == segments, "something reached the server"
    return ends


def a_peer_that_answers_no_ping_is_timed_out(binary, workers):
    interval, timeout = 0.5, 0.5
    arguments = ["--workers", workers, "--ping-interval", interval, "--pong-timeout", timeout]
    ends = Ends(interval + timeout, interval + timeout)

    def one(peer):
        opening = time.monotonic()
        peer.open()
        # It reads, but does not answer.
        assert peer.read_to_end()[:1] == frame(PING)[:1]
        ends.add(is_closed(server, peer.address, "TimedOut", 1006, 1) - opening)

    with echo(binary, arguments) as server:
        each(server, workers, one)
    return ends


def a_peer_that_answers_pings_and_sends_no_message_is_idle(binary, workers):
    idle = 1.5
    arguments = ["--workers", workers, "--idle-timeout", idle]
    arguments += ["--ping-interval", 0.3, "--pong-timeout", 0.2]
    ends = Ends(idle, idle)

    def one(peer):
        peer.open()
        sending = time.monotonic()
        peer.send(TEXT, b"the last")
        assert peer.receive() == (TEXT, b"the last")
        opcode, payload = peer.receive()
        assert (opcode, payload[:2]) == (CLOSE, NORMAL), (opcode, payload)
        peer.send(CLOSE, payload)
        assert peer.read_to_end() == b""
        assert peer.pings >= 3, peer.pings
        ends.add(is_closed(server, peer.address, "Idle", 1000, 1) - sending)

    with echo(binary, arguments) as server:
        each(server, workers, one)
    return ends


def flood(peer):
    """Sends pings until the server says that it closes; returns since when."""
    peer.open()
    starting = time.monotonic()
    pings = frame(PING) * 20
    peer.socket.sendall(pings)
    while (answer := peer.receive())[0] != CLOSE:
        assert answer == (PONG, b""), answer
        peer.socket.sendall(pings)
    assert answer[1].startswith(TOO_FAST), answer
    return starting


def a_flood_of_pings_is_too_fast(binary, workers):
    arguments = ["--workers", workers, "--messages-per-second", 100]
    ends = Ends(0, 1.0)

    def one(peer):
        start = flood(peer)
        peer.send(CLOSE, TOO_FAST)
        peer.read_to_end()
        ends.add(is_closed(server, peer.address, "TooFast", 1008, 1) - start)

    with echo(binary, arguments) as server:
        each(server, workers, one)
    return ends


def a_flood_of_pings_that_goes_on_after_the_close_is_ended(binary, workers):
    arguments = ["--workers", workers, "--messages-per-second", 100]
    ends = Ends(CLOSE_TIMEOUT, CLOSE_TIMEOUT)

    def one(peer):
        start = flood(peer)
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < start + CLOSE_TIMEOUT + LATE + 1:
                peer.send(PING)
                time.sleep(0.01)
        ends.add(is_closed(server, peer.address, "TooFast", 1006, 1) - start)

    with echo(binary, arguments) as server:
        each(server, workers, one)
    return ends


def a_peer_that_never_finishes_its_handshake_gets_408(binary, workers):
    deadline = 1.0
    arguments = ["--workers", workers, "--handshake-timeout", deadline]
    ends = Ends(deadline, deadline)

    def stops(peer):
        peer.socket.sendall(HEAD[:-2])
        is_refused(peer)

    def sends_a_byte_now_and_then(peer):
        peer.socket.settimeout(0.02)
        for byte in HEAD[:-2]:
            peer.socket.sendall(bytes([byte]))
            with contextlib.suppress(TimeoutError):
                peer.receive_more()
                break
        else:
            raise AssertionError("the whole head was taken")
        peer.socket.settimeout(5)
        is_refused(peer)

    def is_refused(peer):
        answer = peer.read_to_end()
        ends.add(time.monotonic() - peer.connecting)
        assert answer.startswith(b"HTTP/1.1 408 "), answer
        connection = server.connection_of(peer.address)
        server.wait_for(rf"refused conn={re.escape(connection)} status=408 reason=TimedOut$", 1)
        # It was never open, so that it is never closed.
        lines = server.logged(connection)
        assert not any(re.search(r": (open|closed) ", line) for line in lines), lines

    with echo(binary, arguments) as server:
        each(server, workers, stops)
        each(server, workers, sends_a_byte_now_and_then)
    return ends


CHECKS = [
    a_peer_whose_cable_is_pulled_is_timed_out,
    a_peer_that_answers_no_ping_is_timed_out,
    a_peer_that_answers_pings_and_sends_no_message_is_idle,
    a_flood_of_pings_is_too_fast,
    a_flood_of_pings_that_goes_on_after_the_close_is_ended,
    a_peer_that_never_finishes_its_handshake_gets_408,
]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("--driver", choices=harness.DRIVERS, default="auto")
    arguments = parser.parse_args()
    harness.DRIVER = arguments.driver
    checks = Checks()
    for workers in [1, 2]:
        for check in CHECKS:
            with checks.check(f"faults, {workers} workers: {check.__name__}"):
                print(f"        {check(arguments.binary, workers)}")
    print(f"{checks.passed} passed, {checks.failed} failed")
    sys.exit(1 if checks.failed else 0)


main()
