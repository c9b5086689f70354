#!/usr/bin/env python3
"""Runs every client against the examples in release form: run.py [CLIENT...]"""

import importlib
import sys

from harness import Checks

CLIENTS = ["python_client", "node", "curl_client", "syscalls", "chat_browser"]


def main():
    checks = Checks()
    for name in sys.argv[1:] or CLIENTS:
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
