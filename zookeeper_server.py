#!/usr/bin/env python3
"""Runs a node and looks after a cluster; the commands are in zabzmq/cli/server.py."""

from zabzmq.cli.start import start

if __name__ == "__main__":
    start("zabzmq.cli.server")
