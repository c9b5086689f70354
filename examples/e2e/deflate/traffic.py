"""The messages that every client sends, and what has to be on the wire of them."""

import dataclasses
import random

import wire
from wire import BINARY, TEXT

MIB = 1 << 20
# Below it the server sends plain: its default.
COMPRESSED_MIN = 128
SMALL = [0, 1, 125, 126, COMPRESSED_MIN - 1, COMPRESSED_MIN]
LONG = [65535, 65536]
HUGE = [MIB, 4 * MIB]
# Longer than any window: repeated, it has nothing in it that could be referred to.
NOISE = random.Random(7692).randbytes(70_001)
LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
NOISY_TEXT = bytes(LETTERS[byte & 63] for byte in NOISE)
PATTERN = b'{"id":1234,"name":"quelea","price":0.25,"tags":["a","b"]},'
# Unlike all others: sent twice, it shows whether contexts are taken over. Shorter than the smallest window, of which
# zlib does not use the last 262 bytes.
RECORD = b"".join(b'{"user":%d,"score":%d},' % (n * 7919 % 997, n * 104_729 % 8191) for n in range(10))[:200]
BYTES = b"\x00\x01\x02\xfd\xfe\xff record \x80\x00\x00\x01 of bytes"


@dataclasses.dataclass
class Case:
    """A message: in one piece, or in the pieces that are to be its fragments."""

    opcode: int
    size: int
    is_noise: bool = False
    is_cut: bool = False
    # Whether it is the record.
    is_record: bool = False

    @property
    def is_text(self):
        return self.opcode == TEXT

    @property
    def source(self):
        """What it is, again and again."""
        if self.is_record:
            return RECORD
        noise, pattern = (NOISY_TEXT, PATTERN) if self.is_text else (NOISE, BYTES)
        return noise if self.is_noise else pattern

    @property
    def payload(self):
        return (self.source * (self.size // len(self.source) + 1))[: self.size]

    @property
    def cuts(self):
        """Where its fragments end, but for the last: the second has no byte."""
        return [min(1, self.size), min(1, self.size), max(min(1, self.size), self.size // 3)] if self.is_cut else []

    @property
    def pieces(self):
        payload = self.payload
        return [payload[start:end] for start, end in zip([0, *self.cuts], [*self.cuts, self.size])]

    def __str__(self):
        return f"{'text' if self.is_text else 'binary'} {'noise' if self.is_noise else 'pattern'}{' in fragments' * self.is_cut}, {self.size} B"


def cases(sizes, can_cut):
    """All kinds of messages of these sizes."""
    kinds = [(opcode, is_noise) for opcode in (TEXT, BINARY) for is_noise in (False, True)]
    cuts = (False, True) if can_cut else (False,)
    found = [Case(opcode, size, is_noise, is_cut) for size in sizes for opcode, is_noise in kinds for is_cut in cuts]
    return [*found, *[Case(TEXT, len(RECORD), is_record=True)] * 2]


def check(connection, sent_cases, is_agreed):
    """Holds what passed to the cases: each was sent and came back, compressed as was agreed on; returns that."""
    request, sent = wire.messages(connection.sent, True)
    answer, received = wire.messages(connection.received, False)
    agreed = wire.agreement(answer)
    assert (agreed is not None) == is_agreed, f"{answer!r} for {request!r}"
    assert len(sent) == len(received) == len(sent_cases), (len(sent), len(received), len(sent_cases))
    if agreed is None:
        for message in [*sent, *received]:
            assert not message.is_compressed, "RSV1 without an agreement"
        agreed = wire.Agreed()
    to_server = wire.Inflater(agreed.client_max_window_bits, not agreed.client_no_context_takeover)
    to_client = wire.Inflater(agreed.server_max_window_bits, not agreed.server_no_context_takeover)
    previous = None
    for case, one, other in zip(sent_cases, sent, received):
        payload = case.payload
        assert one.opcode == other.opcode == case.opcode, case
        assert to_server.message(one) == payload, f"sent: {case}"
        assert to_client.message(other) == payload, f"received: {case}"
        if case.is_cut:
            assert len(one.frames) >= 2, f"it was not sent in fragments: {case}"
        if is_agreed:
            compressed(case, one, other)
        if case.is_record and previous and previous[2].is_record and is_agreed:
            taken_over(previous[1], other, not agreed.server_no_context_takeover)
            taken_over(previous[0], one, not agreed.client_no_context_takeover)
        previous = (one, other, case)
    return agreed if is_agreed else None


def compressed(case, sent, received):
    """Which messages have to be compressed, and shorter."""
    if case.size < COMPRESSED_MIN:
        assert not received.is_compressed, f"too short: {case}"
    elif not case.is_noise:
        for message in (sent, received):
            assert message.is_compressed, f"plain: {case}"
            most = case.size / 4 if case.size >= LONG[0] else case.size
            assert message.wire_bytes < most, f"{message.wire_bytes} bytes for {case}"
    elif case.opcode == BINARY:
        assert not received.is_compressed, f"longer than plain: {case}"
    assert received.wire_bytes <= case.size + 10, f"{received.wire_bytes} bytes for {case}"


def taken_over(first, again, takeover):
    """What is sent again refers to the first, if it may."""
    lengths = (first.wire_bytes, again.wire_bytes)
    if takeover:
        assert lengths[1] * 2 < lengths[0], f"no context was taken over: {lengths}"
    else:
        assert abs(lengths[1] - lengths[0]) <= 1, f"not each by itself: {lengths}"
