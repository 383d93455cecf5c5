"""How commands speak to an observe port or to a supervisor: one request of HTTP, one answer of JSON."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any, Final

from zabzmq.cli import environment
from zabzmq.core.errors import ZabError

LOOPBACK: Final = "127.0.0.1"
CONNECT_S: Final = 1.0
ANSWER_S: Final = 35.0


class NoAnswer(ZabError):
    """Nobody is there, or it does not speak as ours do. `listens`: somebody took the connection."""

    def __init__(self, text: str, listens: bool) -> None:
        super().__init__(text)
        self.listens = listens


def token_in(log_dir: Path) -> str:
    """ZAB_TOKEN, else what the supervisor or the first node left there; empty if there is none to be read."""
    said = environment.token()
    if said:
        return said
    try:
        return (log_dir / "token").read_text("ascii", "replace").strip()
    except OSError:
        return ""


def get(host: str, port: int, path: str, token: str = "", answer_s: float = 3.0) -> dict[str, Any]:
    """The token is needed beyond loopback only. Raises NoAnswer."""
    headers = {"X-Zab-Token": token} if token else {}
    status, said = _ask(host, port, "GET", path, None, headers, answer_s)
    if status != 200:
        raise NoAnswer(f"{host}:{port}{path}: {reason(said)}", True)
    return said


def post(host: str, port: int, path: str, body: Any, token: str) -> tuple[int, dict[str, Any]]:
    """Status and answer. Raises NoAnswer."""
    headers = {"Content-Type": "application/json", "X-Zab-Token": token}
    return _ask(host, port, "POST", path, json.dumps(body).encode(), headers, ANSWER_S)


def reason(said: dict[str, Any]) -> str:
    """Why something was refused, in its words."""
    error = said.get("error")
    return str(error.get("text", error)) if isinstance(error, dict) else "it says nothing"


def hints(said: dict[str, Any], log_dir: Path, who: str) -> tuple[str, ...]:
    """What to look at, where `who` did not take our token."""
    if "X-Zab-Token" not in reason(said):
        return ()
    if environment.token():
        return (f"is ZAB_TOKEN what {who} has in the file token of its log directory?",)
    return (f"is {log_dir} the --log-dir that {who} was started with?",)


def _ask(
    host: str, port: int, method: str, path: str, body: bytes | None, headers: dict[str, str], answer_s: float
) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(host, port, timeout=CONNECT_S)
    listens = False
    try:
        connection.connect()
        listens = True
        connection.sock.settimeout(answer_s)
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        said = json.loads(response.read())
        if not isinstance(said, dict):
            raise ValueError("no object")
        return response.status, said
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NoAnswer(f"{host}:{port} does not answer: {error}", listens) from None
    finally:
        connection.close()
