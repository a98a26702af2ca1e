"""Certificates that a test makes for itself."""

import subprocess
from pathlib import Path


def self_signed(folder: Path, name: str = "stores.example.com") -> tuple[Path, Path]:
    """A certificate for a host name that nobody signed but itself, and its key."""
    made = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"),
            *("-out", made[0], "-keyout", made[1]),
        ],
        check=True,
        capture_output=True,
    )
    return made
