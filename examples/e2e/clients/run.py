#!/usr/bin/env python3
"""Runs every client against the examples in release form: run.py [CLIENT...]"""

import importlib
import sys

from harness import Checks

CLIENTS = ["python_client", "node", "curl_client", "syscalls", "chat_browser"]


def main():
    checks = Checks()
    for name in sys.argv[1:] or CLIENTS:
        with checks.check(f"{name}: all of it ran"):
            importlib.import_module(name).run(checks)
    print(f"{checks.passed} passed, {checks.failed} failed")
    sys.exit(1 if checks.failed else 0)


main()
