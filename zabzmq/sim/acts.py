"""What can be done to a simulated ensemble, by name: the words in which a schedule of faults is written down.

An `Act` says when, what and to whom, with nothing left to chance; `Hands` carries it out. Faults (faults.py) are drawn
and become acts; a scenario (scenario.py) is a list of acts, so any schedule can be kept, cut short and played again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from zabzmq.core.zxid import PeerId
from zabzmq.sim.network import STORM

if TYPE_CHECKING:
    from zabzmq.sim.disk import Platter
    from zabzmq.sim.world import World


class Act(NamedTuple):
    """`do` is the name of a method of Hands; `about` its arguments: numbers, booleans and lists of them."""

    at: float
    do: str
    about: tuple[Any, ...]


class Hands:
    """Carries acts out, and undoes all that is in force when faults end. What makes no sense just now does nothing."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.done: list[Act] = []
        self.lost_disks: dict[PeerId, list[Platter]] = {}  # of wiped machines, oldest first
        self._by_name: dict[str, Callable[..., None]] = {
            "crash": self._crash,
            "start": self._start,
            "pause": self._pause,
            "resume": self._resume,
            "stall": self._stall,
            "release": self._release,
            "fail write": self._fail_write,
            "fill": self._fill,
            "empty": self._empty,
            "wipe": self._wipe,
            "swap": self._swap,
            "cut": self._cut,
            "mend": self._mend,
            "reset": self._reset,
            "break": self._break,
            "deafen": self._deafen,
            "hear": self._hear,
            "storm": self._storm,
            "fair": self._fair,
        }

    def do(self, name: str, *about: Any) -> None:
        """Do it now, and write it down."""
        self.done.append(Act(self.world.now, name, about))
        self.world.say(f"{name} {', '.join(map(str, about))}")
        self._by_name[name](*about)

    def undo_all(self) -> None:
        world = self.world
        for process in world.processes.values():
            if process is not None:
                process.resume()
                process.disk.release()
                process.disk.fill(False)
        for pair in sorted(world.network.cut):
            world.network.set_cut(*pair, on=False)
        world.network.pub_off.clear()

    # ---- processes and machines ------------------------------------------------------------------------------------

    def _crash(self, peer: PeerId, power: bool) -> None:
        self.world.crash(peer, power)

    def _start(self, peer: PeerId) -> None:
        self.world.start(peer)

    def _pause(self, peer: PeerId) -> None:
        if (process := self.world.processes[peer]) is not None:
            process.pause()

    def _resume(self, peer: PeerId) -> None:
        if (process := self.world.processes[peer]) is not None:
            process.resume()

    # ---- disks -----------------------------------------------------------------------------------------------------

    def _stall(self, peer: PeerId) -> None:
        if (process := self.world.processes[peer]) is not None:
            process.disk.stalled = True

    def _release(self, peer: PeerId) -> None:
        if (process := self.world.processes[peer]) is not None:
            process.disk.release()

    def _fail_write(self, peer: PeerId) -> None:
        if (process := self.world.processes[peer]) is not None:
            process.disk.fail_next = True

    def _fill(self, peer: PeerId) -> None:
        if (process := self.world.processes[peer]) is not None:
            process.disk.fill(True)

    def _empty(self, peer: PeerId) -> None:
        if (process := self.world.processes[peer]) is not None:
            process.disk.fill(False)

    def _wipe(self, peer: PeerId) -> None:
        """A crash, and an empty disk; only while the voters that remember nothing stay a minority (10.6, L19)."""
        if not self._may_forget(peer):
            return
        self.world.crash(peer, True)
        self.lost_disks.setdefault(peer, []).append(self.world.wipe(peer))

    def _swap(self, peer: PeerId) -> None:
        """The disk that this machine lost is put back in, and the present one is the lost one from now on."""
        if not self.lost_disks.get(peer) or not self._may_forget(peer):
            return
        self.world.crash(peer, True)
        old = self.lost_disks[peer].pop(0)
        self.lost_disks[peer].append(self.world.wipe(peer, old))

    def _may_forget(self, peer: PeerId) -> bool:
        """Whether a majority still counts without it. An ADMIT voids an older disk of that voter as soon as it may
        be committed (L18), so an old one that is back in counts only while no log names another."""
        world, watcher = self.world, self.world.watcher
        blank = {
            p
            for p, platter in world.platters.items()
            if not platter.epochs.current
            or not platter.epochs.joined
            or any(named.get(p, platter.life) != platter.life for named in (watcher.lives, watcher.offered))
        }
        return len(blank | {peer}) <= len(world.voters.ids) - world.voters.needed

    # ---- network ---------------------------------------------------------------------------------------------------

    def _cut(self, pairs: list[list[int]]) -> None:
        for source, target in pairs:
            self.world.network.set_cut(PeerId(source), PeerId(target), on=True)

    def _mend(self, pairs: list[list[int]]) -> None:
        for source, target in pairs:
            self.world.network.set_cut(PeerId(source), PeerId(target), on=False)

    def _reset(self, a: PeerId, b: PeerId) -> None:
        self.world.network.reset(a, b)

    def _break(self, a: PeerId, b: PeerId) -> None:
        """The links between these two, not the lasting connections."""
        self.world.network.break_links(a, b)

    def _deafen(self, peer: PeerId, to: list[int]) -> None:
        self.world.network.pub_off |= {(peer, PeerId(other)) for other in to}

    def _hear(self, peer: PeerId, to: list[int]) -> None:
        self.world.network.pub_off -= {(peer, PeerId(other)) for other in to}

    def _storm(self, links_too: bool) -> None:
        """40 % of what is not on a link is lost and 50 % doubled, links are slow; or they too lose and double."""
        loss = {"link_loss": 0.4, "link_twice": 0.5} if links_too else {}
        self.world.network.weather = replace(STORM, delay=self.world.plan.weather.delay, **loss)

    def _fair(self) -> None:
        self.world.network.weather = self.world.plan.weather
