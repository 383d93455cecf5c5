"""The power goes before and after every change of the disk, and again during the recovery that follows."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.crash.disk import Disk, Image, Op, Recorder
from tests.crash.script import Found, Promise, check, find
from tests.storage.directory import QuickFiles

IMAGES_MAX = 4096
"""All images of a moment are tried if there are about so many (long form)."""


@dataclass
class Swept:
    """`points`: moments at which the power went; `images`: different disks that were recovered; `checks`: how often
    one was held against a promise."""

    points: int = 0
    images: int = 0
    checks: int = 0
    again: int = 0
    """Moments at which the power went during a recovery."""


@dataclass
class Sweep:
    """`most`: images tried of one moment. `go_on_every`: of so many, one is written to again after its recovery."""

    work: Path
    most: int
    go_on_every: int = 10
    tell: Callable[[Swept], None] = lambda swept: None
    swept: Swept = field(default_factory=Swept)
    _known: dict[Image, Found | str] = field(default_factory=dict)

    def run(self, trace: Iterable[Op | Promise], disk: Disk) -> Swept:
        dice = Random(1)
        promise = Promise()
        images: list[Image] = disk.images(self.most, dice)
        for item in trace:
            if isinstance(item, Promise):
                promise = item
            else:
                disk.apply(item)
                images = disk.images(self.most, dice)
                self.swept.points += 1
                self.tell(self.swept)
            for image in images:
                self._check(image, promise)
        return self.swept

    def recoveries(self, trace: Iterable[Op | Promise], disk: Disk, every: int, most: int) -> Swept:
        """At every `every`-th moment, of `most` images: the power goes a second time, at each change of recovery."""
        dice = Random(2)
        promise = Promise()
        for item in trace:
            if isinstance(item, Promise):
                promise = item
                continue
            disk.apply(item)
            self.swept.points += 1
            self.tell(self.swept)
            if self.swept.points % every == 0:
                for image in disk.images(most, dice):
                    self._recover_in_pieces(image, promise, dice)
        return self.swept

    def _check(self, image: Image, promise: Promise) -> None:
        found = self._known.get(image)
        if found is None:
            go_on = self.swept.images % self.go_on_every == 0
            image.put(self.work)
            found = self._known[image] = find(self.work / "node-0", QuickFiles(), go_on)
            self.swept.images += 1
        self.swept.checks += 1
        try:
            went_on = check(found, promise).went_on
            assert went_on is not False, "a batch that was appended after the recovery is lost"
        except AssertionError as error:
            kept = self.work.with_name("failed")
            shutil.rmtree(kept, ignore_errors=True)
            kept.mkdir()
            image.put(kept)
            at = f"after change {self.swept.points}"
            raise AssertionError(f"power cut {at}: {error}\nThe disk that was found: {kept}") from error

    def _recover_in_pieces(self, image: Image, promise: Promise, dice: Random) -> None:
        place = self.work.with_name("again")
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        image.put(place)
        disk, files = Disk(place), Recorder[Promise](place)
        found = find(place / "node-0", files, go_on=False)
        check(found, promise)
        for op in files.trace:
            assert not isinstance(op, Promise)
            disk.apply(op)
            self.swept.again += 1
            for left in disk.images(4, dice):
                self._check(left, promise)
