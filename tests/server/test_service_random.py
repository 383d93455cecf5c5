"""Whatever happens between clients and the core: every operation is answered, applied once, and nothing leaks."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.served import Served
from zabzmq.core.zxid import ZERO
from zabzmq.machine.operations import Cas, Gone, Operation, SessionId, decode_results
from zabzmq.net.client_wire import Done, No
from zabzmq.server.service import Limits

CAPACITY = 12
LIMITS = Limits(session_ops=6, total_ops=CAPACITY, batch_ops=4)

SUBMIT = st.tuples(st.just("submit"), st.integers(0, 2), st.integers(-3, 2), st.integers(1, 6), st.integers(0, 60))
OTHER = st.tuples(
    st.sampled_from(["propose", "propose", "commit", "commit", "refuse", "lose", "truncate", "tick"]),
    st.just(0), st.just(0), st.just(0), st.just(0),
)  # fmt: skip


def increments(session: SessionId, first: int, count: int) -> list[Operation]:
    """Each succeeds only once and only in its place, so a result other than None is a rule broken."""
    key = b"%d" % session[1]
    return [Cas(key, b"%d" % (n - 1) if n > 1 else None, b"%d" % n) for n in range(first, first + count)]


class Client:
    """The three sessions of one client, and which of their operations still want an answer."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.sessions = [served.register(name) for name in ("alice", "bob", "carol")]
        self.waiting: set[tuple[SessionId, int]] = set()

    def submit(self, who: int, shift: int, count: int, timeout: int) -> None:
        session = self.sessions[who]
        expected = self.served.state.sessions.expected(session) or 1
        seq = max(1, expected + shift)
        self.waiting |= {(session, n) for n in range(seq, seq + count)}
        self.served.submit(session, seq, *increments(session, seq, count), acked=max(0, seq - 4), timeout=timeout)

    def listen(self) -> None:
        for reply in self.served.heard():
            assert isinstance(reply, (Done, No))
            count = reply.count if isinstance(reply, No) else len(decode_results(reply.results))
            if isinstance(reply, Done):
                assert all(result is None or isinstance(result, Gone) for result in decode_results(reply.results)), (
                    reply
                )
            self.waiting -= {(reply.session, n) for n in range(reply.seq, reply.seq + count)}


@settings(max_examples=300)
@given(st.lists(st.one_of(SUBMIT, SUBMIT, OTHER), max_size=40))
def test_every_operation_is_answered_and_applied_once(steps: list[tuple[str, int, int, int, int]]) -> None:
    served = Served(LIMITS)
    client = Client(served)
    for step, who, shift, count, timeout in steps:
        served.now += 7
        match step:
            case "submit":
                client.submit(who, shift, count, timeout)
            case "propose":
                served.propose()
            case "commit":
                served.commit(min(1, len(served.proposed)))
            case "refuse":
                if served.service.next_deadline > served.now and served.service.next_deadline != float("inf"):
                    served.refuse()
            case "lose":  # what was proposed commits under the next leader, who is this node again
                served.look()
                served.commit()
                served.lead(cut=served.last)
            case "truncate":  # what was proposed is no more
                served.look()
                served.proposed.clear()
                served.last = served.state.applied
                served.lead()
            case _:
                served.service.on_tick(served.now)
        client.listen()
    served.turn()
    client.listen()
    assert client.waiting == set()
    assert served.service.next_deadline == float("inf")
    assert {(run.repeated, run.why) for run in served.applied} == {(0, "")}, "no repeat and no gap reached the log"
    assert served.state.digest == served.state.full_digest()
    # All the room there is is free again: nothing leaks.
    for who in (0, 1):
        client.submit(who, 0, CAPACITY // 2, 1000)
    served.turn()
    assert [len(results) for _, results in served.dones()] == [CAPACITY // 2] * 2
    assert served.last != ZERO
