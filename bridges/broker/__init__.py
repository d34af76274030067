"""The embedded MQTT 3.1.1 broker, for a laptop, a demonstration or a small site: amqtt in a process of its own.

The gateway sees only what is named here; it talks to the broker over MQTT as to any other. In the gateway's process is
`launcher`; all the rest runs in the child, so that neither waits for the other's turn of an event loop.
"""

from bridges.broker.launcher import BrokerUnavailable, EmbeddedBroker
from bridges.broker.options import BrokerOptions

__all__ = ["BrokerOptions", "BrokerUnavailable", "EmbeddedBroker"]
