"""The faults of a publisher, each with what must be said of it and the exit status; and their table."""

from __future__ import annotations

import contextlib
import lzma
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from downloads.certificate import context
from downloads.publishing import DISK, FILE, HOST, NAME, Site, listing, published, sha256
from downloads.server import File, Server, serving
from downloads.signing import lasting, why_not
from virtproof.images.fetch.http import Patience

KIB = 1 << 10
NEW = DISK[:512] + DISK[:511:-1]
BY_HTTP = "is neither signed nor comes by https"
SOON = Patience(silence_s=0.3, slow_s=0.4, slow_bytes=4 * KIB, attempts=2, pause_s=0.001)


@dataclass(frozen=True)
class Fault:
    """``make`` puts it into a publisher that is in order. ``said``: a part of the line that tells.

    ``status``: of the command. ``times``: requests for the image, where their number matters.
    """

    name: str
    make: Callable[[Site], None]
    said: str
    status: int = 1
    options: tuple[str, ...] = ()
    times: int | None = None
    signed: bool = False


def _again(
    site: Site, data: bytes, dated: str = "Mon, 02 Nov 2026 12:00:00 GMT"
) -> Callable[[], None]:
    """The publisher puts another image there."""

    def change() -> None:
        site.image.data, site.image.etag, site.image.dated = data, '"2"', dated
        site.image.then = None

    return change


def breaks_off(site: Site) -> None:
    site.image.cuts = [700 * KIB, 600 * KIB]


def breaks_off_always(site: Site) -> None:
    site.image.cuts = [700 * KIB, *[0] * 9]


def breaks_off_at_once(site: Site) -> None:
    site.image.cuts = [0] * 9


def no_ranges(site: Site) -> None:
    site.image.cuts, site.image.ranges = [700 * KIB], "no"


def no_validator(site: Site) -> None:
    site.image.cuts, site.image.etag, site.image.dated = [700 * KIB], "", ""


def changed_between(site: Site) -> None:
    site.image.cuts = [700 * KIB]
    site.image.then = _again(site, NEW)
    site.list.data = listing(NEW)


def changed_unseen(site: Site) -> None:
    """Of the same size, and the server does not look at If-Range."""
    changed_between(site)
    site.image.ranges = "blind"


def grown_unseen(site: Site) -> None:
    grown = NEW + b"more"
    changed_between(site)
    site.image.then, site.image.ranges = _again(site, grown), "blind"
    site.list.data = listing(grown)


def damaged(site: Site) -> None:
    site.image.flips = [1 << 20]


def damaged_first_part(site: Site) -> None:
    site.image.cuts, site.image.flips = [700 * KIB], [KIB]


def too_short(site: Site) -> None:
    site.image.data = DISK[: 1 << 20]
    site.list.data = f"# {FILE}: {len(DISK)} bytes\nSHA256 ({FILE}) = {sha256(DISK)}\n".encode()


def too_large(site: Site) -> None:
    site.space_mib = 1


def endless(site: Site) -> None:
    site.space_mib, site.image.chunked = 1, True


def stale_list(site: Site) -> None:
    _again(site, NEW)()


def pinned_is_old(site: Site) -> None:
    site.more = [f'sha256 = "{sha256(NEW)}"']


def new_in_between(site: Site) -> None:
    """The list is fetched, then image and list are replaced, then the image is fetched."""

    def change() -> None:
        _again(site, NEW)()
        site.list.data = listing(NEW)

    site.list.then = change


def not_listed(site: Site) -> None:
    site.list.data = listing(DISK, "other.raw")


def listed_twice(site: Site) -> None:
    site.list.data = listing(DISK) + listing(NEW)


def weak_list(site: Site) -> None:
    site.list.data = b"d41d8cd98f00b204e9800998ecf8427e  guest.raw\n"


def portal(site: Site) -> None:
    site.list.data = b"<html><body>Please log in to the network</body></html>\n"


def huge_list(site: Site) -> None:
    site.list.data = b"#" * (2 << 20)


def moved(site: Site) -> None:
    site.put("new/place", DISK)
    site.image.location = "/new/place"


