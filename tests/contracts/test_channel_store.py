# SPDX-License-Identifier: Apache-2.0
"""The port ChannelStore: what every place that a channel is published to must guarantee."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from chopmark.adapters.blobs.folder import FolderChannel
from chopmark.channel import Fetcher, MissingError
from chopmark.channel.publish import publish_root
from chopmark.errors import UndecidedError, UsageError
from simulators import MemoryChannel, SimChannel, SimFollower, everyone, follower
from simulators.crash import SharedLog, at_once, killed_everywhere

PATH = "metadata/1.snapshot.json"


@pytest.fixture(params=["memory", "folder"])
def store(request, tmp_path):
    return MemoryChannel() if request.param == "memory" else FolderChannel(tmp_path / "channel")


def test_what_was_written_is_read(store):
    assert store.get(PATH) is None
    assert store.put_new(PATH, b"one")
    assert store.get(PATH) == b"one"
    store.replace(PATH, b"two")
    assert store.get(PATH) == b"two"
    store.replace("targets/new", b"")
    assert store.get("targets/new") == b""


def test_put_new_never_overwrites_and_says_what_is_there(store):
    assert store.put_new(PATH, b"one")
    assert store.put_new(PATH, b"one"), "the same bytes again are there now"
    assert not store.put_new(PATH, b"two")
    assert store.get(PATH) == b"one"


def test_swap_compares_first(store):
    assert not store.swap(PATH, b"other", b"new")
    assert store.get(PATH) is None
    assert store.swap(PATH, None, b"one")
    assert not store.swap(PATH, None, b"two")
    assert not store.swap(PATH, b"other", b"two")
    assert store.swap(PATH, b"one", b"two")
    assert store.get(PATH) == b"two"


def test_names_that_packages_may_have(store):
    names = ["targets/a b", "targets/ü/ß", "targets/a#b?c%41&d", "targets/-rf", "targets/~", "targets/" + "n" * 190]
    for name in names:
        assert store.put_new(name, name.encode())
    assert [store.get(name) for name in names] == [name.encode() for name in names]


def test_of_many_writers_of_one_new_name_one_wins(store):
    def write(number):
        barrier.wait()
        return store.put_new(f"metadata/{number // 8}.json", b"%d" % number)

    barrier = threading.Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        for start in range(0, 160, 8):
            won = list(pool.map(write, range(start, start + 8)))
            assert sum(won) == 1
            assert store.get(f"metadata/{start // 8}.json") == b"%d" % (start + won.index(True))


def test_swaps_of_many_threads_lose_nothing(store):
    def count(_):
        for _ in range(10):
            while not store.swap(PATH, old := store.get(PATH), b"%d" % (int(old or b"0") + 1)):
                pass

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    assert store.get(PATH) == b"40"


def test_a_reader_sees_a_file_whole(store):
    whole = [b"a" * 300_000, b"b" * 300_000]
    store.replace(PATH, whole[0])
    done = threading.Event()

    def write():
        for turn in range(20):
            store.replace(PATH, whole[turn % 2])
        done.set()

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not done.is_set():
            assert store.get(PATH) in whole
        writing.result()


# The folder, with real processes


@pytest.mark.parametrize("path", ["", "/", "/etc/passwd", "../outside", "a/../../outside", "a//b", "./a", "a/"])
def test_no_path_leads_out_of_the_folder(tmp_path, path):
    store = FolderChannel(tmp_path / "channel")
    for call in (
        lambda: store.get(path),
        lambda: store.put_new(path, b"x"),
        lambda: store.replace(path, b"x"),
        lambda: store.swap(path, None, b"x"),
    ):
        with pytest.raises(UsageError):
            call()
    assert not (tmp_path / "outside").exists()


def test_of_two_processes_one_wins(tmp_path):
    store = FolderChannel(tmp_path / "channel")
    for turn in range(5):
        won = at_once([lambda n=n, t=turn: store.put_new(f"metadata/{t}.json", b"%d" % n) for n in range(3)])
        assert sum(won) == 1
        assert store.get(f"metadata/{turn}.json") == b"%d" % won.index(True)
    store.replace(PATH, b"old")
    assert sum(at_once([lambda n=n: store.swap(PATH, b"old", b"%d" % n) for n in range(3)])) == 1


def test_a_full_or_foreign_folder_is_an_error_of_ours(tmp_path):
    (tmp_path / "channel").write_bytes(b"a file where the folder should be")
    store = FolderChannel(tmp_path / "channel")
    for write in (
        lambda: store.put_new(PATH, b"x"),
        lambda: store.replace(PATH, b"x"),
        lambda: store.swap(PATH, None, b"x"),
    ):
        with pytest.raises(UndecidedError) as undecided:
            write()
        assert undecided.value.code == "not-written"
    folder = FolderChannel(tmp_path / "other")
    with pytest.raises(UndecidedError):
        folder.put_new("targets/" + "n" * 300, b"x")
    assert list((tmp_path / "other" / "targets").iterdir()) == [], "nothing is left behind"


class FolderFetcher(Fetcher):
    """The files of a folder, fetched."""

    def __init__(self, store):
        self.store = store

    def _fetch(self, path, max_bytes):
        data = self.store.get(path)
        if data is None:
            raise MissingError(path)
        return data


class Publishing:
    """A channel in a folder, filled by processes that are killed and processes that run at once."""

    def __init__(self, folder):
        self.channel = channel = SimChannel()
        channel.store = FolderChannel(folder / "channel")
        channel.log = SharedLog(channel.log, folder / "log.json")
        publish_root(channel.store, channel.trust.root, channel.trust.trust)
        channel.publish(channel.approve())
        self.device = SimFollower(FolderFetcher(channel.store), root=channel.trust.first, pin=channel.trust.pin)

    def refresh(self):
        return self.device.refresh(self.channel.now)


def test_a_publication_killed_anywhere_shows_nothing_of_itself(tmp_path):
    """kill -9 at every point of a publication: the device sees the old one whole, or the new one whole."""
    world, changes = Publishing(tmp_path), ("replace", "link", "unlink")
    channel, counter, points = world.channel, 2, 0
    channel.issue()
    releases = [world.refresh(), channel.approve(version="2", counter=counter)]
    for points in killed_everywhere(lambda: channel.publish(releases[-1]), at=changes):  # noqa: B007
        found = world.refresh()
        assert found in releases[-2:]
        if found == releases[-1]:  # it was killed after the commit: the next attempt publishes something newer
            counter += 1
            channel.issue()
            releases.append(channel.approve(version=str(counter), counter=counter))
    assert points > 20
    assert world.refresh() == releases[-1]
    last = channel.approve(version="last", counter=counter + 1)
    channel.publish(last)
    assert world.refresh() == last, "what was left behind stops nobody"


def test_two_operators_at_once_publish_one_after_the_other_or_one_is_told(tmp_path):
    world = Publishing(tmp_path)
    channel = world.channel
    world.refresh()
    for turn in range(4):
        releases = [channel.approve(version=f"{turn}-{n}", counter=10 + 3 * turn + n) for n in range(3)]

        def publish(release):
            try:
                channel.publish(release)
            except UndecidedError as error:
                if error.code != "channel-moved":
                    raise
                return False
            return True

        before = world.device.memory.versions["timestamp"]
        world.device.memory.top = None  # whichever wins; their order is not the point here
        won = at_once([lambda r=r: publish(r) for r in releases])
        assert any(won)
        assert world.refresh() in [r for r, committed in zip(releases, won, strict=True) if committed]
        assert world.device.memory.versions["timestamp"] == before + sum(won), "no publication was lost"


def test_operators_in_threads_do_not_mix_their_publications():
    channel = SimChannel()
    channel.publish(channel.approve())
    device = follower(channel)
    device.refresh(channel.now)
    barrier, lock = threading.Barrier(2), threading.Lock()

    def prove(leaf):
        barrier.wait(timeout=10)  # both have written their files; now both log and commit
        with lock:
            return channel.log.prove(leaf)

    def publish(release):
        publisher = channel.publisher(prove=prove)
        try:
            publisher.publish(
                assignments=(everyone(release),),
                shipments=[channel.shipments[release.digest]],
                targets=channel.trust.targets,
                status=channel.signed_status,
                now=channel.now,
            )
        except UndecidedError as error:
            return error.code
        return "committed"

    releases = [channel.approve(version=str(n), counter=n) for n in (2, 3)]
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(publish, releases))
    assert sorted(outcomes) == ["channel-moved", "committed"]
    assert device.refresh(channel.now) == releases[outcomes.index("committed")]
