#!/usr/bin/env python3
"""Runs Autobahn against an echo server: run.py ECHO_BINARY INSTALLED_SUITE [echo's arguments...]

Every case must end as `expected.json` says. `--write` instead of a comparison writes that file. The server
compresses with takeover, unless its arguments say otherwise. Sections 12 and 13 are left out with `--deflate off`; with them
it takes ten minutes and more, nearly all of it the suite's own. `--only 12.1.* --only 13.*` runs these cases and no
others, each pattern beside the others; `--compressed 12.1.*` runs these of sections 12 and 13, and all of the others.
"""

import collections
import fnmatch
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
EXPECTED = HERE / "expected.json"
PLAIN = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"]
# Each part is a process: the suite uses one core.
COMPRESSED = [["12.*"], ["13.1.*", "13.2.*", "13.3.*"], ["13.4.*", "13.5.*"], ["13.6.*", "13.7.*"]]
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


class Part:
    """Some of the suite's sections, in a process of its own."""

    def __init__(self, suite, address, number, cases):
        self.reports = suite / f"reports-{number}"
        spec = {
            "outdir": str(self.reports),
            "servers": [{"agent": "quelea", "url": f"ws://{address}"}],
            "cases": cases,
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        spec_file = suite / f"fuzzingclient-{number}.json"
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
        (self.reports / "index.json").unlink(missing_ok=True)
        self.log = suite / f"wstest-{number}.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def results(self, until):
        """Waits for its end; returns {case: [behavior, behaviorClose]}."""
        try:
            status = self.process.wait(max(0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            status = "too late"
        if status != 0:
            raise SystemExit(f"{self.log.read_text()[-2000:]}\nthe suite did not end well: {status}")
        results = json.loads((self.reports / "index.json").read_text())["quelea"]
        return {case: [result["behavior"], result["behaviorClose"]] for case, result in results.items()}

    def end(self):
        self.process.kill()
        self.process.wait()


def run_suite(suite, address, sections):
    """Runs the sections, each list of them beside the others; returns {case: [behavior, behaviorClose]}."""
    parts, results = [], {}
    until = time.monotonic() + PATIENCE
    try:
        for number, cases in enumerate(sections):
            parts.append(Part(suite, address, number, cases))
        for part in parts:
            results |= part.results(until)
        return results
    finally:
        for part in parts:
            part.end()


def order(case):
    return [int(number) for number in case.split(".")]


def taken(arguments, name):
    """Takes an option that may stand several times out of the arguments; returns its values."""
    values = []
    while name in arguments:
        at = arguments.index(name)
        values += arguments[at + 1 : at + 2]
        del arguments[at : at + 2]
    return values


def main():
    # Ended from outside, it still ends the server and the suite: an exception unwinds, the default does not.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    binary, suite, *arguments = sys.argv[1:]
    write = "--write" in arguments
    arguments = [argument for argument in arguments if argument != "--write"]
    if "--deflate" not in arguments:
        arguments += ["--deflate", "takeover"]
    compresses = arguments[arguments.index("--deflate") + 1] != "off"
    only, compressed = (
        [[pattern] for pattern in taken(arguments, name)] for name in ("--only", "--compressed")
    )
    sections = only or [PLAIN, *((compressed or COMPRESSED) if compresses else [])]
    echo, address = start_echo(binary, arguments)
    try:
        results = run_suite(pathlib.Path(suite).resolve(), address, sections)
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
    patterns = [pattern for section in sections for pattern in section]
    expected = {
        case: result
        for case, result in expected.items()
        if any(fnmatch.fnmatchcase(case, pattern) for pattern in patterns)
    }
    # A case that did not run, or that is not expected, is a difference too.
    cases = sorted(expected.keys() | results.keys(), key=order)
    different = [case for case in cases if results.get(case) != expected.get(case)]
    for case in different:
        print(f"{case}: expected {expected.get(case)}, got {results.get(case)}")
    counts = collections.Counter(result[0] for result in results.values())
    print(", ".join(f"{count} {behavior}" for behavior, count in sorted(counts.items())))
    print(f"{len(cases)} cases: {len(cases) - len(different)} as expected, {len(different)} different")
    sys.exit(1 if different else 0)


main()
