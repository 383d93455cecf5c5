"""Following logs that are written, rotated and deleted."""

from __future__ import annotations

from pathlib import Path

from tests.trace.test_reading import line
from zabzmq.trace.follow import Follower
from zabzmq.trace.reading import Problem


class Followed:
    def __init__(self, *paths: Path, newest: int = 10) -> None:
        self.problems: list[Problem] = []
        self.follower = Follower(paths, newest, self.problems.append)

    def __enter__(self) -> Followed:
        return self

    def __exit__(self, *unused: object) -> None:
        self.follower.close()

    def news(self) -> list[tuple[int, int]]:
        return [(event.n, event.seq) for event in self.follower.events()]


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_what_is_added_is_told_once_and_in_one_order(tmp_path: Path) -> None:
    paths = [tmp_path / f"node-{n}.jsonl" for n in range(2)]
    with Followed(*paths) as followed:
        assert followed.news() == [], "nothing is there yet"
        append(paths[1], line(n=1, seq=1, lc=4))
        append(paths[0], line(n=0, seq=1, lc=5) + line(n=0, seq=2, lc=6))
        assert followed.news() == [(1, 1), (0, 1), (0, 2)]
        assert followed.news() == []


def test_a_line_is_taken_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "node-0.jsonl"
    with Followed(path) as followed:
        append(path, line()[:30])
        assert followed.news() == []
        append(path, line()[30:])
        assert followed.news() == [(0, 1)]
        assert followed.problems == []


def test_a_bad_line_is_named_and_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "node-0.jsonl"
    append(path, b"bad\n" + line())
    with Followed(path) as followed:
        assert followed.news() == [(0, 1)]
        assert len(followed.problems) == 1


def test_a_log_that_is_rotated_or_deleted_is_followed_on(tmp_path: Path) -> None:
    path = tmp_path / "node-0.jsonl"
    append(path, line(seq=1))
    with Followed(path) as followed:
        assert followed.news() == [(0, 1)]
        path.rename(tmp_path / "node-0.jsonl.1")
        assert followed.news() == []
        append(path, line(seq=2))
        assert followed.news() == [(0, 2)]
        path.unlink()
        append(path, line(seq=3))
        assert followed.news() == [(0, 3)]


def test_of_a_long_log_only_the_end_is_read_and_of_a_new_one_all(tmp_path: Path) -> None:
    old, new = tmp_path / "node-0.jsonl", tmp_path / "node-1.jsonl"
    append(old, b"".join(line(seq=seq) for seq in range(1, 5000)))
    with Followed(old, newest=10) as followed:
        seen = followed.news()
        assert seen[-1] == (0, 4999) and 10 < len(seen) < 2000
        append(new, b"".join(line(n=1, seq=seq) for seq in range(1, 2500)))
        followed.follower.watch([old, new])
        assert len(followed.news()) == 2499


def test_a_log_that_is_emptied_in_place_is_read_from_its_new_beginning(tmp_path: Path) -> None:
    path = tmp_path / "node-0.jsonl"
    append(path, line(seq=1) + line(seq=2))
    with Followed(path) as followed:
        assert followed.news() == [(0, 1), (0, 2)]
        path.write_bytes(line(seq=9))
        assert followed.news() == [(0, 9)]
