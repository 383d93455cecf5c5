"""A node's state as Prometheus reads it, on its own client library."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

STATES = ("LOOKING", "FOLLOWING", "LEADING", "FAILED")
PHASES = ("QUIESCE", "ELECTION", "DISCOVERY", "SYNCHRONIZATION", "BROADCAST")

_PLACES = {
    "proposed": "the end of the log, on disk or on its way there",
    "last": "the end of the log on disk",
    "committed": "what is known to be committed",
    "applied": "what the state machines have taken in",
    "snapshot": "the newest snapshot",
    "base": "just before the oldest operation kept in the log",
}
_NUMBERS = {
    "epoch": "currentEpoch, or that of the present leadership",
    "accepted_epoch": "acceptedEpoch: the newest promise",
    "round": "round of the election",
    "sessions": "sessions of clients",
    "observers": "event streams open now",
}


class _Collector(Collector):
    def __init__(self, state: Mapping[str, Any]) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        state = self._state
        about = GaugeMetricFamily("zab_info", "which process this is", labels=["node", "cluster", "boot", "version"])
        about.add_metric([str(state["n"]), state["cluster"], state["boot"], state["version"]], 1)
        yield about
        for name, all_of, now in (("state", STATES, state["state"]), ("phase", PHASES, state["phase"])):
            one = GaugeMetricFamily(f"zab_{name}", f"1 for the {name} this node is in", labels=[name])
            for each in all_of:
                one.add_metric([each], float(each == now))
            yield one
        leader = -1 if state["leader"] is None else state["leader"]
        yield GaugeMetricFamily("zab_leader", "node id of the leader known here, -1 for none", value=leader)
        yield GaugeMetricFamily("zab_established", "1 for an established leader", value=float(state["established"]))
        yield GaugeMetricFamily("zab_uptime_seconds", "since the process started", value=state["uptime_ms"] / 1000)
        for name, text in _NUMBERS.items():
            yield GaugeMetricFamily(f"zab_{name}", text, value=state[name])
        for name, text in _PLACES.items():
            metric = name if name.startswith("last") else f"last_{name}"
            epoch, counter = state[name]
            yield GaugeMetricFamily(f"zab_{metric}", f"counter of {text}", value=counter)
            yield GaugeMetricFamily(f"zab_{metric}_epoch", f"epoch of {text}", value=epoch)
        yield CounterMetricFamily("zab_events", "events told since the process started", value=state["seq"])
        for name, text in (("observers_dropped", "streams that read too slowly"), ("log_dropped", "log lines lost")):
            yield CounterMetricFamily(f"zab_{name}", text, value=state[name])
        refused = CounterMetricFamily("zab_frames_refused", "frames that could not be taken", labels=["reason"])
        for reason, count in sorted(state["dropped"].items()):
            refused.add_metric([reason], count)
        yield refused


def exposition(state: Mapping[str, Any]) -> tuple[str, bytes]:
    """Content type and text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(state))
    ProcessCollector(registry=registry)
    return CONTENT_TYPE_LATEST, generate_latest(registry)
