"""``python -m exai_actors`` is the command line `exai`."""

from __future__ import annotations

from exai_actors.daemon.cli.start import main

if __name__ == "__main__":
    main()
