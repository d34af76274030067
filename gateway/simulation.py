"""Twelve devices at three sites, as a pure model: time in, readings out. How they reach a broker is in `demo`.

Values wander around a mean. A device that is switched off drifts to rest; now and then one has trouble, which pushes a
value over its threshold and raises an alarm until it has passed.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Any

import orjson

__all__ = ["Device", "Publication", "make_devices"]

TROUBLE_EVERY_SECONDS = 240.0
"""How often, on average, a device that can raise an alarm has trouble."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How a metric behaves on one device."""

    unit: str
    mean: float
    spread: float
    """How far the value wanders from its mean, about."""
    rest: float | None = None
    """Where it drifts while the device is off; None: the switch makes no difference."""
    threshold: float | None = None
    """Over this, there is an alarm."""
    settle_seconds: float = 12.0


@dataclass(frozen=True, slots=True)
class Publication:
    """What a device wants to publish below its own topics."""

    topic: str
    payload: bytes
    retain: bool = False


@dataclass(slots=True)
class Device:
    """One device: its metrics, its switch if it has one, and its alarm."""

    site: str
    name: str
    kinds: dict[str, Kind]
    random: Random
    switch: bool | None = None
    values: dict[str, float] = field(default_factory=dict)
    _trouble_seconds: float = 0.0
    _alarm: str | None = None

    def __post_init__(self) -> None:
        self.values = {metric: self.random.gauss(kind.mean, kind.spread / 2) for metric, kind in self.kinds.items()}

    @property
    def path(self) -> str:
        """Its place in topics: `site/name`."""
        return f"{self.site}/{self.name}"

    def step(self, elapsed_seconds: float, now: float) -> list[Publication]:
        """Let time pass; the readings, and the alarm if it changed. `now` is the time that readings bear."""
        self._maybe_get_into_trouble(elapsed_seconds)
        readings = []
        for metric, kind in self.kinds.items():
            self.values[metric] = self._wander(metric, kind, elapsed_seconds)
            reading = {"value": round(self.values[metric], 2), "unit": kind.unit, "time": round(now, 3)}
            readings.append(Publication(f"sensors/{self.path}/{metric}", orjson.dumps(reading)))
        return readings + self._check_alarm(now)

    def _wander(self, metric: str, kind: Kind, elapsed_seconds: float) -> float:
        """One step of a mean-reverting walk."""
        goal = kind.mean
        if self.switch is False and kind.rest is not None:
            goal = kind.rest
        elif self._trouble_seconds > 0 and kind.threshold is not None:
            goal = kind.mean + (kind.threshold - kind.mean) * 1.25
        resting = self.switch is False and kind.rest is not None
        share = min(1.0, elapsed_seconds / (kind.settle_seconds / 4 if resting else kind.settle_seconds))
        noise = 0.0 if resting else kind.spread * share**0.5 * self.random.gauss(0, 1)
        return self.values[metric] + (goal - self.values[metric]) * share + noise

    def _maybe_get_into_trouble(self, elapsed_seconds: float) -> None:
        self._trouble_seconds -= elapsed_seconds
        if self._trouble_seconds <= 0 and self.random.random() < elapsed_seconds / TROUBLE_EVERY_SECONDS:
            self._trouble_seconds = self.random.uniform(20, 45)

    def _check_alarm(self, now: float) -> list[Publication]:
        for metric, kind in self.kinds.items():
            if kind.threshold is None:
                continue
            share = (self.values[metric] - kind.mean) / (kind.threshold - kind.mean)
            level = "critical" if share > 1.2 else "warning" if share > 1 else self._alarm if share > 0.8 else None
            if level == self._alarm:
                continue
            self._alarm = level
            text = f"{metric} {self.values[metric]:.1f} {kind.unit}"
            text = f"{text}, over {kind.threshold:g}" if level else f"{text}, normal again"
            alarm = {"active": level is not None, "level": level, "text": text, "time": round(now, 3)}
            return [Publication(f"alarms/{self.path}", orjson.dumps(alarm), retain=True)]
        return []

    def state(self) -> list[Publication]:
        """What is retained, to be published on every connection."""
        status = Publication(f"sensors/{self.path}/status", b'"online"', retain=True)
        return [status, *self._switch_state()]

    def _switch_state(self) -> list[Publication]:
        if self.switch is None:
            return []
        payload = orjson.dumps({"on": self.switch})
        return [Publication(f"sensors/{self.path}/switch", payload, retain=True)]

    def command(self, payload: bytes) -> list[Publication]:
        """Obey `{"switch": true}`; the new state.

        Raises:
            ValueError: it isn't a command for this device.
        """
        try:
            command: Any = orjson.loads(payload)
        except orjson.JSONDecodeError:
            raise ValueError("expected JSON") from None
        wanted = command.get("switch") if isinstance(command, dict) else None
        if not isinstance(wanted, bool) or self.switch is None:
            raise ValueError('expected {"switch": true} or {"switch": false}, of a device with a switch')
        self.switch = wanted
        return self._switch_state()


def make_devices(random: Random) -> list[Device]:
    """The dozen."""
    devices = []
    for site, name, switch, kinds in _DOZEN:
        devices.append(Device(site, name, dict(kinds), Random(random.random()), switch))  # noqa: S311 - weather
    return devices


def _temperature(mean: float, spread: float = 0.5, rest: float | None = None, threshold: float | None = None) -> Kind:
    return Kind("°C", mean, spread, rest, threshold, settle_seconds=20)


def _humidity(mean: float) -> Kind:
    return Kind("%", mean, 1.2, settle_seconds=30)


def _power(mean: float) -> Kind:
    return Kind("W", mean, mean * 0.04, rest=3, settle_seconds=4)


def _vibration(mean: float) -> Kind:
    return Kind("mm/s", mean, mean * 0.09, rest=0.05, threshold=mean * 1.6, settle_seconds=6)


_DOZEN = (
    ("oslo", "boiler-1", True, {"temperature": _temperature(68, 0.7, 21, 82), "power": _power(2400)}),
    ("oslo", "freezer-2", None, {"temperature": _temperature(-19), "humidity": _humidity(38), "power": _power(320)}),
    (
        "oslo",
        "press-3",
        True,
        {"temperature": _temperature(44, 0.6, 22), "power": _power(5200), "vibration": _vibration(4.2)},
    ),
    ("oslo", "fan-4", True, {"power": _power(750), "vibration": _vibration(1.8)}),
    (
        "lyon",
        "dryer-1",
        True,
        {"temperature": _temperature(58, 0.8, 24, 70), "humidity": _humidity(22), "power": _power(3100)},
    ),
    ("lyon", "pump-2", True, {"power": _power(1100), "vibration": _vibration(2.4)}),
    ("lyon", "chiller-3", True, {"temperature": _temperature(6, 0.4, 19), "power": _power(1900)}),
    ("lyon", "hall-4", None, {"temperature": _temperature(21, 0.3), "humidity": _humidity(48)}),
    ("porto", "heater-1", True, {"temperature": _temperature(26, 0.5, 16), "power": _power(1500)}),
    ("porto", "mixer-2", True, {"power": _power(2700), "vibration": _vibration(3.1)}),
    ("porto", "cellar-3", None, {"temperature": _temperature(13, 0.3), "humidity": _humidity(72)}),
    (
        "porto",
        "press-4",
        False,
        {"temperature": _temperature(41, 0.6, 18), "power": _power(4800), "vibration": _vibration(4.0)},
    ),
)
