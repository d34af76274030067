"""The program as its users meet it: starting, stopping, mistakes, health, pages."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest

from tests.real import TIDEGATE, GatewayProcess, Mosquitto, Running, configuration, free_port, listens, wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def taken_port() -> Iterator[int]:
    with closing(socket.socket()) as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def embedded(broker_port: int = 0) -> dict[str, object]:
    """A configuration with the embedded broker."""
    return {"broker": {"port": broker_port}, "routes": [{"topic": "raw/{x}", "room": "raw/{x}"}]}


def run_to_the_end(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(TIDEGATE), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=30)


def test_a_taken_http_port_is_one_sentence_and_exit_code_1(tmp_path: Path, taken_port: int) -> None:
    (tmp_path / "config.yaml").write_text(f"listen: {{port: {taken_port}}}\nbroker: {{port: 0}}\n")
    ended = run_to_the_end("run", cwd=tmp_path)
    assert ended.returncode == 1
    assert f"port {taken_port} on 127.0.0.1 is taken" in ended.stderr
    assert "listen.port" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_taken_mqtt_port_is_one_sentence_and_exit_code_1(tmp_path: Path, taken_port: int) -> None:
    (tmp_path / "config.yaml").write_text(f"listen: {{port: 0}}\nbroker: {{port: {taken_port}}}\n")
    ended = run_to_the_end("run", cwd=tmp_path)
    assert ended.returncode == 1
    assert f"port {taken_port} on 127.0.0.1 is taken" in ended.stderr
    assert "broker.port" in ended.stderr
    assert "Traceback" not in ended.stderr + ended.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_in_good_order_with_exit_code_0_and_leaves_nothing_running(
    tmp_path: Path, number: signal.Signals
) -> None:
    with GatewayProcess(tmp_path / "gateway", embedded(), "--demo", start_new_session=True) as gateway:
        broker_port = int(gateway.text.partition("MQTT       127.0.0.1:")[2].split()[0])
        gateway.wait_until_ready()
        with httpx.stream("GET", f"{gateway.url}/sse?room=%23"):
            os.killpg(gateway.process.pid, number)  # as a terminal does
            started = time.monotonic()
            assert gateway.wait() == 0
            took_seconds = time.monotonic() - started
        print(f"ended in {took_seconds:.2f} s")
        with pytest.raises(ProcessLookupError):
            os.killpg(gateway.process.pid, 0)
        assert not listens(broker_port)
        assert not listens(gateway.port)
        assert "Traceback" not in gateway.text
        assert "rror" not in gateway.text


def test_it_ends_although_its_broker_answers_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        config = configuration(mute.getsockname()[1])
        with GatewayProcess(tmp_path / "gateway", config) as gateway, mute.accept()[0]:
            gateway.send_signal(signal.SIGINT)
            assert gateway.wait(5) == 0


def test_it_ends_although_its_broker_cant_even_be_reached(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as waiting:
        for _ in range(2):  # so that the kernel takes no more, and connecting hangs
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        config = configuration(full.getsockname()[1])
        with GatewayProcess(tmp_path / "gateway", config) as gateway:
            gateway.send_signal(signal.SIGINT)
            assert gateway.wait(5) == 0


def test_the_embedded_broker_does_not_outlive_a_killed_gateway(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "gateway", embedded()) as gateway:
        broker_port = int(gateway.text.partition("MQTT       127.0.0.1:")[2].split()[0])
        assert listens(broker_port)
        gateway.send_signal(signal.SIGKILL)
        gateway.wait()
        wait_until(lambda: not listens(broker_port), "the broker ends too")


def test_health_readiness_and_metrics(tmp_path: Path, broker: Mosquitto) -> None:
    with GatewayProcess(tmp_path / "gateway", configuration(broker.port)) as gateway:
        gateway.wait_until_ready()
        assert httpx.get(f"{gateway.url}/healthz").json() == {"status": "ok"}
        assert httpx.get(f"{gateway.url}/readyz").json() == {
            "status": "ready",
            "upstreams": {"plant": {"state": "up"}},
        }
        httpx.post(f"{gateway.url}/publish?room=chat/x", json=1)
        metrics = httpx.get(f"{gateway.url}/metrics")
        assert metrics.headers["content-type"].startswith("text/plain")
        for line in [
            'tidegate_sessions{namespace="default",transport="websocket"} 0.0',
            'tidegate_published_total{namespace="default",transport="http"} 1.0',
            'tidegate_upstream_up{upstream="plant"} 1.0',
            "tidegate_event_loop_lag_seconds_count",
            "process_cpu_seconds_total",
        ]:
            assert line in metrics.text
        broker.kill()
        wait_until(lambda: 'tidegate_upstream_up{upstream="plant"} 0.0' in httpx.get(f"{gateway.url}/metrics").text, "")


def test_pages_are_served_and_nothing_else_of_the_disk(tmp_path: Path, broker: Mosquitto) -> None:
    with GatewayProcess(tmp_path / "gateway", configuration(broker.port)) as gateway:
        page = httpx.get(gateway.url)
        assert page.headers["content-type"].startswith("text/html")
        client = httpx.get(f"{gateway.url}/tidegate.js")
        assert client.headers["content-type"].startswith("text/javascript")
        for path in ("/../pyproject.toml", "/%2e%2e/pyproject.toml", "/..%2fpyproject.toml", "/nothing"):
            answer = httpx.get(gateway.url + path)
            assert answer.status_code == 404, path
            assert answer.json()["code"] == "no_such_endpoint"


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "code", "named"),
    [
        ("POST", "/publish", b"1", 400, "bad_message", "room: expected one"),
        ("POST", "/publish?room=a&room=b", b"1", 400, "bad_message", "found 2"),
        ("POST", "/publish?room=a/%23", b"1", 400, "bad_message", "wildcard"),
        ("POST", "/publish?room=a", b"{", 400, "bad_message", "body: expected JSON"),
        ("POST", "/publish?room=a", b"", 400, "bad_message", "body: expected JSON"),
        ("GET", "/last", b"", 400, "bad_message", "room"),
        ("GET", "/last?room=a%2Bb", b"", 400, "bad_message", "wildcard"),
        ("GET", "/sse", b"", 400, "bad_message", "room"),
        ("GET", "/sse?room=a//b", b"", 400, "bad_message", "none empty"),
        ("GET", "/sse?" + "&".join(f"room=r{n}" for n in range(101)), b"", 429, "too_many_subscriptions", "100"),
        ("POST", "/sse?room=a", b"", 405, "method_not_allowed", "GET"),
        ("GET", "/publish?room=a", b"", 405, "method_not_allowed", "expected POST"),
        ("GET", "/nothing", b"", 404, "no_such_endpoint", "/nothing"),
    ],
)
def test_http_errors_are_problem_details_that_say_what_was_expected(
    standing_gateway: GatewayProcess, method: str, path: str, content: bytes, status: int, code: str, named: str
) -> None:
    answer = httpx.request(method, standing_gateway.url + path, content=content)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert named in problem["detail"]
    assert problem["title"]


def test_http_publishers_are_limited_by_address(tmp_path: Path, broker: Mosquitto) -> None:
    config = configuration(broker.port, limits={"messages_per_second": 1, "messages_burst": 2})
    with GatewayProcess(tmp_path / "gateway", config) as gateway:
        answers = [httpx.post(f"{gateway.url}/publish?room=chat/x", json=1) for _ in range(4)]
        assert [answer.status_code for answer in answers[:2]] == [200, 200]
        limited = answers[-1]
        assert (limited.status_code, limited.json()["code"], limited.headers["retry-after"]) == (
            429,
            "rate_limited",
            "1",
        )


def test_sse_sessions_end_when_the_client_leaves_and_get_heartbeats(
    broker: Mosquitto, start_gateway: Callable[..., GatewayProcess]
) -> None:
    gateway = start_gateway(configuration(broker.port, heartbeat={"interval_seconds": 0.1}))

    def sessions() -> bool:
        return 'tidegate_sessions{namespace="default",transport="sse"} 1.0' in httpx.get(f"{gateway.url}/metrics").text

    with httpx.stream("GET", f"{gateway.url}/sse?room=a") as stream:
        lines = stream.iter_lines()
        assert next(lines) == "retry: 2000"
        wait_until(sessions, "the session is there")
        assert ":" in (next(lines) for _ in range(20))
    wait_until(lambda: not sessions(), "the session ends")


def test_sse_over_http_1_0_as_old_proxies_speak_it(gateway: GatewayProcess) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port)) as client:
        client.sendall(b"GET /sse?room=a HTTP/1.0\r\nHost: localhost\r\n\r\n")
        client.settimeout(10)
        heard = b""
        while b"event: subscribed" not in heard:
            heard += client.recv(4096)
        assert b"200 OK" in heard
        assert b"transfer-encoding" not in heard.lower()
        assert b"\nretry: 2000\nevent: welcome\n" in heard.replace(b"\r\n", b"\n")


def test_http_1_0_gets_whole_bodies(gateway: GatewayProcess) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port)) as client:
        client.settimeout(10)
        client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        heard = b"".join(iter(lambda: client.recv(4096), b""))
    assert heard.endswith(b'\r\n\r\n{"status":"ok"}')
    assert b"content-length: 15" in heard


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/sse?room=a", "GET"),
        ("GET", "/publish?room=a", "POST"),
        ("DELETE", "/last?room=a", "GET, HEAD"),
        ("POST", "/healthz", "GET, HEAD"),
        ("POST", "/index.html", "GET, HEAD"),
    ],
)
def test_a_refused_method_is_told_which_are_served(
    standing_gateway: GatewayProcess, method: str, path: str, allowed: str
) -> None:
    answer = httpx.request(method, standing_gateway.url + path)
    assert answer.status_code == 405
    assert sorted(answer.headers["allow"].split(", ")) == allowed.split(", ")


def test_ipv6_addresses_are_shown_in_brackets(tmp_path: Path) -> None:
    config = {**embedded(), "broker": {"host": "::1", "port": 0}}
    with GatewayProcess(tmp_path / "gateway", config) as gateway:
        assert "MQTT       [::1]:" in gateway.text


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_it_works_though_the_shell_closed_its_streams(tmp_path: Path, closed: str) -> None:
    port = free_port()
    (tmp_path / "config.yaml").write_text(f"listen: {{port: {port}}}\nbroker: {{port: 0}}\n")
    command = f"exec {TIDEGATE} run {closed}"
    with Running(["/bin/sh", "-c", command], tmp_path / "gateway.log", cwd=tmp_path) as gateway:

        def ready() -> bool:
            return listens(port) and httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200

        wait_until(ready, "the gateway is ready")
        gateway.send_signal(signal.SIGINT)
        assert gateway.wait(5) == 0


def test_check_prints_ok_or_all_problems(tmp_path: Path) -> None:
    ended = run_to_the_end("check", ROOT / "config.yaml")
    assert (ended.returncode, ended.stdout) == (0, "ok\n")
    bad = tmp_path / "bad.yaml"
    bad.write_text("listen: {prt: 80}\nlimits: {message_bytes: many}\nroutes:\n  - topic: a/{x}\n    room: b/{y}\n")
    ended = run_to_the_end("check", bad)
    assert ended.returncode == 1
    assert "bad.yaml:1:10: listen.prt" in ended.stderr
    assert "did you mean `port`?" in ended.stderr
    assert "bad.yaml:2:" in ended.stderr
    assert "Traceback" not in ended.stderr
    bad.write_text("routes:\n  - topic: a/{x}\n    room: b/{y}\n  - {topic: a//b, room: c}\n")
    ended = run_to_the_end("check", bad)
    assert "bad.yaml:3:5: routes[0].room: {y} is not in the topic" in ended.stderr
    assert "bad.yaml:4:" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["run", "--config", "nothing.yaml"], "nothing.yaml"),
        (["run", "--port", "99999"], "65535"),
        (["check", "nothing.yaml"], "nothing.yaml"),
        (["routes", "explain", "a//b", "-c", str(ROOT / "config.yaml")], "none empty"),
        (["routes", "explain", "nothing/here", "-c", str(ROOT / "config.yaml")], "no route takes"),
        (["sub", "a", "--url", "http://127.0.0.1:1"], "no gateway answers"),
        (["sub", "a", "--url", "nonsense"], "expected one such as http://localhost:8080"),
        (["sub", "a", "--url", "http://[::1"], "expected one such as http://localhost:8080"),
        (["sub", "a", "--url", "http://localhost:99999"], "expected one such as http://localhost:8080"),
        (["sub", "a", "--url", f"http://{'a' * 70}.example"], "expected one such as http://localhost:8080"),
        (["pub", "a", "{", "--url", "http://127.0.0.1:1"], "DATA is no JSON"),
        (["pub", "a", "\udcff", "--url", "http://127.0.0.1:1"], "DATA is no UTF-8"),
        (["pub", "a", "\udcff", "--text", "--url", "http://127.0.0.1:1"], "DATA is no UTF-8"),
        (["pub", "r\udcff", "1", "--url", "http://127.0.0.1:1"], "ROOM is no UTF-8"),
        (["sub", "r\udcff", "--url", "http://127.0.0.1:1"], "ROOM is no UTF-8"),
    ],
)
def test_a_users_mistake_is_one_sentence_never_a_traceback(arguments: list[str], named: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("broker: {port: 0}\n")
    ended = run_to_the_end(*arguments, cwd=tmp_path)
    assert ended.returncode == 1
    assert named in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("at", ["127.0.0.1:1", "127.0.0.1:x", "[::1", "127.0.0.1:1/x@y"])
def test_a_password_in_an_address_is_not_echoed(at: str) -> None:
    ended = run_to_the_end("sub", "a", "--url", f"http://me:s3cret@{at}")
    assert ended.returncode == 1
    assert "s3cret" not in ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr


def test_pub_says_that_standard_input_is_no_utf_8() -> None:
    command = [str(TIDEGATE), "pub", "a", "-", "--text", "--url", "http://127.0.0.1:1"]
    ended = subprocess.run(command, input=b"\xff", capture_output=True, timeout=30)
    assert (ended.returncode, ended.stderr) == (1, b"tidegate: DATA is no UTF-8 text\n")


def test_explain_says_what_comes_out() -> None:
    config = ("-c", ROOT / "config.yaml")
    ended = run_to_the_end("routes", "explain", "sensors/oslo/fan-4/power", *config)
    assert "sites/oslo/fan-4/power" in ended.stdout
    assert "routes[0]" in ended.stdout
    ended = run_to_the_end("routes", "explain", "sites/oslo/fan-4/commands", *config)
    assert "commands/oslo/fan-4" in ended.stdout
    assert "answers on commands/{site}/{device}/reply" in ended.stdout


def test_explain_takes_topics_of_the_broker_itself(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text('routes: [{topic: "$SYS/broker/{name}", room: "broker/{name}"}]\n')
    ended = run_to_the_end("routes", "explain", "$SYS/broker/uptime", "-c", config)
    assert "broker/uptime" in ended.stdout


def test_sub_and_pub_talk_to_a_running_gateway(gateway: GatewayProcess, tmp_path: Path) -> None:
    command: list[str | Path] = [TIDEGATE, "sub", "chat/#", "--count", "2", "--url", gateway.url]
    with Running(command, tmp_path / "sub.log") as subscriber:
        subscribed = 'tidegate_sessions{namespace="default",transport="websocket"} 1.0'
        wait_until(lambda: subscribed in httpx.get(f"{gateway.url}/metrics").text, "sub is connected")
        for data, options in (('{"a": 1}', []), ("plain words", ["--text"])):
            ended = run_to_the_end("pub", "chat/x", data, "--url", gateway.url, *options)
            assert (ended.returncode, ended.stderr) == (0, "")
        assert subscriber.wait() == 0
        assert [json.loads(line)["data"] for line in subscriber.text.splitlines()] == [{"a": 1}, "plain words"]
    ended = run_to_the_end("pub", "raw/x", "1", "--url", gateway.url)
    assert ended.returncode == 1
    assert "read_only" in ended.stderr


def test_the_version_is_told() -> None:
    assert run_to_the_end("--version").stdout.startswith("tidegate 0.")


def test_module_and_command_are_the_same_program() -> None:
    command = [sys.executable, "-m", "gateway", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith("tidegate ")


def handles(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler of its own for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> (number - 1) & 1)


@pytest.mark.parametrize("command", [["run", "--demo"], ["demo", "--port", "1"], ["sub", "a", "--url", "ws://[::1]:1"]])
def test_ctrl_c_ends_it_in_good_order_whenever_it_comes(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "config.yaml").write_text("listen: {port: 0}\nbroker: {port: 0}\n")
    for moment in range(10):
        with Running([TIDEGATE, *command], tmp_path / f"{moment}.log", cwd=tmp_path) as program:
            wait_until(lambda: handles(program.process.pid, signal.SIGTERM), "Python has started")
            time.sleep(moment * 0.06)  # any moment will do
            program.send_signal(signal.SIGINT)
            code = program.wait(5)
            assert code == 0 or "no gateway answers" in program.text, program.text
            assert "Traceback" not in program.text
            assert "Aborted" not in program.text


def test_ctrl_c_again_and_again_changes_nothing(tmp_path: Path) -> None:
    for pause in (0.0, 0.01, 0.1):
        with GatewayProcess(tmp_path / f"gateway-{pause}", embedded(), "--demo") as gateway:
            while gateway.process.poll() is None:
                gateway.send_signal(signal.SIGINT)
                time.sleep(pause)
            assert gateway.wait() == 0
            assert "Traceback" not in gateway.text


def test_it_ends_although_its_broker_froze(tmp_path: Path, broker: Mosquitto) -> None:
    with GatewayProcess(tmp_path / "gateway", configuration(broker.port)) as gateway:
        gateway.wait_until_ready()
        broker.send_signal(signal.SIGSTOP)
        started = time.monotonic()
        gateway.send_signal(signal.SIGINT)
        assert gateway.wait(5) == 0
        print(f"ended in {time.monotonic() - started:.2f} s")
    broker.send_signal(signal.SIGCONT)


def test_the_demo_ends_in_good_order_on_sigterm(tmp_path: Path, broker: Mosquitto) -> None:
    with Running([TIDEGATE, "demo", "--port", str(broker.port)], tmp_path / "demo.log") as demo:
        wait_until(lambda: "commands/" in broker.text, "the devices are there")
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(5) == 0
    assert "Traceback" not in demo.text


def test_sub_asks_for_all_its_rooms_in_one_message(tmp_path: Path) -> None:
    limits = {"messages_per_second": 5, "messages_burst": 2, "refusals": 1}
    with GatewayProcess(tmp_path / "gateway", {**embedded(), "limits": limits}) as gateway:
        rooms = [f"r{number}" for number in range(60)]
        command: list[str | Path] = [TIDEGATE, "sub", *rooms, "r0", "--count", "1", "--url", gateway.url]
        with Running(command, tmp_path / "sub.log") as subscriber:
            url = f"{gateway.url}/metrics"
            wait_until(lambda: 'transport="websocket"} 1.0' in httpx.get(url).text, "the subscriber is there")

            def hears() -> str:
                httpx.post(f"{gateway.url}/publish?room=r59", json=1)
                return subscriber.text

            wait_until(hears, "it hears")
            assert subscriber.wait() == 0
            assert json.loads(subscriber.text.splitlines()[0])["room"] == "r59"
