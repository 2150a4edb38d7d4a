"""The entry point of the command line: it lets Ctrl-C end the process before it imports the rest.

That takes a tenth of a second, in which Python would answer Ctrl-C with a traceback.
"""

from __future__ import annotations

import signal


def main() -> None:
    """Run `exai`; see ``exai_actors.daemon.cli.main``."""
    # A signal that the caller ignores, as for a job in the background, stays ignored.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from exai_actors.daemon.cli import main as commands

    commands.main()
