#!/usr/bin/env python3
"""The client: plays, reads, measures, watches. Everything is in zabzmq/cli/client.py."""

from zabzmq.cli.client import main

if __name__ == "__main__":
    main()
