#!/usr/bin/env python3
"""Runs every client against the examples in release form: run.py [OPTIONS] [CLIENT...]

Another server than `echo` has HTTP of its own, so what `echo` itself answers to plain and broken requests is not
asked of it, nor what comes by options that only `echo` has: see `harness.ECHO` in the clients.
"""

import argparse
import importlib
import sys

import harness
from harness import Checks

CLIENTS = {
    "echo": ["python_client", "node", "curl_client", "metrics_client", "syscalls", "chat_browser"],
    "axum": ["python_client", "node", "curl_client", "syscalls", "axum_client"],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", help="of each server [default: one for each core]")
    parser.add_argument("--driver", choices=harness.DRIVERS, default="auto", help="of each server")
    parser.add_argument("--echo", choices=CLIENTS, default="echo", help="the server that is to echo")
    parser.add_argument("clients", nargs="*")
    arguments = parser.parse_args()
    harness.ECHO = arguments.echo
    harness.DRIVER = arguments.driver
    if arguments.workers:
        harness.WORKERS = ["--workers", arguments.workers]
    checks = Checks()
    for name in arguments.clients or CLIENTS[arguments.echo]:
        before = checks.total
        try:
            importlib.import_module(name).run(checks)
            assert checks.total > before, "it checked nothing"
        except Exception:
            # To have run is no check that passed, but not to have run is one that failed.
            checks.fail(f"{name}: did not run to its end")
    print(f"{checks.passed} passed, {checks.failed} failed")
    sys.exit(1 if checks.failed else 0)


main()
