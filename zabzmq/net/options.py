"""What every socket is set to, and why (PROTOCOL 7.5)."""

from __future__ import annotations

from typing import Final, TypeAlias

import zmq

from zabzmq.net.wire import FRAME_BYTES_MAX

Options: TypeAlias = dict[int, int]

_ALL: Final[Options] = {
    zmq.LINGER: 0,
    zmq.MAXMSGSIZE: FRAME_BYTES_MAX,
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 1,
    zmq.TCP_KEEPALIVE_INTVL: 1,
    zmq.TCP_KEEPALIVE_CNT: 3,
    zmq.TCP_MAXRT: 2000,
}
_CONNECT: Final[Options] = {
    zmq.CONNECT_TIMEOUT: 300,
    zmq.HANDSHAKE_IVL: 300,
    zmq.HEARTBEAT_IVL: 1000,
    zmq.HEARTBEAT_TIMEOUT: 1000,
    # Twice the interval: at the interval itself the other end hangs up whenever a ping is a moment late, which on
    # an idle mesh was every second or so (measured).
    zmq.HEARTBEAT_TTL: 2000,
}
_RECONNECT: Final[Options] = {zmq.RECONNECT_IVL: 20, zmq.RECONNECT_IVL_MAX: 500}
_ROUTER: Final[Options] = {zmq.ROUTER_MANDATORY: 1, zmq.ROUTER_HANDOVER: 1, zmq.HANDSHAKE_IVL: 300}

PEER_ROUTER: Final[Options] = {**_ALL, **_ROUTER, zmq.SNDHWM: 10000, zmq.RCVHWM: 10000}
CLIENT_ROUTER: Final[Options] = {**_ALL, **_ROUTER, zmq.SNDHWM: 10000, zmq.RCVHWM: 1000}
PUBLISHER: Final[Options] = {**_ALL, zmq.SNDHWM: 1000, zmq.MAXMSGSIZE: 1024}  # it is sent subscriptions only
SUBSCRIBER: Final[Options] = {**_ALL, **_CONNECT, **_RECONNECT, zmq.RCVHWM: 1000}
MESH_DEALER: Final[Options] = {**_ALL, **_CONNECT, **_RECONNECT, zmq.IMMEDIATE: 1, zmq.SNDHWM: 100, zmq.RCVHWM: 100}
LINK_DEALER: Final[Options] = {
    **_ALL,
    **_CONNECT,
    zmq.RECONNECT_IVL: -1,
    zmq.IMMEDIATE: 1,
    zmq.SNDHWM: 10000,
    zmq.RCVHWM: 10000,
}
