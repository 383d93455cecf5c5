"""What monitors ask for: every committed batch once, in order, and honest holes (7.3, C4)."""

from __future__ import annotations

from msgspec import Raw

from tests.server.served import Served
from zabzmq.core.history import Admit
from zabzmq.core.inputs import Request
from zabzmq.core.zxid import ZERO, PeerId, Zxid
from zabzmq.machine.operations import Guess, Put, SealedRun, Target, decode_results, encode
from zabzmq.net.client_wire import Committed
from zabzmq.server.service import Limits


def played(batches: int, limits: Limits | None = None, size: int = 1) -> Served:
    """A registration at 1.1, then batches of two puts each."""
    served = Served(limits)
    alice = served.register()
    for n in range(batches):
        served.submit(alice, 2 * n + 1, Put(b"k", bytes(size)), Put(b"l", bytes(size)))
        served.turn()
    served.said()
    return served


def firsts(found: list[Committed]) -> list[tuple[int, int]]:
    return [(epoch, counter) for epoch, counter in (committed.first for committed in found)]


def test_a_committed_batch_carries_all_a_monitor_shows() -> None:
    served = Served()
    alice, bob = served.register("alice"), served.register("bob")
    served.submit(alice, 1, Target(50))
    served.submit(bob, 1, Guess(40), Guess(60), client=b"b")
    served.turn()
    committed = served.committed[-1]
    batch = served.log[-1]
    assert (committed.first, committed.prev, committed.count) == (batch.first, batch.prev, 3)
    assert (committed.time_ms, committed.admit, committed.data) == (77, None, batch.data)
    assert committed.names == ["alice", "bob"]
    assert committed.results is not None
    assert [len(decode_results(results)) for results in committed.results] == [1, 2]
    assert committed.digest == served.state.digest


def test_recent_batches_come_from_memory_as_they_were_published() -> None:
    served = played(3)
    served.log.clear()
    reply = served.range(ZERO)
    assert reply.batches == served.committed
    assert (reply.rid, reply.node, reply.applied, reply.purged) == (3, 0, Zxid(1, 7), None)
    assert firsts(served.range(Zxid(1, 3)).batches) == [(1, 4), (1, 6)]
    assert firsts(served.range(Zxid(1, 3), Zxid(1, 5)).batches) == [(1, 4)]
    assert served.range(Zxid(1, 7)).batches == []
    assert served.range(Zxid(3, 1)).batches == []


def test_batches_are_told_whole() -> None:
    served = played(3)
    assert firsts(served.range(Zxid(1, 2), Zxid(1, 4)).batches) == [(1, 2), (1, 4)]


def test_older_batches_come_from_the_log_without_results_and_the_rest_from_memory() -> None:
    served = played(6, Limits(recent_bytes=400))
    reply = served.range(ZERO)
    assert firsts(reply.batches) == firsts(served.committed)
    kept = [committed.results is not None for committed in reply.batches]
    assert kept == sorted(kept)
    assert kept[-1]
    assert not kept[0]
    old = reply.batches[1]
    assert (old.names, old.digest, old.data) == (["alice"], 0, served.committed[1].data)
    assert firsts(served.range(Zxid(1, 2)).batches)[0] == (1, 2), "also from the middle of a batch"
    assert firsts(served.range(Zxid(1, 1), Zxid(1, 3)).batches) == [(1, 2)]


def test_a_place_inside_a_batch_is_found_in_a_long_log_too() -> None:
    served = played(30, Limits(recent_bytes=1), size=100_000)
    assert firsts(served.range(Zxid(1, 48)).batches) == [(1, 48), (1, 50), (1, 52), (1, 54), (1, 56)]
    assert served.reads[0] >= Zxid(1, 43), "from a mark near it, not from the beginning"
    assert firsts(served.range(Zxid(1, 2), Zxid(1, 2)).batches) == []
    assert firsts(served.range(Zxid(1, 2), Zxid(1, 3)).batches) == [(1, 2)]


def test_a_place_that_never_was_is_answered_with_what_follows_it() -> None:
    served = played(2, Limits(recent_bytes=1))
    served.look()
    served.lead()
    served.submit((1, 1), 5, Put(b"k", b"v"))
    served.turn()
    served.said()
    assert firsts(served.range(Zxid(1, 99)).batches) == [(2, 1)]


def test_an_admission_is_a_batch_without_runs() -> None:
    served = played(0, Limits(recent_bytes=1))
    admit = served.batch(Request(b"", 1, 5))._replace(admit=Admit(PeerId(2), 99))
    served.last = admit.last
    served.apply(admit)
    served.submit((1, 1), 1, Put(b"k", b"v"))
    served.turn()
    served.said()
    found = served.range(Zxid(1, 1)).batches
    assert [(c.admit, c.names) for c in found] == [((2, 99), []), (None, ["alice"])]


def test_only_what_is_applied_here_is_told() -> None:
    served = played(2, Limits(recent_bytes=1))
    served.log.append(served.batch(Request(encode([SealedRun((1, 1), 9, 0, Raw(encode([])))]), 1, 1)))
    assert firsts(served.range(ZERO, Zxid(9, 9)).batches) == [(1, 1), (1, 2), (1, 4)]


def test_what_is_purged_is_a_hole_with_a_name() -> None:
    served = played(6, Limits(recent_bytes=400))
    served.base = Zxid(1, 3)
    reply = served.range(Zxid(1, 1))
    assert reply.purged == Zxid(1, 3)
    assert firsts(reply.batches) == [(1, 4), (1, 6), (1, 8), (1, 10), (1, 12)]
    assert served.range(Zxid(1, 3)).purged is None


def test_a_reply_is_bounded_but_never_empty_for_its_size() -> None:
    served = played(4, size=300_000)
    found = served.range(ZERO).batches
    assert firsts(found) == [(1, 1), (1, 2)]
    assert firsts(served.range(Zxid(1, 1)).batches) == [(1, 2)]
    served = played(2, Limits(recent_bytes=1), size=700_000)
    assert firsts(served.range(Zxid(1, 1)).batches) == [(1, 2)]


def test_results_too_large_for_a_frame_are_left_out() -> None:
    served = Served()
    sessions = [served.register(f"{n}" + "😀" * 62) for n in range(10)]
    served.submit(sessions[0], 1, Target(1))
    served.turn()
    for session in sessions[1:]:
        served.submit(session, 1, *[Target(2)] * 1000)  # each refused with a text that names the owner
    served.turn()
    assert [committed.results is None for committed in served.committed[-2:]] == [False, True]
    assert served.committed[-1].count == 9000
