"""One peer and a script: the test speaks for everyone else, and says when the disk is done.

`hear`, `note`, `beat`, `tick` give it inputs; `disk()` completes what it asked of the disk, in order. `said`
collects every effect. Peers are ProcessIds made by `process(i)`; `follower()` and the leader's `learner()` walk the
usual way into a phase, so that a test begins where its sentence begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, TypeVar

from tests.core.disk import Disk, DiskEffect
from zabzmq.core.effects import (
    CloseLink,
    Deliver,
    Effect,
    OpenLink,
    Publish,
    Send,
    SendVote,
)
from zabzmq.core.history import Admit, Batch, EpochEnd, Epochs, History
from zabzmq.core.inputs import (
    Input,
    LinkUp,
    MeshDown,
    MeshUp,
    Received,
    Request,
    Tick,
)
from zabzmq.core.messages import (
    AckEpoch,
    AckNewLeader,
    FollowerInfo,
    Heartbeat,
    LeaderInfo,
    NewLeader,
    Notification,
    Phase,
    State,
    UpToDate,
    Vote,
)
from zabzmq.core.peer import Peer
from zabzmq.core.quorum import Voters
from zabzmq.core.timing import Timing
from zabzmq.core.zxid import ZERO, LinkId, PeerId, ProcessId, Zxid

M = TypeVar("M")

JOINED = Epochs(1, 1, True)


def process(i: int, incarnation: int = 1, life: int | None = None) -> ProcessId:
    return ProcessId(PeerId(i), 100 + i if life is None else life, incarnation)


def batch(epoch: int, counter: int, prev: Zxid, count: int = 1, admit: Admit | None = None, data: bytes = b"") -> Batch:
    return Batch(Zxid(epoch, counter), prev, count, 0, admit, data)


def chain(*ends: tuple[int, int], after: Zxid = ZERO) -> tuple[Batch, ...]:
    """Batches of one transaction each: `chain((1, 2), (3, 1))` is 1.1, 1.2, 3.1."""
    made: list[Batch] = []
    last = after
    for epoch, counter in ends:
        for c in range(last.counter + 1 if last.epoch == epoch else 1, counter + 1):
            made.append(batch(epoch, c, last))
            last = made[-1].last
    return tuple(made)


def history(*ends: tuple[int, int], snapshot: tuple[int, int] = ZERO, base: tuple[int, int] | None = None) -> History:
    """The index of `chain(*ends)`, with a snapshot and all before `base` (the snapshot, if not given) purged."""
    made = History()
    for each in chain(*ends):
        made.append(each)
    made.snapshot = Zxid(*snapshot)
    made.base = Zxid(*(snapshot if base is None else base))
    return made


class One:
    """Peer `me` of `voters`, on a disk that held `held` and `epochs` when it started at time 1000."""

    def __init__(
        self,
        me: int = 0,
        voters: int = 3,
        *,
        held: History | None = None,
        batches: Sequence[Batch] = (),
        epochs: Epochs = JOINED,
        timing: Timing | None = None,
        bootstrap_all: bool = False,
        unsafe_rejoin_empty: bool = False,
    ) -> None:
        self.now = 1000.0
        self.voters = Voters(tuple(PeerId(i) for i in range(voters)))
        self.store = Disk(100 + me, held, epochs)
        self.store.hold(batches)
        self.process = process(me)
        self.said: list[Effect] = []
        self.n_seq = 0
        self.peer = Peer(
            self.process,
            self.voters,
            self.store.history.copy(),
            epochs,
            Random(me),
            timing or Timing(),
            bootstrap_all=bootstrap_all,
            unsafe_rejoin_empty=unsafe_rejoin_empty,
        )
        self._take(self.peer.start(self.now))

    # ---- inputs

    def step(self, event: Input) -> list[Effect]:
        return self._take(self.peer.step(self.now, event))

    def tick(self, ms: float = 0.0) -> list[Effect]:
        """Time goes by at once, and is noticed once."""
        self.now += ms
        return self.step(Tick())

    def wait(self, ms: float) -> list[Effect]:
        """Time goes by, and every deadline is noticed."""
        end, heard = self.now + ms, []
        while (due := max(self.now, self.peer.next_deadline)) <= end:
            self.now = due
            heard += self.step(Tick())
        self.now = end
        return heard

    def hear(self, source: int | ProcessId, message: Any, link: LinkId | None = None) -> list[Effect]:
        who = source if isinstance(source, ProcessId) else process(source)
        return self.step(Received(who, link, message))

    def meet(self, *others: int) -> None:
        """Mesh connections come up and something is heard on them."""
        for i in others:
            self.step(MeshUp(PeerId(i)))
            self.beat(i)

    def lose(self, i: int) -> list[Effect]:
        return self.step(MeshDown(PeerId(i)))

    def looking(
        self,
        source: int | ProcessId,
        vote: Vote | int | None,
        round: int = 1,
        *,
        current: int = 1,
        joined: bool = True,
        n_seq: int | None = None,
    ) -> list[Effect]:
        """A LOOKING peer votes; an int is a vote for that peer with the usual empty history of epoch 1."""
        chosen = Vote(process(vote), current, ZERO) if isinstance(vote, int) else vote
        note = Notification(State.LOOKING, round, chosen, None, current, joined, 0, self._number(n_seq))
        return self.hear(source, note)

    def decided(
        self,
        source: int | ProcessId,
        leader: int | ProcessId,
        round: int = 1,
        *,
        state: State | None = None,
        current: int = 1,
        zxid: Zxid = ZERO,
    ) -> list[Effect]:
        """A FOLLOWING or LEADING peer answers."""
        who = source if isinstance(source, ProcessId) else process(source)
        head = leader if isinstance(leader, ProcessId) else process(leader)
        if state is None:
            state = State.LEADING if who == head else State.FOLLOWING
        note = Notification(state, round, Vote(head, current, zxid), head, current, True, 0, self._number(None))
        return self.hear(who, note)

    def beat(
        self,
        source: int | ProcessId,
        epoch: int = 1,
        *,
        state: State = State.LOOKING,
        phase: Phase = Phase.ELECTION,
        hb_seq: int = 1,
        committed: Zxid = ZERO,
        link: LinkId | None = None,
    ) -> list[Effect]:
        heartbeat = Heartbeat(state, phase, epoch, None, hb_seq, committed, ZERO, ZERO, None)
        return self.hear(source, heartbeat, link)

    def request(self, count: int = 1, data: bytes = b"x") -> list[Effect]:
        return self.step(Request(data, count, 0))

    # ---- the disk

    def disk(self, most: int = 1 << 30) -> list[Effect]:
        """Complete what was asked of the disk, and of the log's readers, in order."""
        heard: list[Effect] = []
        while self.store.queue and most:
            most -= 1
            heard += self.step(self.store.next())
        return heard

    @property
    def writes(self) -> list[DiskEffect]:
        """Asked of the disk and not done."""
        return list(self.store.queue)

    @property
    def epochs(self) -> Epochs:
        """What META holds."""
        return self.store.epochs

    # ---- what was said

    def sent(self, kind: type[M], effects: list[Effect] | None = None) -> list[M]:
        """Every message of this kind, in order, that went to a link, a voter or PUB."""
        messages = [e.message for e in self._of(effects) if isinstance(e, (Send, SendVote, Publish))]
        return [m for m in messages if isinstance(m, kind)]

    def did(self, kind: type[M], effects: list[Effect] | None = None) -> list[M]:
        return [e for e in self._of(effects) if isinstance(e, kind)]

    def _of(self, effects: list[Effect] | None) -> list[Effect]:
        return self.said if effects is None else effects

    @property
    def place(self) -> tuple[State, Phase]:
        return self.peer.phase.state, self.peer.phase.phase

    @property
    def delivered(self) -> Zxid:
        return self.did(Deliver)[-1].upto if self.did(Deliver) else ZERO

    # ---- ways into a phase

    def follow(self, leader: int = 1, round: int = 1) -> LinkId:
        """FOLLOWING in DISCOVERY, its link up; everyone else follows `leader` already."""
        others = [i for i in self.voters.ids if i != self.process.peer]
        self.meet(*others)
        for i in others:
            self.decided(i, leader, round)
            if self.place == (State.FOLLOWING, Phase.DISCOVERY):
                break
        for i in others:
            if self.place != (State.FOLLOWING, Phase.DISCOVERY):
                self.decided(i, leader, round)
        self.wait(0)
        link = self.did(OpenLink)[-1].link
        self.step(LinkUp(link))
        return link

    def promise(self, link: LinkId, leader: int = 1, epoch: int = 2) -> AckEpoch:
        """The leader offers an epoch; the promise is on disk and told: FOLLOWING in SYNCHRONIZATION."""
        self.hear(leader, LeaderInfo(epoch, self._number(None)), link)
        self.disk()
        return self.sent(AckEpoch)[-1]

    def follower(self, leader: int = 1, epoch: int = 2, cut: Zxid | None = None) -> LinkId:
        """FOLLOWING in BROADCAST, with the leader's history equal to ours."""
        link = self.follow(leader)
        self.promise(link, leader, epoch)
        end = self.peer.history.last if cut is None else cut
        self.hear(leader, NewLeader(epoch, end), link)
        self.disk()
        self.hear(leader, UpToDate(epoch, end), link)
        assert self.place == (State.FOLLOWING, Phase.BROADCAST)
        return link

    def elect(self) -> None:
        """LEADING in DISCOVERY, by the votes of all others."""
        others = [i for i in self.voters.ids if i != self.process.peer]
        self.meet(*others)
        mine = self.peer.own_vote()
        assert mine is not None
        for i in others:
            if self.place == (State.LOOKING, Phase.ELECTION):
                self.looking(i, mine, self.peer.round, current=0 if mine.epoch == 0 else 1)
        if self.place == (State.LOOKING, Phase.ELECTION):
            self.wait(self.peer.timing.finalize_wait)
        assert self.place == (State.LEADING, Phase.DISCOVERY)

    def link(self, i: int | ProcessId, number: int = 1) -> LinkId:
        return LinkId(i if isinstance(i, ProcessId) else process(i), number)

    def info(
        self,
        i: int | ProcessId,
        number: int = 1,
        *,
        accepted: int = 1,
        seen: int = 0,
        joined: bool = True,
        config: int = 0,
    ) -> LinkId:
        """A learner comes with FOLLOWERINFO."""
        link = self.link(i, number)
        self.hear(link.learner, FollowerInfo(accepted, seen, joined, config, self._number(None)), link)
        return link

    def ack_epoch(
        self,
        link: LinkId,
        held: History | None = None,
        *,
        current: int = 1,
        counted: bool = True,
        epoch: int | None = None,
    ) -> list[Effect]:
        index = History() if held is None else held
        e = self.peer.phase.epoch if epoch is None else epoch
        ack = AckEpoch(e, current, index.last, index.snapshot, tuple(EpochEnd(*end) for end in index.ends), counted)
        return self.hear(link.learner, ack, link)

    def lead(self, *learners: int, held: History | None = None) -> list[LinkId]:
        """LEADING in BROADCAST: `learners` (all others, if none is named) hold `held` (what we hold) and promised."""
        ids = learners or tuple(i for i in self.voters.ids if i != self.process.peer)
        index = self.peer.history.copy() if held is None else held
        self.elect()
        links = [self.info(i, accepted=self.peer.epochs.accepted) for i in ids]
        self.disk()
        for link in links:
            self.ack_epoch(link, index, current=self.peer.epochs.current)
        self.disk()
        for link in links:
            self.ack_new_leader(link)
        assert self.place == (State.LEADING, Phase.BROADCAST), self.place
        self.disk()
        return links

    def ack_new_leader(self, link: LinkId) -> list[Effect]:
        """This learner acknowledges the NEWLEADER it was sent."""
        cut = next(
            e.message.cut
            for e in reversed(self.said)
            if isinstance(e, Send) and e.link == link and isinstance(e.message, NewLeader)
        )
        return self.hear(link.learner, AckNewLeader(self.peer.phase.epoch, cut), link)

    def to(self, link: LinkId, kind: type[M] | None = None, effects: list[Effect] | None = None) -> list[Any]:
        """What was sent on one link."""
        messages = [e.message for e in self._of(effects) if isinstance(e, Send) and e.link == link]
        return [m for m in messages if kind is None or isinstance(m, kind)]

    def closed(self, link: LinkId) -> bool:
        return any(isinstance(e, CloseLink) and e.link == link for e in self.said)

    # ---- inside

    def _number(self, n_seq: int | None) -> int:
        self.n_seq += 1
        return self.n_seq if n_seq is None else n_seq

    def _take(self, effects: list[Effect]) -> list[Effect]:
        self.said += effects
        for effect in effects:
            self.store.ask(effect)
        return effects
