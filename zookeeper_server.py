#!/usr/bin/env python3
"""Runs a node and looks after a cluster; the commands are in zabzmq/cli/server.py."""

from zabzmq.cli.server import main

if __name__ == "__main__":
    main()
