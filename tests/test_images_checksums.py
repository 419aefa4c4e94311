"""Publishers' lists of checksums, and files of keys, in the forms that they have: pure, and untrusted."""

from __future__ import annotations

import base64
import random

import pytest

from downloads.signing import lasting, why_not
from virtproof.errors import ImageError, UsageError
from virtproof.images.fetch import checksums, openpgp
from virtproof.images.fetch.wishes import Wishes, wishes

A, B, C = "a" * 64, "b" * 64, "c" * 128
FORMS = {
    "gnu": f"{B}  other.qcow2\n{A}  guest.qcow2\n",
    "gnu, binary": f"{B} *other.qcow2\n{A} *guest.qcow2\n",
    "gnu, with a folder": f"{A}  ./x/guest.qcow2\n",
    "upper case": f"{A.upper()}  guest.qcow2\n",
    "carriage returns": f"{A}  guest.qcow2\r\n",
    "bsd": f"SHA256 (other.qcow2) = {B}\nSHA256 (guest.qcow2) = {A}\n",
    "bsd, with a size": f"# guest.qcow2: 1234 bytes\nSHA256 (guest.qcow2) = {A}\n",
    "alone": f"{A}\n",
    "beside MD5": f"MD5 (guest.qcow2) = {'d' * 32}\nSHA256 (guest.qcow2) = {A}\n",
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_every_form_is_read(text: str) -> None:
    found = checksums.find(text, "guest.qcow2", "LIST")
    assert (found.name, found.algorithm, found.digest) == ("guest.qcow2", "sha256", A)
    assert found.size == (1234 if "1234" in text else None)


def test_the_longest_digest_counts() -> None:
    found = checksums.find(f"{A}  guest\n{C}  guest\n", "guest", "LIST")
    assert (found.algorithm, found.digest) == ("sha512", C)


def test_a_star_takes_the_one_that_fits() -> None:
    text = f"{A}  guest-2.1.qcow2\n{B}  guest-2.1.ova\n"
    assert checksums.find(text, "guest-*.qcow2", "LIST").name == "guest-2.1.qcow2"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "LIST lists no guest-"),
        (f"{A}\n", "LIST lists no guest-"),
        (f"{A}  guest-1.qcow2\n{B}  guest-2.qcow2\n", "LIST lists 2 files"),
        (f"{A}  guest-1.qcow2\n{B}  guest-1.qcow2\n", "twice, with different digests"),
        (f"{'a' * 40}  guest-1.qcow2\n", "neither SHA-256 nor SHA-512"),
        (f"{'a' * 63}  guest-1.qcow2\n", "neither SHA-256 nor SHA-512"),
        (f"{A}  guest-%2e%2e?x.qcow2\n", "LIST lists no guest-"),
        (f"{A}  guest-\x1b[31m.qcow2\n", "LIST lists no guest-"),
    ],
)
def test_what_is_not_clear_is_one_line(text: str, said: str) -> None:
    with pytest.raises(ImageError) as caught:
        checksums.find(text, "guest-*.qcow2", "LIST")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "gpg")
@pytest.mark.parametrize("armoured", [False, True])
def test_a_key_is_known_by_its_fingerprint(*, armoured: bool) -> None:
    """As gpg says it: also among others, in one block or in several."""
    one, two = lasting(""), lasting("other")
    data = one.public(armoured=armoured) + two.public(armoured=armoured)
    packets = openpgp.binary(data)
    assert openpgp.fingerprints(packets) == {one.fingerprint, two.fingerprint}
    assert packets == one.public() + two.public()


def test_a_file_that_is_no_key_has_none() -> None:
    chance = random.Random(1)
    head = b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n"
    tail = b"-----END PGP PUBLIC KEY BLOCK-----\n"
    data = [chance.randbytes(chance.randrange(200)) for _ in range(500)]
    data += [head + base64.b64encode(one) + b"\n" + tail for one in data]
    for one in [b"", b"\x99\xff\xff", b"\xc6\xff\xff\xff\xff\xff", b"\xc6\xc0", *data]:
        assert all(len(found) == 40 for found in openpgp.fingerprints(openpgp.binary(one)))


def test_the_longest_beginning_says_where() -> None:
    wished = wishes(["https://a/=http://x/", "https://a/b/=http://y/"])
    assert wished.address("https://a/c/d") == "http://x/c/d"
    assert wished.address("https://a/b/c") == "http://y/c"
    assert wished.address("https://other/b") == "https://other/b"


def test_options_go_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTPROOF_MIRROR", "https://a/=http://x/ https://b/=http://z/")
    monkeypatch.setenv("VIRTPROOF_KEYS", "keys")
    assert wishes() == Wishes((("https://a/", "http://x/"), ("https://b/", "http://z/")), "keys")
    assert wishes(["https://a/=http://y/"], "own") == Wishes((("https://a/", "http://y/"),), "own")


def test_a_mirror_that_is_none_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTPROOF_MIRROR", "http://mirror.example/")
    with pytest.raises(UsageError, match="is not FROM=TO"):
        wishes()
