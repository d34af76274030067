from pathlib import Path

import pytest

from bridges.peerjs_ice import IceServer
from gateway.app import create_app
from gateway.config import ConfigurationError, load_settings
from gateway.peerjs import peerjs_options


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "turn.key").write_text("north\n")
    (tmp_path / "empty.key").write_text("\n")
    return tmp_path / "config.yaml"


def test_what_is_configured_reaches_the_bridge(config: Path) -> None:
    config.write_text(
        "peerjs:\n  rooms: [calls/+]\n  ids: user\n  peers_per_room: 7\n  queue_bytes: 1 KiB\n  ice_servers:\n"
        "    - {urls: ['stun:a:3478', 'stuns:[::1]:5349']}\n"
        "    - {urls: ['turn:b?transport=tcp'], secret_file: turn.key, users_only: true}\n"
        "    - {urls: ['turns:c'], username: me, credential: hidden}\n"
    )

    options = peerjs_options(load_settings(config, environment={}).peerjs)

    assert options is not None
    assert (options.rooms, options.ids) == (("calls/+",), "user")
    assert (options.bounds.peers_per_room, options.bounds.queue_bytes) == (7, 1024)
    assert options.ice_servers == (
        IceServer(("stun:a:3478", "stuns:[::1]:5349")),
        IceServer(("turn:b?transport=tcp",), secret="north", users_only=True),
        IceServer(("turns:c",), "me", "hidden"),
    )


def test_it_can_be_turned_off(config: Path) -> None:
    config.write_text("peerjs: {enabled: false}")  # it is served otherwise: see the integration tests

    app = create_app(load_settings(config, environment={}))

    assert not [route for route in app.routes if "peerjs" in getattr(route, "path", "")]


@pytest.mark.parametrize(
    ("server", "told"),
    [
        ("{urls: []}", "urls: expected at least one"),
        ("{urls: ['http://a']}", "expected stun:, stuns:, turn: or turns: and a host"),
        ("{urls: ['turn:user@a']}", "expected stun:, stuns:, turn: or turns: and a host"),
        ("{urls: ['turn:a']}", "expected `secret_file`, or `username` and `credential`, for a TURN server"),
        ("{urls: ['turn:a'], username: me}", "expected `secret_file`, or `username` and `credential`, for a TURN"),
        ("{urls: ['turn:a'], secret_file: turn.key, username: me}", "found both"),
        ("{urls: ['turn:a'], secret_file: empty.key}", "expected a file with a secret, found an empty one"),
        ("{}", "urls"),
    ],
    ids=str,
)
def test_a_server_that_can_be_of_no_use_is_refused(config: Path, server: str, told: str) -> None:
    config.write_text(f"peerjs: {{ice_servers: [{server}]}}")

    with pytest.raises(ConfigurationError) as refused:
        load_settings(config, environment={})

    assert told in str(refused.value)


def test_no_secret_is_shown(config: Path) -> None:
    config.write_text("peerjs: {ice_servers: [{urls: ['turns:c'], username: me, credential: hidden}]}")

    settings = load_settings(config, environment={})

    assert "hidden" not in repr(settings) + repr(peerjs_options(settings.peerjs))
