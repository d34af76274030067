"""Who clients are and what they may do: the keys of `identity` and `access`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from pydantic import model_validator

from gateway.config import values
from gateway.config.section import Section
from gateway.config.users import UsersFromFile, session_keys
from gateway.core.access import AccessRule, Action

__all__ = ["AccessRuleSettings", "AnonymousSettings", "ApiTokenSettings", "IdentitySettings", "JwtSettings"]

SESSION_SECRET_LENGTH: Final = 32
SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
"""The shortest secret for each algorithm (RFC 7518 §3.2)."""


class AnonymousSettings(Section):
    """Those who show nothing that says who they are."""

    roles: tuple[values.Role, ...] = ()
    """Their roles. With none, they are turned away as soon as `jwt`, `tokens` or `users_file` are there."""


class JwtSettings(Section):
    """JSON Web Tokens (RFC 7519) that somebody else makes, and signs with a key that the gateway knows."""

    algorithms: tuple[values.JwtAlgorithm, ...] = ()
    """The algorithms that are accepted, no others: `HS256`, `HS384`, `HS512`; or `RS256`, `ES256`, `EdDSA`."""
    secret_file: values.SecretFromFile | None = None
    """For `HS…`: a file with the secret; one newline at its end is left out."""
    public_key_file: values.SecretFromFile | None = None
    """For the others: a file with the public key (PEM)."""
    jwks_url: values.JwksUrl | None = None
    """Instead: where an identity provider publishes its keys (RFC 7517): `https://…`, or on the loopback."""
    jwks_ca_file: values.ReadableFile | None = None
    """The certificate authorities to trust there (PEM) instead of the system's."""
    jwks_refresh_seconds: values.Seconds = 600
    """How often the keys are fetched anew; a key that was withdrawn holds for so long at most."""
    jwks_cooldown_seconds: values.Seconds = 10
    """How often at most, though tokens with an unknown key come, or the last time failed."""
    audience: values.Text | None = None
    """What `aud` must name; with none, tokens with an `aud` are refused."""
    issuer: values.Text | None = None
    """What `iss` must be; with none, anything."""
    leeway_seconds: values.LeewaySeconds = 0
    """By how much clocks may differ, for `exp` and `nbf`. `exp` is required."""
    user_claim: values.Text = "sub"
    """The claim that is the user's name."""
    roles_claim: values.Text = "roles"
    """The claim that lists the roles."""

    @model_validator(mode="after")
    def _check_key(self) -> Self:
        shared = [algorithm for algorithm in self.algorithms if algorithm in SECRET_BYTES]
        if shared and len(shared) < len(self.algorithms):
            raise ValueError("algorithms: expected either HS… with a secret, or others with a public key, found both")
        if self.algorithms:
            self._check_source(shared)
        elif self._sources():
            raise ValueError("algorithms: missing: expected such as `algorithms: [HS256]`")
        least = max((SECRET_BYTES[algorithm] for algorithm in shared), default=0)
        if len(self.key()) < least:
            raise ValueError(f"secret_file: expected at least {least} bytes for {shared[0]} (RFC 7518 §3.2)")
        if self.public_key_file is not None:
            self._check_public_key()
        self._check_jwks()
        return self

    def _sources(self) -> list[str]:
        """The keys that say where the key is; one of them is to be there."""
        return [name for name in ("secret_file", "public_key_file", "jwks_url") if getattr(self, name) is not None]

    def _check_source(self, shared: Sequence[str]) -> None:
        wanted = ["secret_file"] if shared else ["public_key_file", "jwks_url"]
        found = self._sources()
        if len(found) != 1 or found[0] not in wanted:
            names = " or ".join(f"`{name}`" for name in wanted)
            told = " and ".join(f"`{name}`" for name in found) or "none"
            raise ValueError(f"expected {names}, and nothing else, for {self.algorithms[0]}, found {told}")

    def _check_jwks(self) -> None:
        if self.jwks_ca_file is not None and not (self.jwks_url or "").startswith("https:"):
            raise ValueError("jwks_ca_file: expected it only with an https:// address in `jwks_url`")
        if self.jwks_refresh_seconds < self.jwks_cooldown_seconds:
            raise ValueError(
                f"jwks_refresh_seconds: expected at least `jwks_cooldown_seconds` ({self.jwks_cooldown_seconds:g})"
            )

    def _check_public_key(self) -> None:
        from bridges.jwt import UnfitKey, check_public_key  # slow to import, and most configurations don't need it

        try:
            check_public_key(self.key(), self.algorithms)
        except UnfitKey as error:
            raise ValueError(f"public_key_file: {error}") from None

    @property
    def key_set(self) -> tuple[object, ...] | None:
        """How an identity provider's keys are fetched, if they are: a change takes a restart."""
        if self.jwks_url is None:
            return None
        how = (self.jwks_url, self.jwks_ca_file, self.jwks_refresh_seconds, self.jwks_cooldown_seconds)
        return (*how, self.algorithms)

    def key(self) -> bytes:
        """The secret or the public key; the file was read when the configuration was."""
        file = self.secret_file or self.public_key_file
        return b"" if file is None else file.password.get_secret_value().encode()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that it was read from."""
        return tuple(file.path for file in (self.secret_file, self.public_key_file) if file is not None)


class ApiTokenSettings(Section):
    """A token for a program, as `tidegate token make` makes them. The gateway knows only its hash."""

    name: values.Text
    """The program's name: its user."""
    sha256: values.Sha256
    """The token's SHA-256, in hexadecimal digits."""
    roles: tuple[values.Role, ...] = ()
    """Its roles."""


