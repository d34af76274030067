"""An identity provider: publishes keys over HTTP(S) from a thread, signs tokens, and misbehaves when told."""

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

PRIVATE: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
"""A key of each kind; slow to make, so tests share them."""


def jwk(algorithm: str, kid: str | None = None, key: Any = None, **more: Any) -> dict[str, Any]:
    """A public key as providers publish it."""
    public = (key or PRIVATE[algorithm]).public_key()
    entry: dict[str, Any] = get_default_algorithms()[algorithm].to_jwk(public, as_dict=True)
    entry.pop("key_ops", None)
    return {**entry, **({} if kid is None else {"kid": kid}), **more}


def sign(algorithm: str = "ES256", kid: str | None = None, key: Any = None, **changes: Any) -> str:
    """A token as the provider signs it; `header` adds to its header."""
    header = {**({} if kid is None else {"kid": kid}), **changes.pop("header", {})}
    claims = {"sub": "ann", "roles": ["operator"], "exp": int(time.time()) + 3600, **changes}
    return jwt.encode(claims, key or PRIVATE[algorithm], algorithm, header)


class Provider:
    """What it answers, and how often it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = b'{"keys": []}'
        self.fetches = 0
        self.paths: list[str] = []
        self.go_on = threading.Event()
        """Answers wait for it."""
        self.go_on.set()
        self.url = ""

    def publish(self, *keys: dict[str, Any]) -> None:
        """Let these be the keys."""
        self.body = json.dumps({"keys": keys}).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are no news."""


@contextmanager
def provider(port: int = 0, tls: dict[str, str] | None = None, host: str = "127.0.0.1") -> Iterator[Provider]:
    """A running provider; what `tests.certificates.Authority.issue` says makes it speak TLS."""
    state = Provider()

    class Handler(BaseHTTPRequestHandler):
        timeout = 20
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            state.fetches += 1
            state.paths.append(self.path)
            status, headers, body = state.status, dict(state.headers), state.body
            state.go_on.wait(20)
            self.send_response(status)
            for name, value in {"Connection": "close", "Content-Length": str(len(body)), **headers}.items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    server = _Server((host, port), Handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls["tls_certificate_file"], tls["tls_key_file"])
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    state.url = f"http{'s' if tls else ''}://{host}:{server.server_port}/keys?a=b"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield state
    finally:
        state.go_on.set()
        server.shutdown()
        thread.join()
        server.server_close()
