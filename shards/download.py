"""Download ChestX-ray14's image archives: several at a time, resumed where they were cut, checked by their MD5."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from typing import BinaryIO
from urllib.parse import unquote
from urllib.request import getproxies, proxy_bypass

from tqdm import tqdm
from urllib3 import BaseHTTPResponse, PoolManager, ProxyManager, Retry, Timeout, make_headers
from urllib3.exceptions import HTTPError, MaxRetryError
from urllib3.util import parse_url

from shards.errors import UserError


@dataclass(frozen=True)
class Archive:
    """A file to download: its name on the disk, its address, and its MD5 as 32 hexadecimal digits."""

    name: str
    url: str
    md5: str


NIH_ARCHIVES = tuple(
    Archive(f"images_{number:03d}.tar.gz", f"https://nihcc.box.com/shared/static/{file}.gz", md5)
    for number, (file, md5) in enumerate(
        (
            ("vfk49d74nhbxq3nqjg0900w5nvkorp5c", "fe8ed0a6961412fddcbb3603c11b3698"),
            ("i28rlmbvmfjbl8p2n3ril0pptcmcu9d1", "ab07a2d7cbe6f65ddd97b4ed7bde10bf"),
            ("f1t00wrtdk94satdfb9olcolqx20z2jp", "2301d03bde4c246388bad3876965d574"),
            ("0aowwzs5lhjrceb3qp67ahp0rd1l1etg", "9f1b7f5aae01b13f4bc8e2c44a4b8ef6"),
            ("v5e3goj22zr6h8tzualxfsqlqaygfbsn", "1861f3cd0ef7734df8104f2b0309023b"),
            ("asi7ikud9jwnkrnkj99jnpfkjdes7l6l", "456b53a8b351afd92a35bc41444c58c8"),
            ("jn1b4mw4n6lnh74ovmcjb8y48h8xj07n", "1075121ea20a137b87f290d6a4a5965e"),
            ("tvpxmn7qyrgl0w8wfh9kqfjskv6nmm1j", "b61f34cec3aa69f295fbb593cbd9d443"),
            ("upyy3ml7qdumlgk2rfcvlb9k6gvqq2pj", "442a3caa61ae9b64e61c561294d1e183"),
            ("l6nilvfa9cg3s28tqv1qc1olm3gnz54p", "09ec81c4c31e32858ad8cf965c494b74"),
            ("hhq8fkdgvcari67vfhs7ppg2w6ni4jze", "499aefc67207a5a97692424cf5dbeed5"),
            ("ioqwiy20ihqwyr8pf4c24eazhh281pbu", "dc9fda1757c2de0032b63347a7d2895c"),
        ),
        start=1,
    )
)
"""The twelve archives, 45.08 GB: links from NIH's batch_download_zips.py, which reproduce-chexnet uses too; MD5s from
the FAQ that NIH publishes beside the archives."""

NUM_TRIES = 8
"""Tries in a row that bring no byte before an archive is given up: some two minutes with the waits between them."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds to wait after the first such try, doubled after each further one; and the most."""
TIMEOUT = Timeout(connect=30, read=60)
REDIRECTS_ONLY = Retry(total=10, connect=0, read=0, status=0, other=0, respect_retry_after_header=False)
"""What urllib3 may do by itself: tries after failures are counted here, because a cut archive is resumed."""
CHUNK_BYTES = 1 << 20
TOO_MANY_REQUESTS, NOTHING_LEFT, PARTIAL_CONTENT, OK = 429, 416, 206, 200


def download(
    out: Path, archives: Sequence[Archive] = NIH_ARCHIVES, num_parallel: int = 3, progress: bool = True
) -> list[Path]:
    """Download archives into the folder `out`; go on where an earlier call was cut, killed or failed.

    An archive has its name only when its MD5 is right; until then it is `NAME.part`. One whose MD5 is wrong is kept as
    `NAME.wrong-md5`. One that lies there already is checked, not downloaded again. A failed archive does not stop the
    others. The environment's https_proxy, http_proxy and no_proxy, in either case, are honoured.

    Args:
        out: the folder to write.
        archives: what to download.
        num_parallel: how many at a time.
        progress: show a progress bar; its total is an estimate until every archive's size is known.

    Returns:
        The archives' paths, in order.

    Raises:
        UserError: if an archive cannot be had or its MD5 is wrong, once the others are done; it names all of these.
            Also if `out` cannot be written.
    """
    if num_parallel < 1:
        raise UserError(f"--parallel {num_parallel}: give at least 1")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: {error.strerror}; give another folder") from error
    stop = Event()
    bar = tqdm(unit="B", unit_scale=True, desc="download", disable=not progress)
    with bar:
        total = _Total(bar, len(archives))
        executor = ThreadPoolExecutor(num_parallel)
        try:
            futures = [executor.submit(_download_one, archive, out, total, stop) for archive in archives]
            problems = [problem for problem in (_problem(future) for future in futures) if problem]
        finally:
            stop.set()  # an interruption must not wait for gigabytes
            executor.shutdown(cancel_futures=True)
    if problems:
        raise UserError("; ".join(problems))
    return [out / archive.name for archive in archives]


