"""MQTT over WebSocket as the configuration wants it."""

from bridges.mqtt_websocket import MqttOptions
from gateway.config.mqtt import MqttSettings

__all__ = ["mqtt_options"]


def mqtt_options(settings: MqttSettings) -> MqttOptions | None:
    """The options of the bridge; None where it isn't served."""
    if settings.mode != "gateway":
        return None
    return MqttOptions(settings.sessions, settings.session_expiry_max_seconds, settings.keep_alive_max_seconds)
