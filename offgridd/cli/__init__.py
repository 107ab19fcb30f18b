"""offgrid: an HTTP client of the daemon. One file a group of commands."""

from offgridd.cli.main import main

__all__ = ["main"]
