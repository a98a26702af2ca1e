"""What it costs; `README.md` tells the story."""

import service  # noqa: F401 - before NumPy: it chooses what NumPy uses of the processor
