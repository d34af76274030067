"""What tests of brokers' faults share."""

import asyncio
import base64
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.integration.conftest import Browser
from tests.real import GatewayProcess, Mosquitto, wait_until

__all__ = ["Start", "allow", "dynamic_security", "notice", "open_to_mosquitto", "plant", "until"]

Start = Callable[..., GatewayProcess]


def plant(gateway: GatewayProcess) -> dict[str, Any]:
    """What `/readyz` says of the upstream."""
    found: dict[str, Any] = httpx.get(f"{gateway.url}/readyz").json()["upstreams"]["plant"]
    return found


async def until(condition: Callable[[], Any], what: str, deadline_seconds: float = 20.0) -> Any:
    return await asyncio.to_thread(wait_until, condition, what, deadline_seconds)


async def notice(client: Browser) -> str:
    """The next notice's state."""
    while (heard := await client.hear())["type"] != "upstream":
        pass
    assert heard == {"type": "upstream", "name": "plant", "state": heard["state"]}
    return str(heard["state"])


def open_to_mosquitto(*paths: Path) -> None:
    """mosquitto gives up root before it reads some files."""
    for path in paths:
        path.chmod(0o644)
        for parent in path.parents:
            if parent.owner() == path.owner() and parent not in (Path("/"), Path("/tmp")):
                parent.chmod(0o755)


def dynamic_security_plugin() -> Path:
    """Where Debian has it, which is another place on each architecture."""
    return next(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"))


def dynamic_security(path: Path, *allowed: str) -> None:
    """Write mosquitto's rules: an administrator, and everyone else subscribes to what is allowed."""
    salt, rounds = os.urandom(12), 101
    password = hashlib.pbkdf2_hmac("sha512", b"admin", salt, rounds)
    everything = [{"acltype": kind, "topic": "#", "allow": True} for kind in ("publishClientSend", "subscribePattern")]
    some = [{"acltype": "subscribePattern", "topic": topic, "allow": True} for topic in allowed]
    rules = {
        "defaultACLAccess": {
            "publishClientSend": True,
            "publishClientReceive": True,
            "subscribe": False,
            "unsubscribe": True,
        },
        "clients": [
            {
                "username": "admin",
                "password": base64.b64encode(password).decode(),
                "salt": base64.b64encode(salt).decode(),
                "iterations": rounds,
                "roles": [{"rolename": "admin"}],
            }
        ],
        "groups": [{"groupname": "anyone", "roles": [{"rolename": "anyone"}]}],
        "roles": [
            {
                "rolename": "admin",
                "acls": [*everything, {"acltype": "publishClientSend", "topic": "$CONTROL/#", "allow": True}],
            },
            {"rolename": "anyone", "acls": some},
        ],
        "anonymousGroup": "anyone",
    }
    path.write_text(json.dumps(rules))


def allow(broker: Mosquitto, topic: str) -> None:
    """Change mosquitto's rules while it runs."""
    admin = paho.Client(CallbackAPIVersion.VERSION2)
    admin.username_pw_set("admin", "admin")
    admin.connect("127.0.0.1", broker.port)
    admin.loop_start()
    command = {
        "command": "addRoleACL",
        "rolename": "anyone",
        "acltype": "subscribePattern",
        "topic": topic,
        "allow": True,
        "priority": 0,
    }
    admin.publish("$CONTROL/dynamic-security/v1", json.dumps({"commands": [command]}), qos=1).wait_for_publish(10)
    admin.disconnect()
    admin.loop_stop()
