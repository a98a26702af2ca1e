"""Secrets, and what they sign, after the Standard Webhooks specification.

Five lines of hmac, so that the package standardwebhooks, which knows no two secrets and takes a
naive time for one in UTC, is for tests alone: there it verifies, written by others, what is signed
here. (It is small, has no dependencies, and had three releases from 2024 to 2026.)
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence

_MARK = "whsec_"
_SECRET_BYTES = 32


def new_secret() -> bytes:
    """A secret that nobody can guess."""
    return secrets.token_bytes(_SECRET_BYTES)


def shown(secret: bytes) -> str:
    """A secret as receivers configure it."""
    return _MARK + base64.b64encode(secret).decode()


def signatures(secrets_: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: one by each secret.

    Args:
        secrets_: those that are valid
        message_id: the header `webhook-id`
        timestamp: the header `webhook-timestamp`, seconds since 1970-01-01 UTC
        body: what is sent
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    digests = (hmac.digest(secret, signed, hashlib.sha256) for secret in secrets_)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)
