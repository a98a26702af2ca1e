"""Where the program `storewatch` begins.

Each worker process runs the imports of that program, and so imports this and nothing more.
"""


def main() -> None:
    """Run the command that the arguments name."""
    from service.__main__ import main as run

    run()
