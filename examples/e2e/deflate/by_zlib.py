"""Python's zlib as a client: random messages, cuts, flush points and parameters, all that RFC 7692 allows."""

import base64
import os
import random
import re
import socket
import zlib

import wire
from wire import BINARY, PATIENCE, RSV1, TAIL, TEXT

WORDS = ["quelea ", "\u20acuro ", '{"price":', "0.25", "\U0001f426", "\n", "a" * 40, "\u00fcber", "0123456789"]
LEVELS = range(10)
STRATEGIES = [zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED]
FLUSHES = {
    "sync": zlib.Z_SYNC_FLUSH,
    "full": zlib.Z_FULL_FLUSH,
    "partial": zlib.Z_PARTIAL_FLUSH,
    "block": zlib.Z_BLOCK,
    "none": zlib.Z_NO_FLUSH,
}
STORED_BYTES_MAX = 0xFFFF


def stored(payload):
    """Blocks that are not compressed, one at least, which may be empty."""
    blocks = b""
    for start in range(0, max(1, len(payload)), STORED_BYTES_MAX):
        block = payload[start : start + STORED_BYTES_MAX]
        blocks += b"\x00" + len(block).to_bytes(2, "little") + (len(block) ^ 0xFFFF).to_bytes(2, "little") + block
    return blocks


class Deflater:
    """The sending end of one direction."""

    def __init__(self, rng, bits, takeover):
        self.rng, self.bits, self.takeover = rng, bits, takeover
        self.window = b""
        self.stream = None

    def begin(self):
        """Another stream, behind what was sent so far."""
        level, strategy = self.rng.choice(LEVELS), self.rng.choice(STRATEGIES)
        memory = self.rng.randint(1, 9)
        arguments = [level, zlib.DEFLATED, -self.bits, memory, strategy, *([self.window] if self.window else [])]
        self.stream = zlib.compressobj(*arguments)

    def keep(self, piece):
        self.window = (self.window + piece)[-(1 << self.bits) :]

    def message(self, payload):
        """The payload of its frames."""
        if not self.takeover:
            self.window, self.stream = b"", None
        elif self.rng.random() < 0.2:
            self.stream = None
        if self.stream is None:
            self.begin()
        cuts = sorted(self.rng.randint(0, len(payload)) for _ in range(self.rng.choice([0, 0, 1, 2, 5, 20])))
        out = b""
        for start, end in zip([0, *cuts], [*cuts, len(payload)]):
            out += self.piece(payload[start:end])
        out += self.stream.flush(self.rng.choice([zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH]))
        # Nothing is flushed twice: what is flushed already ends like this, or is empty.
        return out.removesuffix(TAIL) or b"\x00"

    def piece(self, piece):
        how = self.rng.choice([*FLUSHES, "finish", "stored", "empty"])
        if how in FLUSHES:
            out = self.stream.compress(piece) + self.stream.flush(FLUSHES[how])
            self.keep(piece)
            return out
        if how == "finish":
            # A block with BFINAL (section 7.2.3.4): others follow, at least that of the last flush.
            out = self.stream.compress(piece) + self.stream.flush(zlib.Z_FINISH)
        elif how == "stored":
            out = self.stream.flush(zlib.Z_SYNC_FLUSH) + stored(piece)
        else:
            out = self.stream.compress(piece) + self.stream.flush(zlib.Z_SYNC_FLUSH)
            out += stored(b"") * self.rng.randint(1, 50)
        self.keep(piece)
        self.begin()
        return out


def text(rng, words):
    return "".join(rng.choices(WORDS, k=words)).encode()


def message(rng):
    """A text or a binary message, of a few bytes up to some hundred thousand."""
    words = rng.choice([0, 1, 3, 10, 30, 100, 1000, 20_000])
    match rng.randint(0, 3):
        case 0:
            return BINARY, rng.randbytes(words)
        case 1:
            return BINARY, text(rng, words) + rng.randbytes(rng.randint(0, 300)) + text(rng, words)
        case _:
            return TEXT, text(rng, words)


def frame(rng, first, payload):
    key = rng.randbytes(4)
    size = len(payload)
    if size < 126:
        header = bytes([first, 0x80 | size])
    elif size <= 0xFFFF:
        header = bytes([first, 0x80 | 126]) + size.to_bytes(2, "big")
    else:
        header = bytes([first, 0x80 | 127]) + size.to_bytes(8, "big")
    return header + key + wire.unmasked(key, payload)


