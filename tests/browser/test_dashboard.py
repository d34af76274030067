"""The dashboard in Debian's Chromium, with everything that `make run` starts behind it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import ARTEFACTS, wait_for
from tests.real import GatewayProcess, configuration, mosquitto

TILE = "[data-testid=tile]"
DEVICE = f"{TILE}[data-device=fan-4]"


def points(page: Page, metric: str) -> int:
    return int(page.locator(f"[data-testid=chart][data-metric={metric}]").get_attribute("data-points") or 0)


def wait_for_points(page: Page, metric: str, at_least: int) -> None:
    wait_for(
        page,
        "([metric, least]) => Number(document.querySelector(`[data-testid=chart][data-metric=${metric}]`)"
        "?.dataset.points) >= least",
        arg=[metric, at_least],
    )


@pytest.mark.parametrize("transport", ["websocket", "sse"])
def test_tiles_show_values_charts_move_and_the_switch_reaches_the_device(
    demo: GatewayProcess, open_page: Callable[..., Page], transport: str
) -> None:
    page = open_page(f"{demo.url}/?transport={transport}")
    expect(page.locator("[data-testid=connection]")).to_have_text("live")
    expect(page.locator("[data-fact=transport]")).to_have_text("SSE" if transport == "sse" else "WebSocket")
    expect(page.locator(TILE)).to_have_count(12)
    value = page.locator(f"{DEVICE} [data-metric=power]")
    expect(value).to_contain_text("W")
    before = value.text_content()
    expect(value).not_to_have_text(before or "")
    expect(page.locator("[data-testid=chart]")).to_have_count(4)
    wait_for_points(page, "power", points(page, "power") + 3)
    wait_for(page, "Number(document.querySelector('[data-testid=rate]').textContent) > 20")

    switch = page.locator(f"{DEVICE} [data-testid=switch]")
    expect(switch).to_have_attribute("aria-checked", "true")
    switch.click()
    expect(switch).to_have_attribute("aria-checked", "false")
    expect(switch).not_to_have_attribute("data-pending", "")  # the device has said so itself
    expect(switch).to_have_text("off")
    wait_for(
        page,  # the device obeys: its power falls
        f"Number.parseFloat(document.querySelector('{DEVICE} [data-metric=power]').textContent) < 100",
    )
    switch.click()
    expect(switch).to_have_text("on")


def test_it_fills_at_once_from_last_values(
    broker_only: GatewayProcess, open_page: Callable[..., Page], publish: Callable[[str, str], None]
) -> None:
    publish("sensors/oslo/fan-4/power", '{"value": 750, "unit": "W"}')
    page = open_page(broker_only.url)
    expect(page.locator(f"{DEVICE} [data-metric=power]")).to_have_text("750W")


@pytest.mark.parametrize("transport", ["websocket", "sse"])
def test_it_says_that_it_reconnects_and_recovers_when_the_gateway_restarts(
    tmp_path: Path, demo_config: dict[str, Any], open_page: Callable[..., Page], transport: str
) -> None:
    with GatewayProcess(tmp_path / "first", demo_config, "--demo") as first:
        port = first.port
        page = open_page(f"{first.url}/?transport={transport}")
        expect(page.locator(TILE)).to_have_count(12)
    expect(page.locator("[data-testid=connection]")).to_have_text("reconnecting…")
    expect(page.locator("[data-testid=rate]")).to_have_text("0")
    switch = page.locator(f"{DEVICE} [data-testid=switch]")
    switch.click()
    expect(switch).to_contain_text("no connection" if transport == "websocket" else "connection")
    with GatewayProcess(tmp_path / "second", demo_config, "--demo", port=port):
        expect(page.locator("[data-testid=connection]")).to_have_text("live")
        wait_for(page, "Number(document.querySelector('[data-testid=rate]').textContent) > 20")
        wait_for_points(page, "power", points(page, "power") + 3)


@pytest.mark.parametrize(("name", "width", "scheme"), [("desktop", 1280, "light"), ("phone", 390, "dark")])
def test_it_says_that_the_broker_is_away_and_back(
    tmp_path: Path, demo_config: dict[str, Any], open_page: Callable[..., Page], name: str, width: int, scheme: str
) -> None:
    with mosquitto(tmp_path) as broker:
        config = configuration(broker.port, routes=demo_config["routes"])
        with GatewayProcess(tmp_path / "gateway", config) as gateway:
            gateway.wait_until_ready()
            page = open_page(gateway.url, width, color_scheme=scheme)
            state = page.locator("[data-testid=connection]")
            expect(state).to_have_text("live")
            broker.kill()
            expect(state).to_have_text("broker away")
            expect(state).to_have_attribute("title", "the gateway can't reach plant")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            ARTEFACTS.mkdir(exist_ok=True)
            page.screenshot(path=ARTEFACTS / f"dashboard-broker-away-{name}.png")
            late = open_page(gateway.url, width)
            expect(late.locator("[data-testid=connection]")).to_have_text("broker away")
            broker.start()
            for each in (page, late):
                expect(each.locator("[data-testid=connection]")).to_have_text("live")


def test_alarms_are_shown_and_go_away(
    broker_only: GatewayProcess, open_page: Callable[..., Page], publish: Callable[[str, str], None]
) -> None:
    page = open_page(broker_only.url)
    expect(page.locator("[data-testid=connection]")).to_have_text("live")
    publish("alarms/oslo/fan-4", '{"active": true, "level": "critical", "text": "vibration 9.9"}')
    expect(page.locator("[data-testid=alarm]")).to_have_text("oslo · fan-4vibration 9.9")
    expect(page.locator(DEVICE)).to_have_attribute("data-alarm", "critical")
    publish("alarms/oslo/fan-4", '{"active": false, "level": null, "text": "normal again"}')
    expect(page.locator("[data-testid=alarm]")).to_have_count(0)


def test_what_a_device_says_is_text_and_never_markup(
    broker_only: GatewayProcess, open_page: Callable[..., Page], publish: Callable[[str, str], None]
) -> None:
    page = open_page(broker_only.url)
    expect(page.locator("[data-testid=connection]")).to_have_text("live")
    evil = "<img src=x onerror=document.title=1>"
    publish(f"sensors/{evil}/{evil}/{evil}", '{"value": 1, "unit": "<b>W</b>"}')
    publish(f"alarms/oslo/{evil}", '{"active": true, "level": "<i>", "text": "<u>x</u>"}')
    publish("sensors/oslo/__proto__/constructor", '{"value": 1, "unit": "x"}')
    publish("sensors/oslo/fan-4/power", '{"value": "NaN", "unit": {}}')
    publish("sensors/oslo/fan-4/power", "[1, 2]")
    publish("sensors/oslo/fan-4/power", '{"value": 5, "unit": "W"}')
    expect(page.locator(f"{DEVICE} [data-metric=power]")).to_have_text("5.00W")
    expect(page.locator(TILE)).to_have_count(4)
    assert page.locator("main img, main b, main i, main u").count() == 0
    assert page.title() == "Tidegate · live"


@pytest.mark.parametrize(
    ("name", "width", "height", "scheme"),
    [
        ("desktop", 1280, 900, "light"),
        ("desktop-dark", 1280, 900, "dark"),
        ("phone", 390, 844, "light"),
        ("phone-narrow-dark", 360, 740, "dark"),
    ],
)
def test_it_fits_every_screen(
    demo: GatewayProcess, open_page: Callable[..., Page], name: str, width: int, height: int, scheme: str
) -> None:
    page = open_page(demo.url, width, height, color_scheme=scheme, device_scale_factor=2 if width < 500 else 1)
    expect(page.locator(TILE)).to_have_count(12)
    wait_for_points(page, "power", 12)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    clipped = page.evaluate(
        "[...document.querySelectorAll('.tile dd, .tile .switch')].filter(e => {"
        "  const tile = e.closest('.tile').getBoundingClientRect(), box = e.getBoundingClientRect();"
        "  return box.right > tile.right || box.left < tile.left || box.bottom > tile.bottom; }).length"
    )
    assert clipped == 0
    if width < 500:
        for box in [switch.bounding_box() for switch in page.locator("[data-testid=switch]").all()]:
            assert box is not None
            assert box["height"] >= 44
    ARTEFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTEFACTS / f"dashboard-{name}.png")
