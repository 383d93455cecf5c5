"""CRC-32C is what it says, and comes without a load of other modules."""

from __future__ import annotations

import subprocess
import sys

from zabzmq.checksum import crc32c


def test_it_is_crc_32c() -> None:
    """The check value of the catalogue of CRCs, and two examples of RFC 3720, B.4."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"6789", crc32c(b"12345")) == 0xE3069283


def test_a_node_starts_without_what_the_package_imports_beside_it() -> None:
    code = (
        "import sys, zabzmq.cli.server_node; "
        "print([m for m in ('importlib.metadata', 'argparse', 'email.message') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
