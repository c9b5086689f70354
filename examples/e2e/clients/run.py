#!/usr/bin/env python3
"""Runs every client against the examples in release form: run.py [--workers COUNT] [CLIENT...]"""

import argparse
import importlib
import sys

import harness
from harness import Checks

CLIENTS = ["python_client", "node", "curl_client", "syscalls", "chat_browser"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", help="of each server [default: one for each core]")
    parser.add_argument("clients", nargs="*", default=CLIENTS)
    arguments = parser.parse_args()
    if arguments.workers:
        harness.WORKERS = ["--workers", arguments.workers]
    checks = Checks()
    for name in arguments.clients or CLIENTS:
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
