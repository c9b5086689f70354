"""Runs node_client.mjs, a check a line."""

import pathlib
import subprocess

import harness
from harness import TOOLS, server


def run(checks):
    script = pathlib.Path(__file__).with_name("node_client.mjs")
    with server(harness.ECHO) as echo:
        command = ["node", script, TOOLS / "node/node_modules", echo.address]
        node = subprocess.run(command, capture_output=True, text=True, timeout=180)
    lines = node.stdout.splitlines()
    for line in lines:
        outcome, _, name = line.partition(" ")
        with checks.check(f"Node ws: {name}"):
            assert outcome == "ok", line
    # A failed check is a line; this is the script that broke before its end.
    assert node.returncode == 0, node.stderr
