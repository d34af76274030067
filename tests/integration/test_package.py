"""The package as `pip install .` makes it: the command works, and the pages are in it."""

import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
import pytest

from tests.real import Running, wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        folder,
        ROOT,
    ]
    subprocess.run(command, check=True, timeout=100)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_program_the_pages_and_the_licences(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in [
        "gateway/app.py",
        "bridges/mqtt.py",
        "gateway/web/index.html",
        "gateway/web/tidegate.js",
        "gateway/web/vendor/uplot/uPlot.esm.js",
        "gateway/web/vendor/uplot/LICENSE",
        "gateway/py.typed",
    ]:
        assert wanted in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith("tests")]
    (entry_points,) = [name for name in names if name.endswith("entry_points.txt")]
    assert b"tidegate = gateway.__main__:main" in zipfile.ZipFile(wheel).read(entry_points)


def test_the_installed_program_serves_its_own_pages(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "config.yaml").write_text("listen: {port: 0}\nbroker: {port: 0}\n")
    command = [sys.executable, "-m", "gateway", "run"]
    environment = {"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"}
    with Running([*command], tmp_path / "log", cwd=tmp_path, env=environment) as running:
        port = wait_until(
            lambda: running.text.partition("dashboard  http://localhost:")[2].partition("\n")[0],
            f"it says its port: {running.text}",
        )
        page = httpx.get(f"http://127.0.0.1:{port}/")
        assert "Tidegate" in page.text
        assert "connect" in httpx.get(f"http://127.0.0.1:{port}/tidegate.js").text
        assert wait_until(lambda: httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200, "it is ready")
        maps = Path(f"/proc/{running.process.pid}/cwd").resolve()
        assert maps == tmp_path
