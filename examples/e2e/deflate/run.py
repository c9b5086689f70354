#!/usr/bin/env python3
"""Compression between real clients and echo, looked at on the wire: run.py [OPTIONS]

Each client talks through a proxy that keeps what passes. Python's zlib, with no more than the window that was agreed
on, has to read every message in both directions; the first frame of a compressed message has RSV1, and nothing else.
"""

import argparse
import dataclasses
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "clients"))

import by_curl
import by_node
import by_python
import by_zlib
import harness
import wire
from by_chromium import chromium
from harness import Checks
from traffic import HUGE


@dataclasses.dataclass
class Mode:
    """How the server compresses."""

    policy: str
    window: int = 15
    # What windows may take; of 100 kB there is room for few.
    budget: int = 64 << 20
    # Only short messages, by one or two offers.
    is_brief: bool = False

    @property
    def compresses(self):
        return self.policy != "off"

    @property
    def options(self):
        window = ["--window", str(self.window), "--window-budget", str(self.budget)]
        return ["--deflate", self.policy, *window, "--max-message", str(max(HUGE))]

    def check(self, agreed, offer):
        """Holds an answer to what the server is to answer to this offer."""
        assert agreed == self.expected(offer), (agreed, self.expected(offer))

    def expected(self, offer):
        if not self.compresses:
            return None
        asked = offer.get("server_max_window_bits", 15)
        if self.policy == "shared":
            return wire.Agreed(True, True, asked)
        allowed = offer.get("client_max_window_bits")
        # A window that is smaller than the largest has to be allowed by the client.
        by_itself = "client_no_context_takeover" in offer or (allowed is None and self.window < 15)
        client = 15 if by_itself or allowed is None else min(self.window, 15 if allowed is True else allowed)
        server_by_itself = "server_no_context_takeover" in offer
        return wire.Agreed(server_by_itself, by_itself, min(asked, self.window), client)

    def __str__(self):
        window = f" {self.window}" if self.policy == "takeover" else ""
        return f"{self.policy}{window}"


MODES = [
    Mode("off", is_brief=True),
    Mode("shared"),
    Mode("takeover"),
    *(Mode("takeover", window, is_brief=True) for window in range(9, 15)),
]
# For random messages: without room for all windows, too.
RANDOM_MODES = [Mode("shared"), Mode("takeover"), Mode("takeover", 9), Mode("takeover", 12, budget=100_000)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--driver", choices=["poll", "uring"], nargs="+", default=["poll", "uring"])
    parser.add_argument("--connections", type=int, default=40, help="with random messages, for each server")
    parser.add_argument("--seed", type=int, help="of random messages [default: another one each time]")
    arguments = parser.parse_args()
    harness.WORKERS = ["--workers", "1"]
    checks = Checks()
    with chromium() as page:
        for driver in arguments.driver:
            harness.DRIVER = driver
            for mode in MODES:
                print(f"--- {driver}, {mode}")
                with harness.server("echo", "--origin", "any", *mode.options) as server:
                    for client in (by_python, by_node, page, by_curl):
                        client.run(checks, server, mode)
            for mode in RANDOM_MODES:
                print(f"--- {driver}, {mode}, random messages")
                with harness.server("echo", *mode.options) as server:
                    by_zlib.run(checks, server, mode, arguments)
    print(f"{checks.passed} passed, {checks.failed} failed")
    sys.exit(1 if checks.failed else 0)


main()
