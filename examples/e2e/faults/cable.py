"""A server and a peer in network namespaces of their own, joined by a cable that can be pulled.

The namespaces have no names and are gone with their processes, and the cable with them: nothing of this
machine's own network is touched, and nothing is left behind.
"""

import contextlib
import pathlib
import subprocess
import sys

from server import echo

# Documentation addresses (RFC 5737): nobody's.
SERVER, PEER = "192.0.2.1", "192.0.2.2"
UNSHARE = ["unshare", "--net"]
WHY = "this test needs network namespaces: to run as root, with CAP_SYS_ADMIN and CAP_NET_ADMIN"


def configure(process, *commands):
    """Runs commands of `ip` in the namespace of a process."""
    ip = ["nsenter", f"--target={process.pid}", "--net", "ip", "-batch", "-"]
    done = subprocess.run(ip, input="\n".join(commands) + "\n", text=True, capture_output=True)
    if done.returncode != 0:
        raise RuntimeError(f"{WHY}; ip said: {done.stderr.strip()}")


class Cable:
    """`echo` is the server, `peers` the addresses of the connections to it, which answer pings."""

    def __init__(self, echo, peer, count):
        self.echo = echo
        self._peer = peer
        configure(
            echo.process,
            f"link add cable type veth peer name cable netns {peer.pid}",
            f"address add {SERVER}/30 dev cable",
            "link set cable up",
        )
        configure(peer, f"address add {PEER}/30 dev cable", "link set cable up")
        peer.stdin.write("connect\n")
        peer.stdin.flush()
        self.peers = [peer.stdout.readline().strip() for _ in range(count)]
        assert all(self.peers), "the peer did not connect"

    def pull(self):
        """From now on nothing reaches the other end, no FIN and no RST either."""
        configure(self._peer, "link set cable down")

    def segments_received(self):
        """How many TCP segments have reached the server's end."""
        path = pathlib.Path(f"/proc/{self.echo.process.pid}/net/snmp")
        lines = path.read_text().splitlines()
        names, values = (line.split() for line in lines if line.startswith("Tcp:"))
        return int(values[names.index("InSegs")])


@contextlib.contextmanager
def cable(binary, arguments, count):
    if subprocess.run([*UNSHARE, "true"], capture_output=True).returncode != 0:
        raise RuntimeError(WHY)
    with echo(binary, arguments, listen="0.0.0.0", wrapper=UNSHARE) as server:
        program = str(pathlib.Path(__file__).with_name("peer.py"))
        command = [*UNSHARE, sys.executable, program, SERVER, str(server.port), str(count)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, **pipes) as peer:
            try:
                # Only now it is certain to be in its own namespace.
                assert peer.stdout.readline() == "ready\n", "the peer did not start"
                yield Cable(server, peer, count)
            finally:
                peer.kill()
