#!/usr/bin/env python3
"""Signals to an echo server that has thousands of connections: run.py ECHO_BINARY

After a SIGTERM they have to be closed evenly over the window, with nothing lost of what was queued; after a
second one, and after Ctrl-C, at once. The server exits with 0 each time.
"""

import argparse
import collections
import contextlib
import pathlib
import re
import resource
import signal
import sys
import time

E2E = pathlib.Path(__file__).resolve().parents[1]
sys.path += [str(E2E / "clients"), str(E2E / "faults")]

import harness
from crowd import LATE_BYTES, LATE_MESSAGES, Crowd
from harness import Checks
from server import Echo

GOING_AWAY = 1001
# How many of the connections each tenth of the window may have.
TENTH_MIN, TENTH_MAX = 0.05, 0.15
# What is shown of how even it is, in seconds.
STEP = 0.01
# How long after its window a drain may close the last one, how long the end at once may take, and how
# long Ctrl-C may, for which all is closed properly.
LATE, AT_ONCE, INTERRUPTED = 1.0, 1.0, 5.0
# What late readers have after the window, beyond what they need: the server's default.
AFTER = 15.0


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--window", type=float, default=10.0, help="seconds")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--driver", choices=harness.DRIVERS, default="auto")
    arguments = parser.parse_args()
    harness.DRIVER = arguments.driver
    return arguments


@contextlib.contextmanager
def crowded(arguments, workers):
    """A server with its crowd, which is there as long as the server is."""
    options = ["--workers", workers, "--drain-window", arguments.window]
    server = Echo(arguments.binary, options, log="info")
    try:
        crowd = Crowd(server.port, arguments.connections)
        try:
            yield server, crowd
        finally:
            crowd.close()
    finally:
        server.stop()


def send(server, which):
    at = time.monotonic()
    server.process.send_signal(which)
    return at


def exit_code(server, crowd, seconds):
    """The server's exit code, and when it was there; the crowd lives meanwhile."""
    crowd.run(seconds, lambda: server.process.poll() is not None)
    assert server.process.returncode is not None, f"it runs after {seconds} s; {crowd.left()} are left"
    return server.process.returncode, time.monotonic()


def nothing_is_lost(crowd):
    for client in crowd.clients:
        assert client.lost() == 0, f"{client.kind} {client.number}: {client.lost()} messages"
        assert client.closed_at is not None, f"{client.kind} {client.number}: {client.ended}, no close"
        assert client.code == GOING_AWAY, f"{client.kind} {client.number}: {client.code}"


def the_log_says_how_it_goes(server, workers, seconds):
    """The lines of a drain: the first, one a second, the last."""
    with server.news:
        server.news.wait_for(lambda: server.ended, 5)
        lines = [line for _, line in server.lines]
    for worker in range(workers):
        mine = [line for line in lines if re.search(rf" worker={worker}( |$)", line)]
        assert sum("draining" in line and "window=" in line for line in mine) == 1, mine
        progress = sum("draining" in line and "left=" in line for line in mine)
        assert abs(progress - int(seconds)) <= 2, (progress, seconds, mine)
        assert sum("drained" in line and " left=0 " in line for line in mine) == 1, mine


def a_sigterm_closes_all_over_the_window_and_loses_nothing(arguments, workers):
    window = arguments.window
    with crowded(arguments, workers) as (server, crowd):
        start = send(server, signal.SIGTERM)
        # The last begin to read when the window is over.
        crowd.read_late(start, window + LATE)
        code, ended = exit_code(server, crowd, window + AFTER + 5)
        # What the server's kernel has for them still comes.
        crowd.run(5, lambda: crowd.left() == 0)
        assert code == 0, code
        nothing_is_lost(crowd)
        times = [client.closed_at - start for client in crowd.clients if client.kind != "late"]
        tenths = [0] * 10
        for at in times:
            tenths[min(9, int(at / window * 10))] += 1
        shares = [count / len(times) for count in tenths]
        text = " ".join(f"{share:.1%}" for share in shares)
        assert all(TENTH_MIN <= share <= TENTH_MAX for share in shares), text
        assert max(times) <= window + LATE, max(times)
        steps = collections.Counter(int(at / STEP) for at in times)
        the_log_says_how_it_goes(server, workers, ended - start)
        echoed = sum(talker.echoed for talker in crowd.talkers)
    megabytes = len(crowd.late) * LATE_MESSAGES * LATE_BYTES / 1e6
    return (
        f"closed in each tenth of {window} s: {text}; at most {max(steps.values())} in {STEP} s, on average "
        f"{len(times) * STEP / window:.0f}; the last after {max(times):.2f} s; {len(crowd.late)} late readers had "
        f"all of {megabytes:.0f} MB, {len(crowd.talkers)} talkers {echoed} echoes; exit {code} after "
        f"{ended - start:.2f} s"
    )


def a_second_sigterm_ends_it_at_once(arguments, workers):
    with crowded(arguments, workers) as (server, crowd):
        send(server, signal.SIGTERM)
        crowd.run(arguments.window / 4)
        left = crowd.left()
        assert arguments.connections / 2 < left < arguments.connections, left
        second = send(server, signal.SIGTERM)
        code, ended = exit_code(server, crowd, 10)
        assert code == 0, code
        assert ended - second <= AT_ONCE, ended - second
    return f"exit {code} after {ended - second:.3f} s, with {left} connections"


def an_interrupt_closes_all_at_once(arguments, workers):
    with crowded(arguments, workers) as (server, crowd):
        start = send(server, signal.SIGINT)
        crowd.read_late(start, 1.0)
        code, ended = exit_code(server, crowd, AFTER)
        crowd.run(5, lambda: crowd.left() == 0)
        assert code == 0, code
        nothing_is_lost(crowd)
        times = [client.closed_at - start for client in crowd.clients if client.kind != "late"]
        assert max(times) <= INTERRUPTED, max(times)
    return f"the last closed after {max(times):.2f} s; exit {code} after {ended - start:.2f} s"


CHECKS = [
    a_sigterm_closes_all_over_the_window_and_loses_nothing,
    a_second_sigterm_ends_it_at_once,
    an_interrupt_closes_all_at_once,
]


def main():
    arguments = parse()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    needed = arguments.connections + 200
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise SystemExit(f"{needed} descriptors are needed, and {hard} allowed: ulimit -n")
    # The server inherits it.
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    checks = Checks()
    for workers in arguments.workers:
        for check in CHECKS:
            with checks.check(f"drain, {workers} workers: {check.__name__}"):
                print(f"        {check(arguments, workers)}")
    print(f"{checks.passed} passed, {checks.failed} failed")
    sys.exit(1 if checks.failed else 0)


main()
