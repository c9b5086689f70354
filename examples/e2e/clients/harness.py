"""Starting servers, and counting what was checked."""

import contextlib
import os
import pathlib
import re
import subprocess
import threading
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[3]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BINARIES = TARGET / "release"
# What the servers are told of their workers.
WORKERS = []
# How they are told to speak to the kernel.
DRIVERS = ["auto", "poll", "uring"]
DRIVER = "auto"
# The server that is to echo: `echo`, or one that has other HTTP in front of the same WebSockets.
ECHO = "echo"
TOOLS = ROOT / "target/e2e"
PATIENCE = 20


class Server:
    """A running example; `address` is where it listens, and `metrics_address` for those who watch."""

    def __init__(self, name, *arguments, listen="127.0.0.1:0", wrapper=()):
        command = [*wrapper, str(BINARIES / name), "--listen", listen, "--driver", DRIVER, *WORKERS, *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.address = None
        self.metrics_address = None
        late = threading.Timer(PATIENCE, self.process.kill)
        late.start()
        for line in self.process.stderr:
            found = re.search(r"listening.*address=(\S+)", line)
            if not found:
                continue
            if "metrics:" in line:
                self.metrics_address = found[1]
            else:
                self.address = found[1]
            if self.address and (self.metrics_address or "--metrics" not in arguments):
                break
        late.cancel()
        if self.address is None:
            self.stop()
            raise RuntimeError(f"{name} did not listen")
        # Whatever else it logs must not fill the pipe.
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def stop(self):
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def server(*arguments, **options):
    running = Server(*arguments, **options)
    try:
        yield running
        if running.process.poll() is not None:
            raise AssertionError("the server ended by itself")
    finally:
        running.stop()


class Checks:
    """Counts checks; one that raises has failed, and the others go on."""

    def __init__(self):
        self.passed = 0
        self.failed = 0

    @contextlib.contextmanager
    def check(self, name):
        try:
            yield
        except Exception:
            self.fail(name)
        else:
            self.passed += 1
            print(f"ok      {name}", flush=True)

    def fail(self, name):
        """Counts the exception that is being handled."""
        self.failed += 1
        print(f"FAILED  {name}\n{traceback.format_exc()}", flush=True)

    @property
    def total(self):
        return self.passed + self.failed
