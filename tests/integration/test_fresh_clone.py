"""Both commands of the README, from a fresh clone with a fresh environment, as a newcomer meets them."""

import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from tests.real import free_port, listens, wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clone") / "tidegate"
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True, timeout=60)
    return folder


def environment(**more: str) -> dict[str, str]:
    """That of a new shell: nothing of the environment in which the tests run."""
    dropped = ("VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    path = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if "/.venv/" not in part)
    return {**{key: value for key, value in os.environ.items() if key not in dropped}, "PATH": path, **more}


class Terminal:
    """A terminal in which a command runs, with a Ctrl-C key."""

    def __init__(self, command: list[str], folder: Path, env: dict[str, str]) -> None:
        self.said = b""
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvpe(command[0], command, env)
        os.set_blocking(self._terminal, False)

    def read(self) -> str:
        try:
            while part := os.read(self._terminal, 65536):
                self.said += part
        except OSError:
            pass
        return self.said.decode(errors="replace")

    def press_ctrl_c(self) -> None:
        os.write(self._terminal, b"\x03")

    def exit_code(self) -> int:
        def ended() -> tuple[int, int] | None:
            self.read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            return (pid, status) if pid else None

        _, status = wait_until(ended, f"it ends: {self.read()}")
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(status)


@pytest.mark.timeout(300)
def test_make_run_installs_and_starts_everything_and_ctrl_c_ends_it(clone: Path) -> None:
    port, broker_port = free_port(), free_port()
    env = environment(TIDEGATE_LISTEN__PORT=str(port), TIDEGATE_BROKER__PORT=str(broker_port))
    for attempt in ("first", "second"):
        _start_and_end(clone, env, port, broker_port, attempt)


def _start_and_end(clone: Path, env: dict[str, str], port: int, broker_port: int, attempt: str) -> None:
    started = time.monotonic()
    terminal = Terminal(["make", "run"], clone, env)
    try:
        wait_until(lambda: f"http://localhost:{port}" in terminal.read(), "it prints its address", 150)
        wait_until(lambda: listens(port), "it listens")
        print(f"{attempt} start: {time.monotonic() - started:.1f} s")
        assert f"127.0.0.1:{broker_port}" in terminal.read()
        wait_until(lambda: len(_last_values(port)) > 30, "the devices' values arrive")
        assert "Tidegate" in httpx.get(f"http://127.0.0.1:{port}/").text
    except BaseException:
        os.kill(terminal.pid, signal.SIGKILL)
        raise
    pressed = time.monotonic()
    terminal.press_ctrl_c()
    assert terminal.exit_code() == 0, terminal.read()
    print(f"{attempt} end: {time.monotonic() - pressed:.1f} s")
    assert "Traceback" not in terminal.read()
    assert not listens(port)
    assert not listens(broker_port)


def _last_values(port: int) -> list[object]:
    values: list[object] = httpx.get(f"http://127.0.0.1:{port}/last?room=sites/%23").json()["last"]
    return values


@pytest.mark.timeout(300)
def test_make_test_installs_what_it_needs_and_runs(clone: Path) -> None:
    command = ["make", "test", "TESTS=tests/unit/test_topics.py"]
    ended = subprocess.run(command, cwd=clone, env=environment(), capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    assert "passed" in ended.stdout
    assert "skipped" not in ended.stdout.replace("# skipped 0", "")
