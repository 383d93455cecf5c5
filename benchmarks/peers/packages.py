"""The peers' programs, fetched into a directory of the user's; nothing is installed into the system.

Debian packages are downloaded and unpacked (not installed) below `root`, a Python package goes to `python`. Java is not
fetched: it must be there. What cannot be had is a peer less to compare with, not an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.measure import Trouble

DEBIAN: Final[dict[str, tuple[str, ...]]] = {
    "ZooKeeper": (
        "zookeeper",
        "libzookeeper-java",
        "libcommons-cli-java",
        "libcommons-io-java",
        "libdropwizard-metrics-java",
        "libjackson2-annotations-java",
        "libjackson2-core-java",
        "libjackson2-databind-java",
        "libjetty9-java",
        "liblog4j1.2-java",
        "libnetty-java",
        "libservlet-api-java",
        "libslf4j-java",
        "libsnappy-java",
    ),
    "etcd": ("etcd-server", "nghttp2-client", "libnghttp2-14", "libc-ares2", "libev4", "libjemalloc2"),
    "NATS": ("nats-server",),
}
"""What each peer is made of. nghttp2-client is h2load, which drives etcd."""

JARS: Final = (
    "zookeeper",
    "zookeeper-jute",
    "slf4j-api",
    "slf4j-log4j12",
    "log4j-1.2",
    "commons-cli",
    "commons-io",
    "metrics-core",
    "jackson-annotations",
    "jackson-core",
    "jackson-databind",
    "jetty9-http",
    "jetty9-io",
    "jetty9-security",
    "jetty9-server",
    "jetty9-servlet",
    "jetty9-util",
    "netty-all",
    "servlet-api",
    "snappy-java",
)

PYPI: Final = "pysyncobj==0.3.17"


class Packages:
    """What is there, below `directory`; `install` fetches what is not."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.root = self.directory / "root"
        self.python = self.directory / "python"

    def install(self) -> Iterator[str]:
        """Fetch what is missing; one line for each step and each failure."""
        yield f"peers go to {self.directory}, and nowhere else:"
        for peer, names in DEBIAN.items():
            yield f"  {peer}: Debian packages {', '.join(names)}, downloaded and unpacked, not installed"
            missing = [name for name in names if self.debian_version(name) is None]
            if missing:
                yield from self._unpack(peer, missing)
        yield f"  PySyncObj: {PYPI} from the Python package index"
        if not (self.python / "pysyncobj").exists():
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
            done = _run([*pip, "--target", str(self.python), PYPI], self.directory)
            if done.returncode:
                yield f"    not there: {_last_line(done)}"

    def _unpack(self, peer: str, names: list[str]) -> Iterator[str]:
        debs = self.directory / "debs"
        debs.mkdir(parents=True, exist_ok=True)
        if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            yield f"    {peer} is not fetched: apt-get and dpkg-deb are needed for that"
            return
        done = _run(["apt-get", "download", *names], debs)
        if done.returncode:
            yield f"    {peer} is not there: {_last_line(done)}"
            return
        for name in names:
            (deb,) = debs.glob(f"{name}_*.deb")
            _run(["dpkg-deb", "-x", str(deb), str(self.root)], debs)

    # ---- what is there -------------------------------------------------------------------------------------------

    def debian_version(self, name: str) -> str | None:
        """Of a package that was fetched: its version."""
        for deb in sorted((self.directory / "debs").glob(f"{name}_*.deb")):
            return deb.name.split("_")[1].replace("%3a", ":")
        return None

    def program(self, name: str) -> str:
        """The path of a program, fetched or of the system."""
        for place in ("usr/bin", "usr/sbin"):
            path = self.root / place / name
            if path.exists():
                return str(path)
        if found := shutil.which(name):
            return found
        raise Trouble(f"{name} is not there; `make bench-peers` fetches it")

    def environment(self) -> dict[str, str]:
        """So that fetched programs find fetched libraries."""
        libraries = [str(path) for path in (self.root / "usr" / "lib").glob("*-linux-gnu")]
        return {"LD_LIBRARY_PATH": os.pathsep.join(libraries)} if libraries else {}

    def class_path(self) -> str:
        """What ZooKeeper's server needs of Java, fetched or of the system."""
        places = (self.root / "usr/share/java", Path("/usr/share/java"))
        found = {name: path for name in JARS for place in places if (path := place / f"{name}.jar").exists()}
        if missing := sorted(set(JARS) - set(found)):
            raise Trouble(f"ZooKeeper is not there, `make bench-peers` fetches it (missing: {', '.join(missing)})")
        return os.pathsep.join(map(str, found.values()))


def _run(command: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    directory.mkdir(parents=True, exist_ok=True)
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"{done.args[0]} ended with {done.returncode}"
