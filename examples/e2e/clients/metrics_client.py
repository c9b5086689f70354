"""curl and Prometheus' own parser against --metrics of echo, while a real client talks to it."""

import asyncio
import re
import subprocess
import time

import websockets
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from harness import PATIENCE, server

MESSAGES = 100


def curl(url):
    """Status, content type and body."""
    command = ["curl", "-sS", "--max-time", str(PATIENCE), "-w", "\n%{http_code} %{content_type}", url]
    body, _, last = subprocess.run(command, capture_output=True, check=True).stdout.decode().rpartition("\n")
    status, _, content_type = last.partition(" ")
    return int(status), content_type, body


def sums(text):
    """The sum of all series of each name."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


async def talk(address):
    async with websockets.connect(f"ws://{address}/") as client:
        for number in range(MESSAGES):
            await client.send(f"{number:03}")
            assert await client.recv() == f"{number:03}"


def run(checks):
    with server("echo", "--metrics", "127.0.0.1:0") as echo:
        url = f"http://{echo.metrics_address}"
        with checks.check("metrics: Prometheus' parser reads what real clients did"):
            before = sums(curl(f"{url}/metrics")[2])
            asyncio.run(talk(echo.address))
            # What the workers said is told again for 100 ms, so that a flood of questions costs them nothing.
            time.sleep(0.2)
            status, content_type, text = curl(f"{url}/metrics")
            assert status == 200, status
            assert re.match(r"application/openmetrics-text; version=1\.0\.0", content_type), content_type
            after = sums(text)
            grown = {name: value - before[name] for name, value in after.items()}
            assert grown["quelea_messages_received_total"] == MESSAGES, grown
            assert grown["quelea_messages_sent_bytes_total"] == 3 * MESSAGES, grown
            assert grown["quelea_connections_opened_total"] == 1, grown
            assert grown["quelea_connections_closed_total"] == 1, grown
        for path, expected in [("/health/live", 200), ("/health/ready", 200), ("/", 404)]:
            with checks.check(f"metrics: curl gets {expected} for {path}"):
                assert curl(url + path)[0] == expected
        with checks.check("metrics: they are not on the server's own listener"):
            assert curl(f"http://{echo.address}/metrics")[0] == 426
