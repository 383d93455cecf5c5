#!/usr/bin/env python3
"""The client: plays, reads, measures, watches. Everything is in zabzmq/cli/client.py."""

from zabzmq.cli.start import start

if __name__ == "__main__":
    start("zabzmq.cli.client")