def frames(rng, opcode, payload, is_compressed):
    """One message, cut anywhere, with pings between; and how many these are."""
    cuts = sorted(rng.randint(0, len(payload)) for _ in range(rng.choice([0, 0, 1, 3, 10])))
    out, pings = b"", 0
    ends = [*cuts, len(payload)]
    for index, (start, end) in enumerate(zip([0, *cuts], ends)):
        first = 0x80 if index + 1 == len(ends) else 0
        if index == 0:
            first |= opcode | (RSV1 if is_compressed else 0)
        out += frame(rng, first, payload[start:end])
        if not first & 0x80 and rng.random() < 0.3:
            out += frame(rng, 0x89, b"between")
            pings += 1
    return out, pings


def offer(rng):
    """The value of `Sec-WebSocket-Extensions`."""
    parameters = [
        name for name in ["server_no_context_takeover", "client_no_context_takeover"] if rng.random() < 0.3
    ]
    if rng.random() < 0.5:
        parameters.append(f"server_max_window_bits={rng.randint(9, 15)}")
    if rng.random() < 0.7:
        parameters.append(rng.choice(["client_max_window_bits", f"client_max_window_bits={rng.randint(9, 15)}"]))
    rng.shuffle(parameters)
    return "; ".join(["permessage-deflate", *parameters])


class Client:
    """A connection, and what was agreed on for it."""

    def __init__(self, rng, address):
        host, port = address.rsplit(":", 1)
        self.rng = rng
        self.socket = socket.create_connection((host, int(port)), PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = self.socket.makefile("rb")
        self.offer = offer(rng)
        key = base64.b64encode(rng.randbytes(16)).decode()
        head = (
            f"GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: {self.offer}\r\n\r\n"
        )
        self.socket.sendall(head.encode())
        lines = list(iter(self.reader.readline, b"\r\n"))
        assert lines and lines[0].startswith(b"HTTP/1.1 101 "), lines
        agreed = wire.agreement(b"".join(lines).decode())
        assert agreed, f"{self.offer} was declined"
        # What the offer says of the client holds whatever the answer says (section 7.1.2.2).
        said = re.search(r"client_max_window_bits=(\d+)", self.offer)
        bits = min(agreed.client_max_window_bits, int(said[1]) if said else 15)
        takes_over = not (agreed.client_no_context_takeover or "client_no_context_takeover" in self.offer)
        self.deflater = Deflater(rng, bits, takes_over)
        self.inflater = wire.Inflater(agreed.server_max_window_bits, not agreed.server_no_context_takeover)

    def send(self, out):
        """In one piece, or cut anywhere."""
        cuts = sorted(self.rng.randint(0, len(out)) for _ in range(self.rng.choice([0, 0, 2, 30])))
        for start, end in zip([0, *cuts], [*cuts, len(out)]):
            self.socket.sendall(out[start:end])

    def frame(self):
        first, second = self.reader.read(2)
        width = {126: 2, 127: 8}.get(second, 0)
        size = int.from_bytes(self.reader.read(width), "big") if width else second
        assert not second & 0x80, "a server does not mask"
        return first, self.reader.read(size)

    def exchange(self, count):
        """Sends so many messages, and gets them back."""
        out, expected, pings = b"", [], 0
        for _ in range(count):
            opcode, payload = message(self.rng)
            is_compressed = self.rng.random() < 0.9
            on_wire = self.deflater.message(payload) if is_compressed else payload
            cut, pinged = frames(self.rng, opcode, on_wire, is_compressed)
            out, pings = out + cut, pings + pinged
            expected.append((opcode, payload))
        self.send(out)
        for opcode, payload in expected:
            first, got = self.frame()
            while first == 0x8A:
                assert got == b"between"
                first, got = self.frame()
            assert first & ~RSV1 == 0x80 | opcode, f"{first:#x} for a message of {len(payload)} bytes, {got[:100]}"
            echoed = self.inflater.message(wire.Message(opcode, bool(first & RSV1), [got]))
            assert echoed == payload, f"{len(payload)} bytes came back as {len(echoed)} others"
        return count

    def close(self):
        self.reader.close()
        self.socket.close()


def run(checks, server, mode, arguments):
    seed = int.from_bytes(os.urandom(4), "big") if arguments.seed is None else arguments.seed
    with checks.check(f"zlib: random messages of {arguments.connections} connections, --seed {seed}"):
        rng = random.Random(f"{seed} {mode}")
        clients = []
        try:
            # Open together: they share the server's compressors, and its budget.
            clients = [Client(rng, server.address) for _ in range(arguments.connections)]
            for _ in range(6):
                for client in clients:
                    try:
                        client.exchange(rng.choice([1, 1, 1, 3]))
                    except Exception as error:
                        raise AssertionError(f"{client.offer}, {client.deflater.bits} bits") from error
        finally:
            for client in clients:
                client.close()