class _Total:
    """The progress bar of all archives, shared by their threads."""

    def __init__(self, bar: tqdm, num_archives: int) -> None:
        self._bar = bar
        self._num_archives = num_archives
        self._sizes: dict[str, int] = {}
        self._lock = Lock()

    def learn_size(self, name: str, num_bytes: int) -> None:
        """Take an archive's size; the archives not known yet count as the mean of those known."""
        with self._lock:
            self._sizes[name] = num_bytes
            self._bar.total = sum(self._sizes.values()) * self._num_archives // len(self._sizes)

    def add(self, num_bytes: int) -> None:
        """Count bytes that are on the disk; a negative number takes back those that are thrown away."""
        with self._lock:
            self._bar.update(num_bytes)


def _problem(future: Future[None]) -> str | None:
    """Wait for a download; return what its user can mend, if anything."""
    try:
        future.result()
    except UserError as error:
        return str(error)
    return None


def _download_one(archive: Archive, out: Path, total: _Total, stop: Event) -> None:
    whole, partial = out / archive.name, out / f"{archive.name}.part"
    try:
        if whole.exists():
            _check_md5(whole, archive)
            total.learn_size(archive.name, whole.stat().st_size)
            total.add(whole.stat().st_size)
            return
        total.add(_size(partial))
        with _open_pool(archive.url) as pool:
            _fetch(archive, partial, pool, total, stop)
        _check_md5(partial, archive)
        partial.replace(whole)
    except OSError as error:
        raise UserError(f"{partial}: {error.strerror}; make room or give another folder") from error


def _open_pool(url: str) -> PoolManager:
    """Open connections to a server, by the proxy that the environment names for it.

    Raises:
        UserError: if that is no HTTP proxy's address.
    """
    server = parse_url(url)
    proxy = getproxies().get(f"{server.scheme}")
    if not proxy or proxy_bypass(f"{server.netloc}"):
        return PoolManager(timeout=TIMEOUT, retries=REDIRECTS_ONLY)
    address = proxy if "://" in proxy else f"http://{proxy}"
    try:
        user = parse_url(address).auth
        headers = make_headers(proxy_basic_auth=unquote(user)) if user else None
        return ProxyManager(address, proxy_headers=headers, timeout=TIMEOUT, retries=REDIRECTS_ONLY)
    except HTTPError as error:
        shown = proxy.rpartition("@")[2]  # without the user's name and password
        reason = str(error).replace(proxy, shown)
        raise UserError(f"{server.scheme}_proxy={shown}: {reason}; give it as http://HOST:PORT, or unset it") from error


def _fetch(archive: Archive, partial: Path, pool: PoolManager, total: _Total, stop: Event) -> None:
    """Ask for what is missing until nothing is; each byte that comes gives the server all its tries again."""
    num_tries = 0
    most = _size(partial)
    while True:
        try:
            _fetch_rest(archive, partial, pool, total, stop)
            return
        except HTTPError as error:
            num_tries = 1 if _size(partial) > most else num_tries + 1
            most = max(most, _size(partial))
            if num_tries == NUM_TRIES:
                reason = error.reason if isinstance(error, MaxRetryError) else error
                raise UserError(
                    f"{archive.name} from {archive.url}: {reason}; run again to go on from its {_size(partial):,} bytes"
                ) from error
            if stop.wait(min(LONGEST_WAIT, FIRST_WAIT * 2 ** (num_tries - 1))):
                raise CancelledError from error


def _fetch_rest(archive: Archive, partial: Path, pool: PoolManager, total: _Total, stop: Event) -> None:
    """Send one request for the bytes after those on the disk, and write what comes.

    Raises:
        HTTPError: if the connection fails or is cut, or the server is busy or broken (429, 5xx): worth another try.
        UserError: if the server refuses.
    """
    start = _size(partial)
    headers = {"Range": f"bytes={start}-"} if start else {}
    with pool.request("GET", archive.url, headers=headers, preload_content=False) as response:
        if response.status == NOTHING_LEFT and start:
            return  # killed after the last byte: the MD5 tells whether it is the right one
        if response.status == TOO_MANY_REQUESTS or response.status >= 500:
            raise HTTPError(f"HTTP status {response.status}")
        if response.status not in (OK, PARTIAL_CONTENT):
            raise UserError(f"{archive.name} from {archive.url}: HTTP status {response.status}; try again another day")
        if response.status == OK and start:  # the server ignored the range and sends all of it
            total.add(-start)
            start = 0
        if response.length_remaining is not None:
            total.learn_size(archive.name, start + response.length_remaining)
        with partial.open("ab" if start else "wb") as file:
            _write_body(response, file, total, stop)


def _write_body(response: BaseHTTPResponse, file: BinaryIO, total: _Total, stop: Event) -> None:
    """Write what comes as it comes, so that a cut loses nothing."""
    while chunk := response.read1(CHUNK_BYTES, decode_content=False):
        if stop.is_set():
            raise CancelledError
        file.write(chunk)
        total.add(len(chunk))


def _check_md5(path: Path, archive: Archive) -> None:
    """Raise UserError and keep the file as NAME.wrong-md5 if its MD5 is not the archive's."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    if digest.hexdigest() != archive.md5:
        aside = path.with_name(f"{archive.name}.wrong-md5")
        path.replace(aside)
        raise UserError(
            f"{archive.name}: its MD5 is {digest.hexdigest()}, not {archive.md5}: kept as {aside}; run again to "
            "download it anew"
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
