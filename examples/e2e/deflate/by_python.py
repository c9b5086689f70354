"""Python's `websockets`: every parameter that it can offer, in whole messages and in fragments."""

import asyncio

from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

import traffic
from harness import PATIENCE
from traffic import HUGE, LONG, SMALL, cases
from wire import Proxy

FLAGS = ["server_no_context_takeover", "client_no_context_takeover"]


def offers(mode):
    """What is offered, by which messages."""
    if mode.is_brief:
        for offer in ({}, {"client_max_window_bits": True}):
            yield offer, cases(SMALL + LONG[:1], True)
        return
    everything, some = cases(SMALL + LONG + HUGE, True), cases(SMALL + LONG[:1], True)
    yield {}, everything
    yield dict.fromkeys(FLAGS, True), everything
    for flag in FLAGS:
        yield {flag: True, "client_max_window_bits": True}, some
    few = cases([126, 300, LONG[0]], True)
    for bits in range(9, 16):
        limits = {"server_max_window_bits": bits, "client_max_window_bits": bits}
        yield limits, few
        yield limits | dict.fromkeys(FLAGS, True), few


async def echo(ws, sent):
    """Sends each and holds that it comes back."""
    for case in sent:
        pieces = [piece.decode() for piece in case.pieces] if case.is_text else case.pieces
        await ws.send(pieces if case.is_cut else pieces[0])
        whole = type(pieces[0])().join(pieces)
        assert await ws.recv() == whole, f"another message came back: {case}"


async def talk(address, extensions, sent):
    async with asyncio.timeout(PATIENCE):
        options = {"compression": None, "extensions": extensions, "max_size": None, "ping_interval": None}
        async with connect(f"ws://{address}/", **options) as ws:
            await echo(ws, sent)


def told(offer):
    return "; ".join(f"{key}={value}" if value is not True else key for key, value in offer.items()) or "no parameter"


def run(checks, server, mode):
    with Proxy(server.address) as proxy:
        for offer, sent in offers(mode):
            with checks.check(f"Python websockets, {told(offer)}: {len(sent)} messages"):
                # It would offer `client_max_window_bits` by itself.
                factory = ClientPerMessageDeflateFactory(**{"client_max_window_bits": None, **offer})
                asyncio.run(talk(proxy.address, [factory], sent))
                agreed = traffic.check(proxy.take(), sent, mode.compresses)
                mode.check(agreed, offer)
        with checks.check("Python websockets without an offer: plain"):
            sent = cases(SMALL + LONG, True)
            asyncio.run(talk(proxy.address, [], sent))
            traffic.check(proxy.take(), sent, False)
