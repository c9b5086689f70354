#!/usr/bin/env python3
"""What the echo server does where it gets no io_uring: run.py ECHO_BINARY [--sysctl]

With `--driver auto` it serves by epoll, and one line of its log says why; with `--driver uring` it ends, and says what
to change. `--sysctl` sets kernel.io_uring_disabled of this machine for some moments, which all its programs feel.
"""

import argparse
import contextlib
import errno
import os
import pathlib
import re
import resource
import subprocess
import sys
import time

E2E = pathlib.Path(__file__).resolve().parents[1]
sys.path += [str(E2E / "clients"), str(E2E / "faults")]

from harness import Checks
from peer import TEXT, Peer

REFUSE = str(pathlib.Path(__file__).with_name("refuse.py"))
# The same on all 64-bit machines.
SETUP, ENTER, REGISTER = 425, 426, 427
SYSCTL = pathlib.Path("/proc/sys/kernel/io_uring_disabled")
PATIENCE = 20


def refused(call, error):
    return [sys.executable, REFUSE, str(error), str(call)]


def start(binary, driver, wrapper, preparation):
    command = [*wrapper, binary, "--listen", "127.0.0.1:0", "--workers", "1", "--driver", driver]
    environment = {**os.environ, "NO_COLOR": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stderr=pipe, text=True, env=environment, preexec_fn=preparation)


def serves(binary, driver, expected_driver, reason, wrapper=(), preparation=None):
    """The server starts by this driver, logs this reason once if there is to be one, and echoes."""
    process = start(binary, driver, wrapper, preparation)
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "serving" in line:
                break
        text = "".join(lines)
        assert f'driver="{expected_driver}"' in lines[-1], text
        port = int(re.search(r"listening.*address=\S+:(\d+)", text)[1])
        peer = Peer("127.0.0.1", port).open()
        peer.send(TEXT, b"there?")
        assert peer.receive() == (TEXT, b"there?")
        peer.close()
        reasons = [line for line in lines if "not io_uring" in line]
        assert len(reasons) == (reason is not None), text
        assert reason is None or re.search(reason, reasons[0]), text
        print("".join(f"        {line.strip()}\n" for line in reasons), end="")
    finally:
        process.kill()
        process.communicate()


def says(binary, reason, wrapper=(), preparation=None):
    """The server that is told to have io_uring ends, and says why."""
    process = start(binary, "uring", wrapper, preparation)
    try:
        _, text = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode not in (0, None, -9), (process.returncode, text)
    assert re.search(reason, text), text
    print(f"        {text.strip().splitlines()[-1]}")


@contextlib.contextmanager
def sysctl(value):
    before = SYSCTL.read_text()
    SYSCTL.write_text(str(value))
    try:
        yield
    finally:
        SYSCTL.write_text(before)


def without_privileges_and_locked_memory():
    """As a service that may lock no memory."""
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("echo", help="target/release/echo")
    parser.add_argument("--sysctl", action="store_true")
    arguments = parser.parse_args()
    checks = Checks()
    binary = arguments.echo
    with checks.check("fallback: where nothing refuses io_uring, it is used if asked for"):
        serves(binary, "uring", "uring", None)
    for name, call in [("setup", SETUP), ("enter", ENTER), ("register", REGISTER)]:
        for error, reason in [(errno.EPERM, "seccomp forbids it"), (errno.ENOSYS, "seccomp hides it")]:
            wrapper = refused(call, error)
            what = f"io_uring_{name} fails with {errno.errorcode[error]}"
            with checks.check(f"fallback: {what}, auto serves by epoll and says why"):
                serves(binary, "auto", "poll", reason, wrapper)
            with checks.check(f"fallback: {what}, uring is refused and says what to allow"):
                says(binary, f"{reason}.*io_uring_setup", wrapper)
    with checks.check("fallback: poll does not ask for io_uring"):
        serves(binary, "poll", "poll", None, refused(SETUP, errno.EPERM))
    with checks.check("fallback: without memory that may be locked, auto serves"):
        # Since Linux 5.12 that is not counted for what is used here.
        serves(binary, "auto", "EXPECTED", None, (), without_privileges_and_locked_memory)
    if arguments.sysctl:
        for value, reason in [(2, "io_uring_disabled is 2"), (1, "io_uring_disabled is 1")]:
            # Who has CAP_SYS_ADMIN is let in at 1.
            unprivileged = without_privileges_and_locked_memory if value == 1 else None
            with checks.check(f"fallback: kernel.io_uring_disabled={value}, auto serves by epoll and says why"), sysctl(value):
                serves(binary, "auto", "poll", reason, (), unprivileged)
            with checks.check(f"fallback: kernel.io_uring_disabled={value}, uring is refused and says so"), sysctl(value):
                says(binary, f"{reason}.*set it to 0", (), unprivileged)
    print(f"{checks.passed} passed, {checks.failed} failed")
    sys.exit(1 if checks.failed else 0)


main()
