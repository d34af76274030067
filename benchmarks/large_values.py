"""Last values that are large together, for attacks by those who ask for all of them."""

from typing import Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.requesters import LARGE_VALUE_BYTES, LARGE_VALUES
from tests.real import GatewayProcess, wait_until

__all__ = ["LARGE_ATTACKS", "fill"]

LARGE_ATTACKS: Final = frozenset({"deaf-answers", "deaf-values"})


def fill(broker_port: int, gateway: GatewayProcess) -> None:
    """Publish them into rooms that have a history too, and wait until the gateway has all."""
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", broker_port)
    client.loop_start()
    try:
        wait_until(client.is_connected, "the broker is there")
        payload = '"' + "x" * (LARGE_VALUE_BYTES - 2) + '"'
        for number in range(LARGE_VALUES):
            client.publish(f"kept/{number}", payload, qos=1).wait_for_publish(10)
        newest = f"/last?room=kept/{LARGE_VALUES - 1}"
        wait_until(lambda: gateway.get(newest).json()["last"], "the gateway has all values")
    finally:
        client.disconnect()
        client.loop_stop()
