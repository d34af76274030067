"""A real nginx in front of a gateway."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.real import Running, free_port, listens, wait_until


@contextmanager
def nginx(directory: Path, location: str, tls: dict[str, str] | None = None, http: str = "") -> Iterator[int]:
    """Serves what a `location` block says on a port of the loopback, which is what the context gives.

    What stands beside the `server` is said in `http`.
    """
    port = free_port()
    listen = f"listen 127.0.0.1:{port}{' ssl' if tls else ''};\n"
    if tls:
        listen += f"ssl_certificate {tls['tls_certificate_file']};\nssl_certificate_key {tls['tls_key_file']};\n"
    config = directory / f"nginx-{port}.conf"
    config.write_text(
        f"daemon off; pid {directory}/nginx-{port}.pid; error_log stderr;\n"
        + "events { worker_connections 4096; }\nhttp { access_log off;\n"
        + "".join(f"{kind}_temp_path {directory}/{kind};\n" for kind in ("client_body", "proxy"))
        + 'map $http_upgrade $connection_upgrade { default upgrade; "" ""; }\n'
        + f"{http}\nserver {{ {listen}{location}\n}} }}\n"
    )
    with Running(["/usr/sbin/nginx", "-c", config, "-p", directory], directory / f"nginx-{port}.log") as running:
        wait_until(lambda: listens(port), f"nginx listens: {running.text}")
        yield port
