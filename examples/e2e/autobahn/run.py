#!/usr/bin/env python3
"""Runs Autobahn against an echo server: run.py ECHO_BINARY INSTALLED_SUITE [echo's arguments...]

Every case must end as `expected.json` says. `--write` instead of a comparison writes that file. The server
compresses with takeover, unless its arguments say otherwise: sections 12 and 13 need it to, the others do not offer it.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading

HERE = pathlib.Path(__file__).resolve().parent
EXPECTED = HERE / "expected.json"
CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*", "12.*", "13.*"]
# The longest message of section 9 is 16 MiB.
MAX_MESSAGE = 16 * 1024 * 1024
PATIENCE = 40 * 60
START_PATIENCE = 20
RUN_SUITE = "from autobahntestsuite.wstest import run; run()"


def start_echo(binary, arguments):
    """Starts the server; returns its process and its address, from its log."""
    command = [binary, "--listen", "127.0.0.1:0", "--max-message", str(MAX_MESSAGE), *arguments]
    echo = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    late = threading.Timer(START_PATIENCE, echo.kill)
    late.start()
    try:
        for line in echo.stderr:
            found = re.search(r"listening.*address=(\S+)", line)
            if found:
                # Whatever else it logs must not fill the pipe.
                threading.Thread(target=echo.stderr.read, daemon=True).start()
                return echo, found[1]
    except BaseException:
        echo.kill()
        raise
    finally:
        late.cancel()
    echo.wait()
    raise SystemExit(f"{binary} ended without listening")


def run_suite(suite, address):
    """Runs all cases; returns {case: [behavior, behaviorClose]}."""
    reports = suite / "reports"
    spec = {
        "outdir": str(reports),
        "servers": [{"agent": "quelea", "url": f"ws://{address}"}],
        "cases": CASES,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    spec_file = suite / "fuzzingclient.json"
    spec_file.write_text(json.dumps(spec))
    libraries = next((suite / "root/usr/lib").rglob("libssl.so.1.1")).parent
    environment = {
        **os.environ,
        "PYTHONHOME": str(suite / "root/usr"),
        "PYTHONPATH": str(suite / "site"),
        "LD_LIBRARY_PATH": str(libraries),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [suite / "root/usr/bin/python2.7", "-c", RUN_SUITE, "-m", "fuzzingclient", "-s", spec_file]
    index = reports / "index.json"
    index.unlink(missing_ok=True)
    log_file = suite / "wstest.log"
    try:
        with open(log_file, "w") as log:
            subprocess.run(command, env=environment, stdout=log, stderr=log, check=True, timeout=PATIENCE)
    except subprocess.SubprocessError as error:
        raise SystemExit(f"{log_file.read_text()[-2000:]}\nthe suite did not end well: {error}") from error
    results = json.loads(index.read_text())["quelea"]
    return {case: [result["behavior"], result["behaviorClose"]] for case, result in results.items()}


def order(case):
    return [int(number) for number in case.split(".")]


def main():
    # Ended from outside, it still ends the server and the suite: an exception unwinds, the default does not.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    binary, suite, *arguments = sys.argv[1:]
    write = "--write" in arguments
    arguments = [argument for argument in arguments if argument != "--write"]
    if "--deflate" not in arguments:
        arguments += ["--deflate", "takeover"]
    echo, address = start_echo(binary, arguments)
    try:
        results = run_suite(pathlib.Path(suite).resolve(), address)
        ended = echo.poll()
    finally:
        echo.kill()
        echo.wait()
    if ended is not None:
        raise SystemExit(f"the server ended by itself: {ended}")
    if write:
        lines = (f'  "{case}": {json.dumps(results[case])}' for case in sorted(results, key=order))
        EXPECTED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        return
    expected = json.loads(EXPECTED.read_text())
    # A case that did not run, or that is not expected, is a difference too.
    cases = sorted(expected.keys() | results.keys(), key=order)
    different = [case for case in cases if results.get(case) != expected.get(case)]
    for case in different:
        print(f"{case}: expected {expected.get(case)}, got {results.get(case)}")
    print(f"{len(cases)} cases: {len(cases) - len(different)} as expected, {len(different)} different")
    sys.exit(1 if different else 0)


main()
