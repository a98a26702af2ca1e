"""The HTTP server around the application."""

import logging
import sys

import uvicorn

from service.app import create_app
from service.settings import Settings

# Open responses get this long to end when the service is told to stop, seconds.
_GRACE = 3


def run_server(settings: Settings, host: str, port: int) -> None:
    """Serve until a signal; exit status 1 if the service cannot start."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(settings),
            host=host,
            port=port,
            lifespan="on",
            log_config=None,
            timeout_graceful_shutdown=_GRACE,
        )
    )
    server.run()
    if not server.started:
        sys.exit(1)
