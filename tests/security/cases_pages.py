"""What devices could put into the dashboard: text that would be markup, script or style, or keys of every object."""

import json
from collections.abc import Iterator
from typing import Final

from tests.security.case import Case

CATEGORY: Final = "pages"
SHOWN: Final = "nothing runs"
MARKUP: Final[dict[str, str]] = {
    "an image that fails": "<img src=x onerror=pwned=1>",
    "a script": "<script>pwned=1</script>",
    "a drawing that loads": "<svg onload=pwned=1>",
    "an end of the element": '"></span><script>pwned=1</script>',
    "an address of a script": "javascript:pwned=1",
    "a string of a template": "${pwned=1}",
    "braces of a template": "{{constructor.constructor('pwned=1')()}}",
    "a style": "x;background:url(http://127.0.0.2/pwned)",
    "a character entity": "&lt;img src=x onerror=pwned=1&gt;",
    "a frame with a text of its own": "<iframe srcdoc='<script>parent.pwned=1</script>'>",
}
USUAL: Final = {"value": 1, "unit": "W"}
KEYS: Final = ("__proto__", "constructor", "prototype", "toString", "hasOwnProperty")


def _case(name: str, topic: str, data: object) -> Case:
    return Case(name, CATEGORY, ("dashboard",), SHOWN, topic=topic, body=json.dumps(data, ensure_ascii=False).encode())


def _level(text: str) -> str:
    """A text as one level of a topic."""
    return text.replace("/", "⁄")


def _everywhere(what: str, text: str) -> Iterator[Case]:
    """A text in each place where the dashboard shows what devices say."""
    own, level = "sensors/oslo/attacker", _level(text)
    yield _case(f"{what} as a unit", f"{own}/{what}", {"value": 1, "unit": text})
    yield _case(f"{what} as a status", f"{own}/status", text)
    yield _case(f"{what} as a device", f"sensors/oslo/{level}/power", USUAL)
    yield _case(f"{what} as a site and a metric", f"sensors/{level}/a/{level}", USUAL)
    yield _case(f"{what} as an alarm", "alarms/oslo/attacker", {"active": True, "level": text, "text": text})


def _raw(name: str, payload: str, level: str = "power") -> Case:
    topic = f"sensors/oslo/attacker/{level}"
    return Case(name, CATEGORY, ("dashboard",), SHOWN, topic=topic, body=payload.encode())


CASES: Final = (
    *(case for what, text in MARKUP.items() for case in _everywhere(what, text)),
    *(_case(f"`{key}` as site, device and metric", f"sensors/{key}/{key}/{key}", USUAL) for key in KEYS),
    *(_case(f"`{key}` as a status", "sensors/oslo/attacker/status", key) for key in KEYS),
    *(
        _case(f"`{key}` as an alarm", f"alarms/{key}/{key}", {"active": True, "level": key, "text": key})
        for key in KEYS
    ),
    _raw(
        "keys of prototypes in data",
        '{"value":1,"unit":"W","__proto__":{"pwned":1},"constructor":{"prototype":{"pwned":1}}}',
    ),
    _raw("data that makes itself text", '{"value":1,"unit":{"toString":"x","valueOf":1}}', "odd"),
    _raw("a status that is an object", '{"__proto__":{"toString":1}}', "status"),
    _raw("a switch that is an object", '{"on":{"valueOf":1}}', "switch"),
    _raw("data that is null", "null"),
    _raw("a list for an object", '[{"value":1}]'),
    _raw("a value beyond all", '{"value":1e308,"unit":"W"}', "huge"),
    _raw("a value that is a text", '{"value":"1","unit":"W"}', "text"),
    _raw("a unit of 30,000 signs", f'{{"value":1,"unit":"{"W" * 30_000}"}}', "wide"),
)
