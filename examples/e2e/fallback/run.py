#!/usr/bin/env python3
"""What the echo server does where it gets no io_uring: run.py ECHO_BINARY [--sysctl]

With `--driver auto` and small messages it serves by epoll, and one line of its log says why; with `--driver uring` it ends, and
says what to change. `--sysctl` sets kernel.io_uring_disabled for some moments, which all programs of this machine feel.
"""

import argparse
import contextlib
import errno
import os
import pathlib
import re
import subprocess
import sys

E2E = pathlib.Path(__file__).resolve().parents[1]
sys.path += [str(E2E / "clients"), str(E2E / "faults")]

from harness import Checks
from peer import TEXT, Peer
from restrict import drop_privileges, lock_no_memory, refuse_call

# The same on all machines.
CALLS = {"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427}
REASONS = {errno.EPERM: "seccomp forbids it", errno.ENOSYS: "seccomp hides it"}
SYSCTL = pathlib.Path("/proc/sys/kernel/io_uring_disabled")
PATIENCE = 20


def start(binary, driver, restrict, message_max=4096):
    command = [binary, "--listen", "127.0.0.1:0", "--workers", "1", "--driver", driver]
    command += ["--max-message", str(message_max)]
    environment = {**os.environ, "NO_COLOR": "1"}
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=restrict
    )


def serves(binary, driver, restrict=None, **more):
    """A server that starts and echoes: its driver, and why it is not io_uring, if it says so."""
    process = start(binary, driver, restrict, **more)
    try:
        lines = []
        for line in process.stderr:
            lines.append(line.strip())
            if "serving" in line:
                break
        text = "\n".join(lines)
        port = int(re.search(r"listening.*address=\S+:(\d+)", text)[1])
        peer = Peer("127.0.0.1", port).open()
        peer.send(TEXT, b"there?")
        assert peer.receive() == (TEXT, b"there?")
        peer.close()
        reasons = [line for line in lines if "not io_uring" in line]
        assert len(reasons) <= 1, text
        print("".join(f"        {line}\n" for line in reasons), end="")
        return re.search(r'driver="(\w+)"', lines[-1])[1], "".join(reasons)
    finally:
        process.kill()
        process.communicate()


def falls_back(binary, reason, restrict=None):
    driver, said = serves(binary, "auto", restrict)
    assert driver == "poll" and reason in said, (driver, said)


def says(binary, reason, advice, restrict=None):
    """The server that is told to have io_uring ends, and says why, and what to change."""
    process = start(binary, "uring", restrict)
    try:
        _, text = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    print(f"        {text.strip().splitlines()[-1]}")
    assert process.returncode == 1, (process.returncode, text)
    assert reason in text and advice in text, text


@contextlib.contextmanager
def sysctl(value):
    before = SYSCTL.read_text()
    SYSCTL.write_text(str(value))
    try:
        yield
    finally:
        SYSCTL.write_text(before)


def check_seccomp(checks, binary):
    for call, number in CALLS.items():
        for error, reason in REASONS.items():
            def restrict(number=number, error=error):
                refuse_call(number, error)

            what = f"{call} fails with {errno.errorcode[error]}"
            with checks.check(f"fallback: {what}: auto serves by epoll, and says why"):
                falls_back(binary, reason, restrict)
            with checks.check(f"fallback: {what}: uring is refused, and told what to allow"):
                says(binary, reason, call, restrict)
    with checks.check("fallback: poll never asks for io_uring"):
        driver, said = serves(binary, "poll", lambda: refuse_call(CALLS["io_uring_setup"], errno.EPERM))
        assert (driver, said) == ("poll", ""), said


def check_memory(checks, binary):
    def restrict():
        lock_no_memory()
        drop_privileges()

    with checks.check("fallback: a service that may lock no memory: auto serves by epoll, and says why"):
        falls_back(binary, "may be locked", restrict)
    with checks.check("fallback: a service that may lock no memory: uring is refused, and told what to raise"):
        says(binary, "may be locked", "ulimit -l", restrict)


def check_sysctl(checks, binary):
    # At 1, who has CAP_SYS_ADMIN is let in.
    for value, restrict in [(2, None), (1, drop_privileges)]:
        reason = f"kernel.io_uring_disabled is {value}"
        with checks.check(f"fallback: {reason}: auto serves by epoll, and says why"), sysctl(value):
            falls_back(binary, reason, restrict)
        with checks.check(f"fallback: {reason}: uring is refused, and told what to set"), sysctl(value):
            says(binary, reason, "to 0", restrict)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("echo", help="target/release/echo")
    parser.add_argument("--sysctl", action="store_true")
    arguments = parser.parse_args()
    checks = Checks()
    with checks.check("fallback: where nothing is refused, uring serves, and auto has it if it is complete"):
        assert serves(arguments.echo, "uring") == ("uring", "")
        driver, said = serves(arguments.echo, "auto")
        assert driver == "uring" or "is not complete" in said, said
    with checks.check("fallback: auto serves large messages by epoll, and says why"):
        driver, said = serves(arguments.echo, "auto", message_max=4097)
        assert driver == "poll" and "messages may have" in said, (driver, said)
    check_seccomp(checks, arguments.echo)
    check_memory(checks, arguments.echo)
    if arguments.sysctl:
        check_sysctl(checks, arguments.echo)
    print(f"{checks.passed} passed, {checks.failed} failed")
    sys.exit(1 if checks.failed else 0)


main()
