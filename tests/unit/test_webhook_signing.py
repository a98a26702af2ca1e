"""What is signed is what the documentation and the reference library verify."""

import base64
import re
import time
from pathlib import Path
from typing import Any

from service.webhooks.signing import new_secret, shown, signatures

DOCUMENT = Path(__file__).parents[2] / "docs" / "webhooks.md"
BODY = b'{"type":"webhook.test"}'


def signed(*secrets: bytes, at: int = 0) -> dict[str, str]:
    """The headers of an event that is sent so many seconds from now."""
    timestamp = int(time.time()) + at
    return {
        "webhook-id": "1f0c8a52",
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signatures(secrets, "1f0c8a52", timestamp, BODY),
    }


def test_the_receiver_of_the_documentation_takes_what_is_signed_and_nothing_else() -> None:
    (code,) = re.findall(r"```python\n(.+?)```", DOCUMENT.read_text(), re.DOTALL)
    secret, other = new_secret(), new_secret()
    names: dict[str, Any] = {}
    exec(code.replace("whsec_…", shown(secret)), names)  # noqa: S102 - it is our own
    event_of = names["event_of"]
    assert event_of(BODY, signed(secret)) == {"type": "webhook.test"}
    assert event_of(BODY, signed(other, secret)) == {"type": "webhook.test"}
    assert event_of(BODY, signed(other)) is None
    assert event_of(BODY + b" ", signed(secret)) is None
    assert event_of(BODY, signed(secret, at=-600)) is None


def test_the_signature_is_that_of_the_specification() -> None:
    # The example that its libraries are tested with.
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    message = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}')
    assert signatures([secret], *message) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
