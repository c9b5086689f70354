"""The server under test: its process, what it logs, and what it takes."""

import os
import pathlib
import re
import subprocess
import sys
import threading
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "clients"))

import harness
from harness import PATIENCE

# What the script causes, as it stands in a line of the log that is a warning or an error: clients that send what is
# too long, and subscribers that do not read. Whatever else a peer does is no trouble of the server's.
CAUSED = re.compile(r'a limit was reached conn=\S+ limit="(message_bytes_max|outbox_bytes_max)"')


class Server:
    def __init__(self, binary, workers):
        command = [binary, "--listen", "127.0.0.1:0", "--driver", harness.DRIVER, "--workers", str(workers)]
        environment = {**os.environ, "RUST_LOG": "info"}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self.lines = []
        threading.Thread(target=self._collect, daemon=True).start()
        deadline = time.monotonic() + PATIENCE
        while not any("serving workers=" in line for line in self.lines):
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.stop()
                raise AssertionError(f"the server did not start: {self.lines}")
            time.sleep(0.01)
        self.port = int(re.search(r"listening.*address=\S+:(\d+)", "\n".join(self.lines))[1])

    def _collect(self):
        for line in self.process.stderr:
            self.lines.append(line.rstrip())

    def resident(self):
        """Its resident memory, in bytes."""
        pages = pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def complaints(self):
        troubles = [line for line in self.lines if re.search(r"\b(WARN|ERROR)\b|panicked", line)]
        return [line for line in troubles if not CAUSED.search(line)]

    def stop(self):
        self.process.kill()
        self.process.wait()
