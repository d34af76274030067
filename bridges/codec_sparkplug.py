"""Sparkplug B (specification 3.0): what nodes and their devices publish below `spBv1.0`, as messages and presence.

A birth certificate says which metrics there are, and by which numbers (aliases) they are called from then on; so what
a data message means depends on it. How values are written is in `codec_sparkplug_values`.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.message import DecodeError

from bridges.codec_sparkplug_schema import make_payload_class
from bridges.codec_sparkplug_values import Values, name_of_type
from bridges.codec_values import check_size, json_text, reason
from gateway.core.codec import Dialect, Part, PayloadError, Told
from gateway.core.counters import Counters
from gateway.core.topics import Capture, Pattern

__all__ = ["MAXIMUM_KNOWN_BYTES", "MAXIMUM_NODES", "SPARKPLUG", "SparkplugListener"]

ROOT: Final = "spBv1.0"
NODE_TYPES: Final = ("NBIRTH", "NDATA", "NDEATH", "NCMD")
DEVICE_TYPES: Final = ("DBIRTH", "DDATA", "DDEATH", "DCMD")
MAXIMUM_METRICS: Final = 5000
"""Metrics of one message."""
MAXIMUM_VALUES: Final = 20_000
"""Values in one message, those in data sets and templates included."""
MAXIMUM_NODES: Final = 10_000
"""Nodes whose state is remembered; beyond, the one that has been silent longest is forgotten."""
MAXIMUM_KNOWN_BYTES: Final = 32 * 1024 * 1024
"""About what the metrics of all nodes may take of memory; beyond, as well."""
MAXIMUM_NODE_BYTES: Final = 4 * 1024 * 1024
"""Those of one node."""
METRIC_BYTES: Final = 200
"""About what one takes besides its name."""
SEQUENCE: Final = 256
"""The `seq` of a node's messages starts again there."""


@dataclass(slots=True)
class _Names:
    """What a birth certificate said of metrics."""

    by_alias: dict[int, str] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    size_bytes: int = 0


@dataclass(slots=True)
class _Node:
    death: int | None = None
    """The `bdSeq` of its birth certificate; its death certificate has the same."""
    next: int | None = None
    """The `seq` that is due."""
    here: bool = False
    devices: dict[str, _Names] = field(default_factory=dict)
    """By their names; the node itself has none."""

    @property
    def size_bytes(self) -> int:
        return sum(METRIC_BYTES + len(name) + each.size_bytes for name, each in self.devices.items())


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a message comes from."""

    upstream: str
    group: str
    type: str
    node: str
    device: str

    @property
    def key(self) -> tuple[str, str, str]:
        return self.upstream, self.group, self.node


class SparkplugListener:
    """The nodes and devices that a namespace hears."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._payload = make_payload_class()
        self._nodes: OrderedDict[tuple[str, str, str], _Node] = OrderedDict()
        self._known_bytes = 0

    def hear(self, upstream: str, topic: str, raw: bytes) -> Told | None:
        """What a message says. Commands say nothing, and neither does the death of who was born again since.

        Raises:
            PayloadError: it is no payload of Sparkplug B, or of more than is remembered.
        """
        place = _place(upstream, topic)
        if place is None:
            return None
        if place.type.endswith("CMD"):
            self._counters.drops["sparkplug_command"] += 1
            return None
        payload = self._parse(raw)
        node = self._nodes.get(place.key)
        if place.type == "NDEATH":
            return self._death_of_node(place, node, payload)
        if node is None:
            node = self._nodes[place.key] = _Node()
        self._nodes.move_to_end(place.key)
        self._follow(place, node, payload)
        gone: tuple[str, ...] = ()
        if place.type == "NBIRTH":
            gone = self._begin(place, node, _death(payload))
        if place.type.endswith("BIRTH"):
            self._learn(place, node, payload)
        elif place.type == "DDEATH":
            self._forget_device(node, place.device)
            gone = (_topic(place.key, place.device),)
        born = place.type.endswith("BIRTH") and place.device in node.devices
        here = (_topic(place.key, place.device),) if born else ()
        gone += self._make_place()
        return self._told(place, payload, node.devices.get(place.device, _Names()), here, gone)

    def _parse(self, raw: bytes) -> Any:
        check_size("Sparkplug B", raw)
        payload = self._payload()
        try:
            payload.ParseFromString(raw)
        except DecodeError as error:
            raise PayloadError(f"expected a payload of Sparkplug B: {reason(error)}") from None
        if len(payload.metrics) > MAXIMUM_METRICS:
            raise PayloadError(f"expected at most {MAXIMUM_METRICS} metrics, found {len(payload.metrics)}")
        return payload

    def _follow(self, place: _Place, node: _Node, payload: Any) -> None:
        """Count where messages are missing: all of a node and its devices share one sequence."""
        if not payload.HasField("seq"):
            return
        if place.type != "NBIRTH" and node.next is not None and payload.seq != node.next:
            self._counters.drops["sparkplug_gap"] += 1
        node.next = (payload.seq + 1) % SEQUENCE

    def _begin(self, place: _Place, node: _Node, death: int | None) -> tuple[str, ...]:
        """A node is born, or born again; who is gone by that: the devices of a session before."""
        gone: tuple[str, ...] = ()
        if node.here and death != node.death:
            gone = tuple(_topic(place.key, device) for device in node.devices if device)
            for device in tuple(node.devices):
                self._forget_device(node, device)
        node.death, node.here = death, True
        return gone

    def _learn(self, place: _Place, node: _Node, payload: Any) -> None:
        """Remember what a birth certificate says of metrics, if that isn't too much."""
        self._forget_device(node, place.device)
        names = _Names()
        for metric in payload.metrics:
            if not metric.name or not isinstance(metric.name, str):
                continue
            names.types[metric.name] = metric.datatype
            names.size_bytes += METRIC_BYTES + len(metric.name)
            if metric.HasField("alias"):
                names.by_alias[metric.alias] = metric.name
        size_bytes = METRIC_BYTES + len(place.device) + names.size_bytes
        if node.size_bytes + size_bytes > MAXIMUM_NODE_BYTES:
            self._counters.drops["sparkplug_forgotten"] += 1
            return
        node.devices[place.device] = names
        self._known_bytes += size_bytes

    def _forget_device(self, node: _Node, device: str) -> None:
        names = node.devices.pop(device, None)
        if names is not None:
            self._known_bytes -= METRIC_BYTES + len(device) + names.size_bytes

    def _make_place(self) -> tuple[str, ...]:
        """Forget who has been silent longest, as long as too much is remembered; who that is."""
        gone: tuple[str, ...] = ()
        while len(self._nodes) > MAXIMUM_NODES or (self._known_bytes > MAXIMUM_KNOWN_BYTES and len(self._nodes) > 1):
            key, node = self._nodes.popitem(last=False)
            self._known_bytes -= node.size_bytes
            self._counters.drops["sparkplug_forgotten"] += 1
            gone += tuple(_topic(key, device) for device in node.devices)
        return gone

    def _death_of_node(self, place: _Place, node: _Node | None, payload: Any) -> Told | None:
        """A node is gone, and all its devices; not if the certificate is that of a session before this one."""
        death = _death(payload)
        if node is not None and None not in (death, node.death) and death != node.death:
            self._counters.drops["sparkplug_stale_death"] += 1
            return None
        names, gone = _Names(), [_topic(place.key, "")]
        if node is not None:
            gone += [_topic(place.key, device) for device in node.devices if device]
            names = node.devices.get("", names)
            self._known_bytes -= node.size_bytes
            del self._nodes[place.key]
        return self._told(place, payload, names, (), tuple(gone))

    def _told(self, place: _Place, payload: Any, names: _Names, here: tuple[str, ...], gone: tuple[str, ...]) -> Told:
        topic = _topic(place.key, place.device, "DDATA" if place.device else "NDATA")
        try:
            metrics = self._metrics(payload, names)
            parts = tuple(Part(name, json_text(said), "historical" in said) for name, said in metrics)
            return Told(_whole(place, payload, metrics), parts, topic, here, gone)
        except PayloadError as error:
            return Told(here=here, gone=gone, error=error)

    def _metrics(self, payload: Any, names: _Names) -> list[tuple[str, dict[str, Any]]]:
        values, metrics = Values(MAXIMUM_VALUES), []
        for metric in payload.metrics:
            name = metric.name or names.by_alias.get(metric.alias, "")
            if not name:
                self._counters.drops["sparkplug_unknown_alias"] += 1
                continue
            if not isinstance(name, str):  # the library gives bytes where there is no UTF-8
                raise PayloadError("expected UTF-8 in the names of metrics")
            metrics.append((name, _described(metric, metric.datatype or names.types.get(name, 0), values)))
        return metrics