class IdentitySettings(Section):
    """How clients say who they are. Without any of it, everybody is anonymous."""

    anonymous: AnonymousSettings = AnonymousSettings()
    """Those who show nothing."""
    jwt: JwtSettings = JwtSettings()
    """JSON Web Tokens."""
    tokens: tuple[ApiTokenSettings, ...] = ()
    """API tokens: a list."""
    ticket_seconds: values.TicketSeconds = 30
    """How long a ticket of `POST /ticket` may be used, once."""
    ticket_bound_to_address: values.Flag = False
    """Whether a ticket lets in only from the address that fetched it, of IPv6 from the same /64."""
    users_file: UsersFromFile | None = None
    """A file with users and their passwords' hashes, which `tidegate user` writes; they log in by `POST /login`."""
    session_secret_file: values.SecretFromFile | None = None
    """What signs session cookies: at least 32 characters on each line, the newest last. Without, random."""
    session_seconds: values.SessionSeconds = 28_800
    """How long a login lasts without being used."""
    session_max_seconds: values.SessionSeconds = 604_800
    """How long a login lasts however much it is used."""

    @model_validator(mode="after")
    def _check_tokens(self) -> Self:
        for what in ("name", "sha256"):
            found = [getattr(token, what) for token in self.tokens]
            if len(found) > len(set(found)):
                raise ValueError(f"tokens: expected each `{what}` once")
        return self

    @model_validator(mode="after")
    def _check_sessions(self) -> Self:
        if self.session_max_seconds < self.session_seconds:
            raise ValueError("session_max_seconds: expected at least as many as `session_seconds`")
        file = self.session_secret_file
        if file is not None and min(map(len, self.session_keys()), default=0) < SESSION_SECRET_LENGTH:
            raise ValueError(f"session_secret_file: expected at least {SESSION_SECRET_LENGTH} characters on each line")
        return self

    def session_keys(self) -> tuple[str, ...]:
        """What signs cookies, the newest last; none if that is to be random."""
        file = self.session_secret_file
        return () if file is None else session_keys(file.password.get_secret_value())

    @property
    def files(self) -> tuple[Path, ...]:
        """The files besides the configuration's own that say who is let in: a change of one is a change of it."""
        users = () if self.users_file is None else (self.users_file.path,)
        secrets = () if self.session_secret_file is None else (self.session_secret_file.path,)
        return (*self.jwt.files, *users, *secrets)

    @property
    def asks(self) -> bool:
        """Whether clients can show who they are."""
        return bool(self.jwt.algorithms or self.tokens or self.users_file is not None)

    @property
    def is_configured(self) -> bool:
        """Whether there is anything of it."""
        return self.asks or bool(self.anonymous.roles)


class AccessRuleSettings(Section):
    """A rule; what any rule allows is allowed. Filters are rooms with `+`, `#`, `{user}` and `{claims.name}`."""

    roles: tuple[values.Role, ...]
    """Whom it is about: who has one of these roles; `*` stands for everybody who is let in."""
    subscribe: tuple[values.AccessFilter, ...] = ()
    """Rooms whose messages they may get, with what they missed."""
    publish: tuple[values.AccessFilter, ...] = ()
    """Rooms that they may send into."""
    request: tuple[values.AccessFilter, ...] = ()
    """Rooms whose devices they may ask."""
    presence: tuple[values.AccessFilter, ...] = ()
    """Rooms of which they may know who is there, and be shown there."""
    history: tuple[values.AccessFilter, ...] | None = None
    """Rooms of which they may ask for `/history` and `/last`; with none, those of `subscribe`."""

    def rule(self) -> AccessRule:
        """As the core takes it."""
        allows = {action: getattr(self, action.value) for action in Action}
        if self.history is None:
            allows[Action.HISTORY] = self.subscribe
        return AccessRule(frozenset(self.roles), allows)
