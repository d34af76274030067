"""What the rules of access say to a question on the command line, in words."""

from collections.abc import Sequence

from gateway.config import Settings
from gateway.core.access import Action
from gateway.core.identity import Identity

__all__ = ["explain_access", "known_identity"]


def known_identity(settings: Settings, user: str | None) -> Identity | None:
    """Who logs in by this name, with the roles and claims of the users file; None if it names nobody so."""
    file = settings.identity.users_file
    known = None if file is None or user is None else file.users.get(user)
    return None if known is None else Identity(known.name, known.roles, known.claims)


def explain_access(settings: Settings, namespace: str, identity: Identity, room: str) -> Sequence[str]:
    """A line for each action: which rule decides that it is allowed, or that none does."""
    grants = settings.access_of(namespace).of(identity)
    where = "access" if namespace in settings.namespace_names()[:1] else f"namespaces.{namespace}.access"
    lines = []
    for action in Action:
        decisions = grants.decisions(action, room)
        if decisions:
            reason = "; ".join(f"{where}[{each.rule}]: {each.filter}" for each in decisions)
        else:
            reason = "all is open: neither identity nor access is configured"
            if not grants.allows(action, room):
                reason = "no rule covers all of it"
        lines.append(f"{action.value:<9}  {'yes' if grants.allows(action, room) else 'no ':<3}  {reason}")
    return lines