def _whole(place: _Place, payload: Any, metrics: list[tuple[str, dict[str, Any]]]) -> bytes:
    said: dict[str, Any] = {"type": place.type}
    for key in ("timestamp", "seq"):
        if payload.HasField(key):
            said[key] = getattr(payload, key)
    return json_text({**said, "metrics": dict(metrics)})


def _described(metric: Any, datatype: int, values: Values) -> dict[str, Any]:
    said: dict[str, Any] = {"value": values.of_metric(metric, datatype), "datatype": name_of_type(datatype)}
    if metric.HasField("timestamp"):
        said["timestamp"] = metric.timestamp
    for key in ("historical", "transient"):
        if getattr(metric, f"is_{key}"):
            said[key] = True
    if metric.HasField("properties"):
        said["properties"] = values.properties(metric.properties)
    return said


def _death(payload: Any) -> int | None:
    """The `bdSeq` of a certificate."""
    for metric in payload.metrics:
        if metric.name == "bdSeq":
            return int(metric.long_value if metric.HasField("long_value") else metric.int_value)
    return None


def _place(upstream: str, topic: str) -> _Place | None:
    levels = topic.split("/")
    if levels[0] != ROOT or not 4 <= len(levels) <= 5:
        return None
    if levels[2] not in (NODE_TYPES if len(levels) == 4 else DEVICE_TYPES):
        raise PayloadError(
            f"expected {ROOT}/GROUP/TYPE/NODE with {', '.join(NODE_TYPES)}, or with /DEVICE {', '.join(DEVICE_TYPES)}"
        )
    return _Place(upstream, levels[1], levels[2], levels[3], levels[4] if len(levels) == 5 else "")


def _topic(key: tuple[str, str, str], device: str, kind: str | None = None) -> str:
    """The topic of a node's or device's births, which stands for it."""
    _, group, node = key
    return "/".join((ROOT, group, kind or ("DBIRTH" if device else "NBIRTH"), node, *([device] if device else [])))


def _misfit(topic: Pattern) -> str | None:
    levels = topic.levels
    fits = len(levels) in (4, 5) and levels[0] == ROOT and isinstance(levels[2], Capture) and not topic.has_rest
    expected = f"`{ROOT}/{{group}}/{{type}}/{{node}}`, or with `/{{device}}`"
    return None if fits else f"expected as the topic of sparkplug {expected}, found {topic.text!r}"


def _also(topic: Pattern) -> tuple[str, ...]:
    """Devices have no state without their node: its births and deaths are theirs."""
    return ("/".join(topic.filter.split("/")[:4]),) if len(topic.levels) == 5 else ()


SPARKPLUG: Final = Dialect("sparkplug", SparkplugListener, _misfit, _also)
