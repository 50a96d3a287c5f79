import dataclasses
import hashlib
import re
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from shards import download as module
from shards.download import NIH_ARCHIVES, Archive, download
from shards.errors import UserError

SIZE = 100_000


def content(name: str) -> bytes:
    return hashlib.shake_128(name.encode()).digest(SIZE)


class Server(ThreadingHTTPServer):
    """Serves `/NAME` with the behaviour that `behave[NAME]` gives, and keeps the ranges asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behave: dict[str, Callable[[Handler, bytes, int], None]] = {}
        self.asked: dict[str, list[str | None]] = {}

    def archive(self, name: str, behave: "Callable[[Handler, bytes, int], None] | None" = None) -> Archive:
        self.behave[name] = behave or whole
        self.asked[name] = []
        return Archive(name, f"http://127.0.0.1:{self.server_port}/{name}", hashlib.md5(content(name)).hexdigest())


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:  # noqa: N802
        name = self.path.rpartition("/")[2]  # a proxy is asked for the whole address
        self.server.asked[name].append(self.headers["Range"])
        with suppress(ConnectionError):  # the client has gone
            self.server.behave[name](self, content(name), len(self.server.asked[name]))

    def do_CONNECT(self) -> None:  # noqa: N802
        self.server.asked.setdefault("tunnels", []).append(self.path)
        self.answer(403, b"")

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def start(self) -> int:
        match = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "bytes=0-")
        assert match
        return int(match[1])

    def answer(self, status: int, body: bytes, num_sent: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:num_sent])
        self.close_connection = True


def whole(handler: Handler, data: bytes, _: int) -> None:
    start = handler.start()
    if start >= len(data):
        handler.answer(416, b"")
    else:
        handler.answer(206 if start else 200, data[start:])


def cut_twice(handler: Handler, data: bytes, num_requests: int) -> None:
    start = handler.start()
    handler.answer(206 if start else 200, data[start:], 30_000 if num_requests < 3 else None)


def ignore_range(handler: Handler, data: bytes, num_requests: int) -> None:
    handler.answer(200, data, 30_000 if num_requests == 1 else None)


def busy_twice(handler: Handler, data: bytes, num_requests: int) -> None:
    if num_requests < 3:
        handler.answer(503, b"busy")
    else:
        whole(handler, data, num_requests)


def wrong_file(handler: Handler, data: bytes, _: int) -> None:
    handler.answer(200, b"<html>this is no archive</html>")


def always_cut_at_the_same_byte(handler: Handler, data: bytes, _: int) -> None:
    handler.answer(200, data, 500)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(module, "FIRST_WAIT", 0.001)
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(out: Path, *archives: Archive, num_parallel: int = 3) -> list[Path]:
    return download(out, archives, num_parallel, progress=False)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_archives_arrive_whole_under_their_names(server: Server, tmp_path: Path) -> None:
    archives = [server.archive(f"images_{number:03d}.tar.gz") for number in range(1, 6)]
    paths = fetch(tmp_path / "new" / "out", *archives)
    assert [path.name for path in paths] == [archive.name for archive in archives]
    assert [path.read_bytes() for path in paths] == [content(archive.name) for archive in archives]
    assert names(tmp_path / "new" / "out") == {archive.name for archive in archives}


@pytest.mark.parametrize("num_parallel", [1, 3])
def test_no_more_than_asked_for_at_a_time(server: Server, tmp_path: Path, num_parallel: int) -> None:
    meet = threading.Barrier(num_parallel)
    active = []
    most_active = []

    def wait_for_others(handler: Handler, data: bytes, num_requests: int) -> None:
        active.append(handler)
        meet.wait(timeout=10)
        most_active.append(len(active))
        meet.wait(timeout=10)
        active.remove(handler)
        whole(handler, data, num_requests)

    archives = [server.archive(f"{number}.tar.gz", wait_for_others) for number in range(6)]
    fetch(tmp_path, *archives, num_parallel=num_parallel)
    assert most_active == [num_parallel] * 6


def test_a_cut_download_goes_on_where_it_was_cut(server: Server, tmp_path: Path) -> None:
    (path,) = fetch(tmp_path, server.archive("a", cut_twice))
    assert path.read_bytes() == content("a")
    assert server.asked["a"] == [None, "bytes=30000-", "bytes=60000-"]


def test_a_server_that_ignores_range_sends_all_again(server: Server, tmp_path: Path) -> None:
    (path,) = fetch(tmp_path, server.archive("a", ignore_range))
    assert path.read_bytes() == content("a")
    assert server.asked["a"] == [None, "bytes=30000-"]


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    (path,) = fetch(tmp_path, server.archive("a", busy_twice))
    assert path.read_bytes() == content("a")
    assert len(server.asked["a"]) == 3


@pytest.mark.parametrize("num_bytes", [12_345, SIZE])
def test_what_an_earlier_run_left_is_not_asked_for_again(server: Server, tmp_path: Path, num_bytes: int) -> None:
    (tmp_path / "a.part").write_bytes(content("a")[:num_bytes])
    (path,) = fetch(tmp_path, server.archive("a"))
    assert path.read_bytes() == content("a")
    assert server.asked["a"] == [f"bytes={num_bytes}-"]
    assert names(tmp_path) == {"a"}


def test_a_whole_archive_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    archive = server.archive("a")
    fetch(tmp_path, archive)
    fetch(tmp_path, archive)
    assert server.asked["a"] == [None]


def test_a_wrong_file_is_kept_aside_and_named_while_others_arrive(server: Server, tmp_path: Path) -> None:
    archives = [server.archive("wrong", wrong_file), server.archive("right")]
    digest = hashlib.md5(b"<html>this is no archive</html>").hexdigest()
    with pytest.raises(UserError, match=rf"^wrong: its MD5 is {digest}, not {archives[0].md5}: kept as .*wrong-md5"):
        fetch(tmp_path, *archives, num_parallel=1)
    assert names(tmp_path) == {"wrong.wrong-md5", "right"}
    server.behave["wrong"] = whole
    fetch(tmp_path, *archives)
    assert (tmp_path / "wrong").read_bytes() == content("wrong")


def test_a_file_of_that_name_with_other_bytes_is_kept_aside(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content("a")[:-1])
    with pytest.raises(UserError, match=r"^a: its MD5 is .* run again"):
        fetch(tmp_path, server.archive("a"))
    assert names(tmp_path) == {"a.wrong-md5"}


def test_a_server_that_never_recovers_is_given_up_and_what_came_is_kept(server: Server, tmp_path: Path) -> None:
    archive = server.archive("a", always_cut_at_the_same_byte)
    with pytest.raises(UserError, match=r"^a from http://127.* run again to go on from its 500 bytes") as caught:
        fetch(tmp_path, archive)
    assert len(str(caught.value).splitlines()) == 1
    assert len(server.asked["a"]) == module.NUM_TRIES
    assert names(tmp_path) == {"a.part"}


def test_a_refusal_is_not_repeated(server: Server, tmp_path: Path) -> None:
    archive = server.archive("a", lambda handler, data, _: handler.answer(404, b"gone"))
    with pytest.raises(UserError, match="HTTP status 404"):
        fetch(tmp_path, archive)
    assert server.asked["a"] == [None]


def test_no_server_at_all_is_one_clear_line(server: Server, tmp_path: Path) -> None:
    nowhere = Archive("a", "http://127.0.0.1:1/a", "0" * 32)
    with pytest.raises(UserError, match=r"^a from http://127.0.0.1:1/a: .*Connection refused; run again"):
        fetch(tmp_path, nowhere)


def elsewhere(archive: Archive, scheme: str = "http") -> Archive:
    """The same archive at a server that cannot be found without a proxy."""
    return dataclasses.replace(archive, url=f"{scheme}://archives.invalid/{archive.name}")


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY"])
def test_a_proxy_is_used(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    users = []

    def keep_user(handler: Handler, data: bytes, num_requests: int) -> None:
        users.append(handler.headers["Proxy-Authorization"])
        cut_twice(handler, data, num_requests)

    if name == "http_proxy":
        monkeypatch.setenv(name, f"http://me:pass%20word@127.0.0.1:{server.server_port}")
    else:
        monkeypatch.setenv(name, f"127.0.0.1:{server.server_port}")
    (path,) = fetch(tmp_path, elsewhere(server.archive("a", keep_user)))
    assert path.read_bytes() == content("a")
    user = f"Basic {b64encode(b'me:pass word').decode()}" if name == "http_proxy" else None
    assert users == [user] * 3


def test_a_secure_archive_is_asked_for_through_the_proxys_tunnel(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.server_port}")
    with pytest.raises(UserError, match=r"^a from https://archives.invalid/a: .*403.*run again"):
        fetch(tmp_path, elsewhere(server.archive("a"), "https"))
    assert set(server.asked["tunnels"]) == {"archives.invalid:443"}


def test_no_proxy_is_used_for_servers_that_need_none(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    (path,) = fetch(tmp_path, server.archive("a"))
    assert path.read_bytes() == content("a")


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "http://127.0.0.1:port"])
def test_a_proxy_of_no_use_is_named(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(UserError, match=rf"^http_proxy={proxy}: .*; give it as http://HOST:PORT") as caught:
        fetch(tmp_path, server.archive("a"))
    assert len(str(caught.value).splitlines()) == 1


def test_a_proxys_password_is_not_printed(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://name:secret@127.0.0.1:port")
    with pytest.raises(UserError, match="^http_proxy=127.0.0.1:port: ") as caught:
        fetch(tmp_path, server.archive("a"))
    assert "secret" not in str(caught.value)


def test_an_interruption_stops_the_other_downloads(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(total: object, name: str, num_bytes: int) -> None:
        if name == "first":
            raise KeyboardInterrupt

    def slow(handler: Handler, data: bytes, _: int) -> None:
        handler.answer(200, data, 0)
        for start in range(0, len(data), 1000):
            handler.wfile.write(data[start : start + 1000])
            time.sleep(0.01)

    monkeypatch.setattr(module._Total, "learn_size", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path, server.archive("first"), server.archive("second", slow))
    assert (tmp_path / "second.part").stat().st_size < SIZE


def test_bad_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--parallel 0"):
        fetch(tmp_path, num_parallel=0)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="file: File exists"):
        fetch(tmp_path / "file")


def test_nihs_list_has_twelve_archives_in_order() -> None:
    assert [archive.name for archive in NIH_ARCHIVES] == [f"images_{number:03d}.tar.gz" for number in range(1, 13)]
    assert len({archive.url for archive in NIH_ARCHIVES}) == len({archive.md5 for archive in NIH_ARCHIVES}) == 12
    assert all(re.fullmatch("[0-9a-f]{32}", archive.md5) for archive in NIH_ARCHIVES)


@pytest.mark.real
def test_nihs_links_are_those_of_the_published_list(nih: Path) -> None:
    links = (nih / "download_links.txt").read_text().split()
    assert [archive.url for archive in NIH_ARCHIVES] == links
