"""Signatures of what browsers keep for the gateway, by itsdangerous: HMAC with SHA-256 under keys of its own."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from itsdangerous import BadData, Signer, URLSafeSerializer

__all__ = ["SignedCookies"]


class SignedCookies:
    """Seals and marks.

    Args:
        keys: What signs, the newest last: that one signs, all of them are accepted.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        how = {"key_derivation": "hmac", "digest_method": sha256}
        self._cookies: URLSafeSerializer = URLSafeSerializer(list(keys), "tidegate session", signer_kwargs=how)
        self._marks = Signer(list(keys), "tidegate csrf", key_derivation="hmac", digest_method=sha256)

    def seal(self, fields: Mapping[str, Any]) -> str:
        """Fields, signed, as text of letters, digits, `.`, `_` and `-`."""
        return self._cookies.dumps(dict(fields))

    def open(self, text: str) -> Mapping[str, Any]:
        """The fields that were sealed.

        Raises:
            ValueError: the text isn't from here.
        """
        try:
            fields: Mapping[str, Any] = self._cookies.loads(text)
        except BadData:
            raise ValueError("not sealed here") from None
        return fields

    def mark(self, text: str) -> str:
        """The signature of a text."""
        return self._marks.get_signature(text).decode()

    def is_mark(self, mark: str, text: str) -> bool:
        """Whether it is the signature of a text, compared in constant time."""
        return self._marks.verify_signature(text, mark)
