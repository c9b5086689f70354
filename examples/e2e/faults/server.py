"""An echo server whose log says how each connection ended, and when."""

import contextlib
import os
import re
import subprocess
import threading
import time

import harness

START_PATIENCE = 20


class Echo:
    """A running server; `port` is where it listens."""

    def __init__(self, binary, arguments, listen="127.0.0.1", wrapper=(), log="quelea=debug"):
        command = [*wrapper, binary, "--listen", f"{listen}:0", "--driver", harness.DRIVER, *map(str, arguments)]
        environment = {**os.environ, "RUST_LOG": log}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self.lines = []
        self.news = threading.Condition()
        self.ended = False
        threading.Thread(target=self._collect, daemon=True).start()
        try:
            _, found = self.wait_for(r"listening.*address=\S+:(\d+)", START_PATIENCE)
            # What connects before the other workers listen is all the first one's.
            self.wait_for(r"serving workers=", START_PATIENCE)
        except BaseException:
            self.stop()
            raise
        self.port = int(found[1])

    def _collect(self):
        for line in self.process.stderr:
            with self.news:
                self.lines.append((time.monotonic(), line.rstrip()))
                self.news.notify_all()
        with self.news:
            self.ended = True
            self.news.notify_all()

    def wait_for(self, pattern, seconds):
        """When a line was logged that the pattern is found in, and the match."""
        deadline = time.monotonic() + seconds
        seen = 0
        with self.news:
            while True:
                for at, line in self.lines[seen:]:
                    if found := re.search(pattern, line):
                        return at, found
                seen = len(self.lines)
                left = deadline - time.monotonic()
                if self.ended or left <= 0:
                    text = "\n".join(line for _, line in self.lines)
                    raise AssertionError(f"the server did not log {pattern!r}, but:\n{text}")
                self.news.wait(left)

    def connection_of(self, peer):
        """The server's name for the connection from a peer's HOST:PORT: WORKER.SLOT.GENERATION."""
        return self.wait_for(rf"accepted conn=(\S+) peer={re.escape(peer)} ", 5)[1][1]

    def logged(self, connection):
        """What was logged of a connection so far."""
        with self.news:
            return [line for _, line in self.lines if f"conn={connection} " in f"{line} "]

    def stop(self):
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def echo(*arguments, **options):
    running = Echo(*arguments, **options)
    try:
        yield running
        if running.process.poll() is not None:
            raise AssertionError("the server ended by itself")
    finally:
        running.stop()
