from tests.integration.conftest import broker, device, start_gateway

__all__ = ["broker", "device", "start_gateway"]
