"""What differs between two configurations, and what of it can take effect while the gateway runs.

Only keys are named here, never values: they may be secrets.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from gateway.config.identity import IdentitySettings
from gateway.config.problems import Keys
from gateway.config.settings import Settings
from gateway.config.shape import fields_of

__all__ = ["changed_keys", "opens", "takes_effect", "with_rules_of"]


def changed_keys(before: Settings, after: Settings) -> list[Keys]:
    """The keys whose values differ; of lists, too, unless they are sections, as many as before."""
    return list(_differences(before, after, ()))


def _differences(before: Any, after: Any, keys: Keys) -> Iterator[Keys]:
    if before == after:
        return
    inner: Mapping[Any, tuple[Any, Any]]
    match before, after:
        case BaseModel(), BaseModel() if type(before) is type(after):
            names = {key: name for name, field in type(before).model_fields.items() for key in [field.alias or name]}
            inner = {key: (getattr(before, name), getattr(after, name)) for key, name in names.items()}
        case dict(), dict():
            inner = {key: (before.get(key), after.get(key)) for key in {**before, **after}}
        case tuple(), tuple() if len(before) == len(after) and all(isinstance(item, BaseModel) for item in before):
            inner = dict(enumerate(zip(before, after, strict=True)))
        case _:
            yield keys
            return
    for key, (old, new) in inner.items():
        yield from _differences(old, new, (*keys, key))


def takes_effect(keys: Keys) -> bool:
    """Whether a change there takes effect without a restart: who clients are, what they may do, which pages may ask."""
    if keys[0] == "namespaces":
        return keys[2:3] == ("access",)
    return keys[0] in ("identity", "access", "origins", "hosts")


def with_rules_of(running: Settings, newer: Settings) -> Settings:
    """What runs, but for what `takes_effect` of a newer configuration."""
    namespaces = {
        name: namespace.model_copy(update={"access": newer.namespaces[name].access})
        if name in newer.namespaces
        else namespace
        for name, namespace in running.namespaces.items()
    }
    taken = {key: getattr(newer, key) for key in fields_of(Settings) if takes_effect((key,))}
    taken["identity"] = _with_key_set_of(running.identity, newer.identity)
    return running.model_copy(update={**taken, "namespaces": namespaces})


def _with_key_set_of(running: IdentitySettings, newer: IdentitySettings) -> IdentitySettings:
    """A newer identity; but its JSON Web Tokens are those that run if keys are to be fetched otherwise."""
    if newer.jwt.key_set == running.jwt.key_set:
        return newer
    return newer.model_copy(update={"jwt": running.jwt})


def opens(before: Settings, after: Settings) -> str | None:
    """Why a change must not take effect by itself: it would let in everybody, as a file does that lost its end."""
    if before.identity.asks and not after.identity.asks:
        return "expected a way for clients to show who they are, as before: to do without any, restart the gateway"
    if before.has_rules and not after.has_rules:
        return "expected `identity` or `access`, as before: to open everything to everybody, restart the gateway"
    return None
