#!/usr/bin/env python3
"""A thousand connections a second that do anything and end anyhow: run.py ECHO_BINARY PERF_BINARY [OPTIONS]

Half requests, half frames, unread answers, resets and FINs at any time. Afterwards the server has what it had before:
no connection, socket, buffer or descriptor more; and its memory was the same all the time.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import threading
import time
import urllib.request

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "clients"))

import harness
from harness import Checks

MIB = 1 << 20
# What is left may take this long: the server waits for the rest of what it was sent, at most for its timeouts.
PATIENCE = 25
# Memory is compared between this part of the run and the same at its end, from this share of it on.
WINDOW, FROM = 0.1, 0.25
# What it may have grown by meanwhile: what the peers of the moment happen to have waiting changes all the time, by
# megabytes each. And by the end, once it had time to give back what they took.
GROWTH_BYTES_MAX, KEPT_BYTES_MAX = 8 * MIB, 2 * MIB
QUIET = 4
# These limits are reached by who sends too much or too large a message.
EXPECTED = ['limit="message_bytes_max"', 'limit="outbox_bytes_max"']
# The metrics that say what the server has. The one of descriptors is not its own.
HAS = [
    "quelea_connections",
    "quelea_sockets",
    "quelea_queued_bytes",
    "quelea_held_bytes",
    "quelea_receive_buffers_lost",
    "quelea_mailbox_bytes",
]


class Echo:
    """The server, and what there is to read of it."""

    def __init__(self, binary, driver, workers):
        command = [binary, "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]
        command += ["--driver", driver, "--workers", str(workers)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.lines = []
        self.address = self.metrics_address = None
        for line in self.process.stderr:
            self.lines.append(line)
            address = line.rsplit("address=", 1)[-1].strip()
            if "listening" in line and "metrics" in line:
                self.metrics_address = address
            elif "listening" in line:
                self.address = address
            # Each of the two serves.
            if self.metrics_address and self.address and sum("serving" in one for one in self.lines) == 2:
                break
        threading.Thread(target=lambda: self.lines.extend(self.process.stderr), daemon=True).start()

    def descriptors(self):
        return len(list(pathlib.Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def resident(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("RssAnon:")[1].split()[0]) << 10

    def metrics(self):
        """The sums of what it has and what it counted, by name."""
        with urllib.request.urlopen(f"http://{self.metrics_address}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        found = {}
        for line in text.splitlines():
            if not line.startswith("#"):
                series, _, value = line.rpartition(" ")
                name = series.partition("{")[0]
                found[name] = found.get(name, 0) + float(value)
        return found

    def has(self):
        """What it has, and its descriptors: they are the same before and after."""
        metrics = self.metrics()
        return {name: int(metrics[name]) for name in HAS} | {"descriptors": self.descriptors()}

    def stop(self):
        self.process.kill()
        self.process.wait()


def once(server, before, seconds):
    """What the server has, once it is what it was, or after a while."""
    deadline = time.monotonic() + seconds
    while True:
        has = server.has()
        if has == before or time.monotonic() > deadline:
            return has
        time.sleep(0.25)


def kill(server, perf, seconds, rate):
    """Runs it; the result, and the resident bytes over time."""
    command = [perf, "kill", f"ws://{server.address}/", "--seconds", str(seconds), "--rate", str(rate), "--json", "-"]
    samples = []
    start = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        # A result is less than a pipe holds.
        while process.poll() is None and time.monotonic() < start + seconds + 60:
            samples.append((time.monotonic() - start, server.resident()))
            time.sleep(0.1)
        process.kill()
        out, text = process.communicate()
    print("".join(f"        {line}\n" for line in text.splitlines() if line.strip()), end="")
    return json.loads(out), samples


def median(samples, start, end):
    return statistics.median(resident for at, resident in samples if start <= at <= end)


def check(checks, arguments, driver, workers):
    seconds = arguments.seconds
    name = f"kill, {driver}, {workers} workers"
    server = Echo(arguments.echo, driver, workers)
    try:
        # Whatever is made when the first connections come is there.
        warm_up, _ = kill(server, arguments.perf, 2, arguments.rate)
        with checks.check(f"{name}: the warm-up"):
            assert warm_up["valid"], warm_up["invalid_because"]
        idle = dict.fromkeys(HAS, 0)
        time.sleep(QUIET)
        empty = server.resident()
        before = once(server, idle | {"descriptors": server.descriptors()}, PATIENCE)
        result, samples = kill(server, arguments.perf, seconds, arguments.rate)
        with checks.check(f"{name}: who keeps the rules is served, and nobody is refused"):
            assert result["valid"], result["invalid_because"]
        with checks.check(f"{name}: the server runs, and is what it was"):
            after = once(server, before, PATIENCE)
            print(f"        {after}")
            assert after == before, (before, after)
            assert not any(after[one] for one in HAS), after
            assert server.process.poll() is None
        with checks.check(f"{name}: it complains of nothing"):
            lines = [line for line in server.lines if "WARN" in line or "ERROR" in line]
            complaints = [line for line in lines if not any(one in line for one in EXPECTED)]
            assert not complaints, "".join(complaints[:20])
        with checks.check(f"{name}: memory is flat"):
            first = median(samples, FROM * seconds, (FROM + WINDOW) * seconds)
            last = median(samples, (1 - WINDOW) * seconds, seconds)
            time.sleep(QUIET)
            kept = server.resident()
            print(f"        resident MiB: {empty / MIB:.2f} before, {first / MIB:.2f} at {FROM * seconds:.0f} s, {last / MIB:.2f} at the end, "
                  f"{max(resident for _, resident in samples) / MIB:.2f} at most, {kept / MIB:.2f} after")
            assert last - first <= GROWTH_BYTES_MAX, (first, last)
            assert kept - empty <= KEPT_BYTES_MAX, (empty, kept)
    finally:
        server.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("echo", help="target/release/echo")
    parser.add_argument("perf", help="target/release/quelea-perf")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=float, default=1000, help="connections a second")
    parser.add_argument("--workers", type=int, nargs="+", default=[1])
    parser.add_argument("--driver", choices=harness.DRIVERS, nargs="+", default=["poll", "uring"])
    arguments = parser.parse_args()
    checks = Checks()
    for driver in arguments.driver:
        for workers in arguments.workers:
            check(checks, arguments, driver, workers)
    print(f"{checks.passed} passed, {checks.failed} failed")
    sys.exit(1 if checks.failed else 0)


main()
