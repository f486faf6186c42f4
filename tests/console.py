"""The console script, as a process of its own; at its end it writes the names of all modules to $LOADED_MODULES."""

import atexit
import os
import sys
from pathlib import Path

from veriquant.cli.main import main

if __name__ == "__main__":
    if where := os.environ.get("LOADED_MODULES"):
        atexit.register(lambda: Path(where).write_text("\n".join(sys.modules)))
    main()
