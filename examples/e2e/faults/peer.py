"""A WebSocket client that misbehaves only as it is told to.

As a program, `peer.py HOST PORT COUNT` waits for a line, opens that many connections, prints the address
of each, and answers pings until it is killed.
"""

import socket
import sys
import threading
import time

PATIENCE = 20
HEAD = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


def frame(opcode, payload=b""):
    """A client's frame, short and masked with zeros."""
    assert len(payload) < 126
    return bytes([0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload


class Peer:
    def __init__(self, host, port):
        self.connecting = time.monotonic()
        self.socket = socket.create_connection((host, port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.address = "{}:{}".format(*self.socket.getsockname())
        self.pings = 0
        self.received = b""

    def open(self):
        """The opening handshake."""
        self.socket.sendall(HEAD)
        while b"\r\n\r\n" not in self.received:
            self.receive_more()
        head, _, self.received = self.received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        return self

    def send(self, opcode, payload=b""):
        self.socket.sendall(frame(opcode, payload))

    def receive(self):
        """The next frame that is no ping: its opcode and payload. Pings are answered."""
        while True:
            opcode, payload = self._receive_frame()
            if opcode != PING:
                return opcode, payload
            self.pings += 1
            self.send(PONG, payload)

    def _receive_frame(self):
        while len(self.received) < 2 or len(self.received) < 2 + self.received[1]:
            self.receive_more()
        length = self.received[1]
        assert length < 126, "a frame that was not asked for"
        opcode, payload = self.received[0] & 0xF, self.received[2 : 2 + length]
        self.received = self.received[2 + length :]
        return opcode, payload

    def receive_more(self):
        """Waits for bytes, and keeps them."""
        data = self.socket.recv(65536)
        if not data:
            raise EOFError("the server ended the connection")
        self.received += data

    def read_to_end(self):
        """All that the server still sends; it may reset the connection behind it."""
        data = self.received
        while True:
            try:
                more = self.socket.recv(65536)
            except ConnectionError:
                return data
            if not more:
                return data
            data += more

    def close(self):
        self.socket.close()


def main():
    host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(count):
        peer = Peer(host, port).open()
        peer.socket.settimeout(None)
        threading.Thread(target=peer.receive, daemon=True).start()
        print(peer.address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