def loop(site: Site) -> None:
    site.image.location = "/b"
    site.server.files["/b"] = File(b"", location=f"/{FILE}")


def chain(site: Site) -> None:
    site.image.location = "/1"
    for number in range(1, 20):
        site.server.files[f"/{number}"] = File(b"", location=f"/{number + 1}")


def elsewhere(site: Site) -> None:
    site.image.location = "file:///etc/passwd"


def nowhere(site: Site) -> None:
    del site.server.files[f"/{FILE}"]


def busy(site: Site) -> None:
    site.image.statuses = [503, 503]


def forbidden(site: Site) -> None:
    site.image.statuses = [403]


def drips(site: Site) -> None:
    site.image.drip_s, site.patience = 0.01, SOON


def silent(site: Site) -> None:
    site.image.silent, site.patience = True, SOON


def encoded(site: Site) -> None:
    site.image.coding = "gzip"


def offline(site: Site) -> None:
    site.mirror = f"{HOST}=http://nowhere.invalid/"


def refuses(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    site.mirror = f"{HOST}=http://127.0.0.1:{port}/"


def proxy_refuses(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    site.environment = {"http_proxy": f"http://jo:secret@127.0.0.1:{port}"}


def _over_tls(site: Site, *, trusted: bool) -> Server:
    """A second server, over TLS, to which the publisher's addresses lead."""
    tls, certificate = context(site.catalog)
    server = site.stack.enter_context(serving(tls))
    server.files |= site.server.files
    site.mirror = f"{HOST}={server.url}/"
    if trusted:
        site.environment = {"SSL_CERT_FILE": str(certificate)}
    return server


def over_tls(site: Site) -> None:
    _over_tls(site, trusted=True)


def unknown_certificate(site: Site) -> None:
    _over_tls(site, trusted=False)


def list_by_http(site: Site) -> None:
    server = _over_tls(site, trusted=True)
    server.files["/SHA256SUMS"] = File(b"", location=f"{site.server.url}/SHA256SUMS")


def image_by_http(site: Site) -> None:
    server = _over_tls(site, trusted=True)
    server.files[f"/{FILE}"] = File(b"", location=f"{site.server.url}/{FILE}")


def no_disk(site: Site) -> None:
    site.image.data = b"<html>404, but with a 200</html>\n" * 40000
    site.list.data = listing(site.image.data)


def backed(site: Site) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.qcow2"
        argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", "/etc/passwd", "-F", "raw"]
        subprocess.run([*argv, str(path), "8M"], check=True)
        site.image.data = path.read_bytes()
    site.form = "qcow2"
    site.list.data = listing(site.image.data)


def _packed(site: Site, data: bytes) -> None:
    site.form, site.image.data = "raw.xz", data
    site.list.data = listing(data)


def xz_damaged(site: Site) -> None:
    packed = bytearray(lzma.compress(DISK, preset=0))
    packed[len(packed) // 2] ^= 0xFF
    _packed(site, bytes(packed))


def xz_cut(site: Site) -> None:
    _packed(site, lzma.compress(DISK, preset=0)[:-4000])


def xz_bomb(site: Site) -> None:
    _packed(site, lzma.compress(b"\1" * (80 << 20), preset=0))


def _signed(site: Site, kind: str = "", by: str = "") -> None:
    """The list gets a detached signature; the catalog asks for the key of ``kind``."""
    signer = lasting(by or kind)
    site.put("SHA256SUMS.gpg", signer.detached(site.list.data))
    key = lasting(kind)
    site.more = [f'signature = "{HOST}SHA256SUMS.gpg"', f'key = "{key.fingerprint}"']
    keys = site.catalog / "keys"
    keys.mkdir()
    (keys / "publisher.asc").write_bytes(key.public(armoured=True))


def signed(site: Site) -> None:
    _signed(site)


def signed_inline(site: Site) -> None:
    """With a line before and after, which nobody signed."""
    _signed(site)
    text = lasting("").clear_signed(listing(DISK))
    site.list.data = listing(NEW) + text + listing(NEW)
    site.more = ['signature = "inline"', site.more[1]]


def changed_list(site: Site) -> None:
    _signed(site)
    _again(site, NEW)()
    site.list.data = listing(NEW)


def other_signer(site: Site) -> None:
    _signed(site, by="other")


def expired_key(site: Site) -> None:
    _signed(site, "expired")


def no_signature(site: Site) -> None:
    _signed(site)
    site.put("SHA256SUMS.gpg", b"<html>Please log in</html>")


def no_key(site: Site) -> None:
    _signed(site)
    shutil.rmtree(site.catalog / "keys")


def wrong_key_given(site: Site) -> None:
    _signed(site)
    path = site.catalog / "given.gpg"
    path.write_bytes(lasting("other").public())
    site.environment = {"VIRTPROOF_KEYS": str(path)}


def image_changed_though_signed(site: Site) -> None:
    """The signature is over the image, and the list fits what is served."""
    _signed(site)
    site.put("guest.raw.sig", lasting("").detached(DISK))
    site.image.data, site.list.data = NEW, listing(NEW)
    site.more = [f'signature = "{HOST}guest.raw.sig"', "signs_image = true", site.more[1]]


def past(site: Site) -> None:
    site.end_of_life = "2020-06-30"


FAULTS = (
    Fault("breaks off twice in the middle", breaks_off, "going on after 1300 KiB", 0, times=3),
    Fault("breaks off, and then at once, always", breaks_off_always, "are kept", times=4),
    Fault(
        "breaks off before the first byte, always", breaks_off_at_once, "broke off after 0", times=4
    ),
    Fault("breaks off, and has no ranges", no_ranges, "that does not resume: from", 0, times=2),
    Fault(
        "breaks off, and has neither ETag nor date", no_validator, "attempt 2 follows", 0, times=2
    ),
    Fault("another image in between", changed_between, "that does not resume: from", 0, times=2),
    Fault("another in between, If-Range ignored", changed_unseen, "once more, whole", 0, times=3),
    Fault("a larger one in between, If-Range ignored", grown_unseen, "another one now", 0, times=3),
    Fault("damages a byte", damaged, "damaged on its way", times=1),
    Fault("damages a byte, then breaks off", damaged_first_part, "once more, whole", 0, times=3),
    Fault("fewer bytes than its list says", too_short, "the checksum file says 2097152"),
    Fault("more bytes than the catalog allows", too_large, "serves 2 MiB, the catalog allows 1"),
    Fault("more than allowed, and no length", endless, "serves more than it may"),
    Fault("a stale list of checksums", stale_list, "the list is stale: of Sun, 01 Nov 2026"),
    Fault("another image than the pinned one", pinned_is_old, "the catalog says"),
    Fault("image and list replaced between two requests", new_in_between, "is right", 0, times=1),
    Fault("a list without the image", not_listed, "SHA256SUMS lists no guest.raw"),
    Fault("a list with two digests of it", listed_twice, "twice, with different digests"),
    Fault("a list of MD5", weak_list, "neither SHA-256 nor SHA-512"),
    Fault("a portal's page instead of the list", portal, "lists no guest.raw (nor any other"),
    Fault("a list of 2 MiB", huge_list, "more than 1024 KiB"),
    Fault("a list by http that nobody signed", lambda _: None, BY_HTTP, 0),
    Fault("redirects", moved, "is right", 0),
    Fault("redirects in a loop", loop, "redirects in a loop"),
    Fault("redirects 20 times", chain, "redirects more than 5 times"),
    Fault("redirects to file:", elsewhere, "redirects from http to file: not followed"),
    Fault(
        "redirects the list from https to http", list_by_http, "from https to http: not followed"
    ),
    Fault("redirects the image from https to http", image_by_http, "is right", 0, times=1),
    Fault("all by https", over_tls, "is right", 0),
    Fault("a certificate that nobody knows", unknown_certificate, "its certificate is not good"),
    Fault("has no such file", nowhere, "HTTP 404 Not Found"),
    Fault("is busy twice (503)", busy, "HTTP 503 Service Unavailable; attempt 2", 0, times=3),
    Fault("forbids (403)", forbidden, "HTTP 403 Forbidden", times=1),
    Fault("drips a byte at a time", drips, "is too slow: not even 4 KiB in 0.4 s"),
    Fault("takes the connection and is silent", silent, "no answer in time", times=1),
    Fault("sends it encoded", encoded, "comes encoded as 'gzip'"),
    Fault("cannot be resolved (offline)", offline, "its name cannot be resolved"),
    Fault("refuses the connection", refuses, "refuses the connection"),
    Fault("a proxy that refuses", proxy_refuses, "(through the proxy 127.0.0.1)"),
    Fault("no disk in the file", no_disk, "is no disk image"),
    Fault("a disk with a backing file", backed, "has a backing file"),
    Fault("damaged xz", xz_damaged, "its xz data are damaged"),
    Fault("xz that ends early", xz_cut, "its xz data end too early"),
    Fault("xz of more than is allowed", xz_bomb, "unpacked it takes more than 64 MiB"),
    Fault("a signed list", signed, "signed by", 0, signed=True),
    Fault("a signed list with lines around it", signed_inline, "signed by", 0, signed=True),
    Fault("a list changed after signing", changed_list, "the signature does not fit", signed=True),
    Fault(
        "a list signed by another", other_signer, "it is by ANOTHER-KEY, not by KEY", signed=True
    ),
    Fault("a list signed by an expired key", expired_key, "the key has expired", signed=True),
    Fault(
        "a page instead of the signature", no_signature, "bad signature: there is none", signed=True
    ),
    Fault(
        "an image changed after signing, its list too",
        image_changed_though_signed,
        "the signature does not fit",
        signed=True,
    ),
    Fault("a key that is not here", no_key, "is not on this machine", signed=True, times=0),
    Fault("the same, and --unsigned", no_key, "not looked at", 0, ("--unsigned",), signed=True),
    Fault("a given file without that key", wrong_key_given, "does not hold", signed=True, times=0),
    Fault("a system past its end of life", past, "past its end of life, which was 2020-06-30", 0),
)


@dataclass(frozen=True)
class Outcome:
    """What came of it: the exit status, the lines that tell, and the site as it is left."""

    status: int
    lines: list[str]
    times: int
    kept: bool
    right: bool
    leftovers: list[str]


def outcome(fault: Fault) -> Outcome:
    """Fetch from a publisher with that fault."""
    with tempfile.TemporaryDirectory() as folder, published(Path(folder)) as site:
        fault.make(site)
        status, lines = site.fetch(*fault.options)
        shown = site.plain(lines)
        kept = site.fetched()
        return Outcome(
            status,
            [
                _unsigned(line)
                for line in shown
                if ": downloading " not in line and "CACHE/" not in line
            ],
            sum(path == f"/{FILE}" for path, _ in site.server.asked),
            bool(kept),
            kept in ([DISK], [site.image.data]),
            site.leftovers(),
        )


def _unsigned(line: str) -> str:
    """Without what is another each time: the keys that are made for the moment."""
    if not why_not():
        for kind, name in (("", "KEY"), ("other", "ANOTHER-KEY"), ("expired", "EXPIRED-KEY")):
            with contextlib.suppress(ValueError):
                line = line.replace(lasting(kind).fingerprint, name)
                line = line.replace(lasting(kind).fingerprint[-16:], name)
    return line.removeprefix("virtproof: ").removeprefix(f"{NAME}: ")


def row(fault: Fault) -> str:
    found = outcome(fault)
    told = [line for line in found.lines if BY_HTTP not in line or BY_HTTP in fault.said]
    said = "<br>".join(line.replace("|", "\\|").replace("<", "&lt;") for line in told)
    return f"| {fault.name} | {said} | {found.status} |"


def table() -> str:
    """The table of all faults, run now."""
    head = "| the publisher | what is said | exit status |\n|---|---|---|\n"
    return head + "\n".join(row(fault) for fault in FAULTS) + "\n"
