"""Node's `ws`: the parameters that it can offer, in whole messages and in fragments."""

import json
import pathlib
import subprocess
import tempfile

import traffic
from harness import PATIENCE, TOOLS
from traffic import HUGE, LONG, SMALL, cases
from wire import Proxy

# How `ws` calls them.
NAMES = {
    "server_no_context_takeover": "serverNoContextTakeover",
    "client_no_context_takeover": "clientNoContextTakeover",
    "server_max_window_bits": "serverMaxWindowBits",
    "client_max_window_bits": "clientMaxWindowBits",
}
BY_ITSELF = {"server_no_context_takeover": True, "client_no_context_takeover": True}


def offers(mode):
    """What is offered, by which messages; `ws` always offers `client_max_window_bits`."""
    default = {"client_max_window_bits": True}
    if mode.is_brief:
        yield default, cases(SMALL + LONG[:1], True)
        return
    yield default, cases(SMALL + LONG + HUGE, True)
    yield BY_ITSELF | default, cases(SMALL + LONG + HUGE, True)
    for bits in (9, 12, 15):
        limits = {"server_max_window_bits": bits, "client_max_window_bits": bits}
        yield limits, cases([126, LONG[0]], True)


def talk(address, offer, sent, folder):
    plan = []
    for case in sent:
        file = folder / f"{case.opcode}-{case.size}-{case.is_noise}-{case.is_record}"
        file.write_bytes(case.payload)
        plan.append({"file": str(file), "isText": case.is_text, "cuts": case.cuts})
    options = offer and {NAMES[key]: value for key, value in offer.items()}
    (folder / "plan.json").write_text(json.dumps({"offer": options, "sent": plan}))
    script = pathlib.Path(__file__).with_suffix(".mjs")
    command = ["node", script, TOOLS / "node/node_modules", address, folder / "plan.json"]
    node = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert node.returncode == 0, node.stderr


def run(checks, server, mode):
    with Proxy(server.address) as proxy, tempfile.TemporaryDirectory() as folder:
        for offer, sent in offers(mode):
            with checks.check(f"Node ws, {offer}: {len(sent)} messages"):
                talk(proxy.address, offer, sent, pathlib.Path(folder))
                agreed = traffic.check(proxy.take(), sent, mode.compresses)
                mode.check(agreed, offer)
        with checks.check("Node ws without an offer: plain"):
            sent = cases(SMALL + LONG, True)
            talk(proxy.address, False, sent, pathlib.Path(folder))
            traffic.check(proxy.take(), sent, False)
