"""`storewatch serve` that waits for slow clients for a second instead of up to thirty."""

import sys

from service.logs import start_logging
from service.server import run_server
from service.settings import read_settings
from service.web.patience import Patience

if __name__ == "__main__":
    assert sys.argv[1:] == ["serve", "--port", "0"]
    start_logging()
    patience = Patience(
        head_seconds=1, body_seconds=1, write_seconds=1, crowded_seconds=0.8, line_seconds=0.4
    )
    run_server(read_settings(), "127.0.0.1", 0, insecure=False, patience=patience)
