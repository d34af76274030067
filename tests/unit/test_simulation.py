import statistics
from random import Random

import orjson
import pytest

from gateway.simulation import Device, Publication, make_devices


def run(devices: list[Device], seconds: float, step_seconds: float = 0.5) -> list[Publication]:
    said = []
    for number in range(int(seconds / step_seconds)):
        for device in devices:
            said += device.step(step_seconds, number * step_seconds)
    return said


def switched(devices: list[Device]) -> Device:
    return next(device for device in devices if device.switch and "vibration" in device.kinds)


def test_there_are_a_dozen_devices_at_three_sites() -> None:
    devices = make_devices(Random(1))
    assert len({device.path for device in devices}) == 12
    assert len({device.site for device in devices}) == 3
    metrics = {metric for device in devices for metric in device.kinds}
    assert metrics == {"temperature", "humidity", "power", "vibration"}


def test_values_wander_around_their_mean() -> None:
    (freezer,) = [device for device in make_devices(Random(2)) if device.name == "freezer-2"]
    values = [
        orjson.loads(said.payload)["value"] for said in run([freezer], 600) if said.topic.endswith("/temperature")
    ]
    assert statistics.mean(values) == pytest.approx(-19, abs=1)
    assert 0.1 < statistics.stdev(values) < 2


def test_a_device_that_is_switched_off_comes_to_rest_and_back() -> None:
    device = switched(make_devices(Random(3)))
    before = device.values["power"]
    (state,) = device.command(b'{"switch": false}')
    assert (orjson.loads(state.payload), state.retain) == ({"on": False}, True)
    run([device], 60)
    assert device.values["power"] == pytest.approx(3, abs=1)
    device.command(b'{"switch": true}')
    run([device], 120)
    assert device.values["power"] == pytest.approx(before, rel=0.5)


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"{}", b'{"switch": 1}', b'"on"'])
def test_a_bad_command_is_refused_and_changes_nothing(payload: bytes) -> None:
    device = switched(make_devices(Random(4)))
    with pytest.raises(ValueError, match="expected"):
        device.command(payload)
    assert device.switch is True


def test_a_device_without_a_switch_refuses_to_be_switched() -> None:
    device = next(device for device in make_devices(Random(5)) if device.switch is None)
    with pytest.raises(ValueError, match="with a switch"):
        device.command(b'{"switch": true}')
    assert [said.topic for said in device.state()] == [f"sensors/{device.path}/status"]


def test_now_and_then_an_alarm_is_raised_and_cleared() -> None:
    alarms = [said for said in run(make_devices(Random(6)), 900) if said.topic.startswith("alarms/")]
    states = [orjson.loads(alarm.payload) for alarm in alarms]
    assert {state["active"] for state in states} == {True, False}
    assert all(alarm.retain for alarm in alarms)
    assert all("over" in state["text"] for state in states if state["active"])
