"""Catalogs (.cat): a signed list of digests, and for which Windows and devices. Bytes in, facts out.

A catalog is a CTL in a PKCS #7 message. Version 1 names a member by its SHA-1 in hexadecimal UTF-16,
version 2 by the digest's bytes; both may hold the member's digest a second time, with its algorithm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from asn1crypto import cms, core, parser

from virtproof.errors import PackageError
from virtproof.windows.certificates import Trust
from virtproof.windows.signature import Signature, read_signature

LIMIT_BYTES = 64 << 20
CTL = "1.3.6.1.4.1.311.10.1"
CATALOG_LIST = "1.3.6.1.4.1.311.12.1.1"
NAME_VALUE = "1.3.6.1.4.1.311.12.2.1"
INDIRECT_DATA = "1.3.6.1.4.1.311.2.1.4"
_ALGORITHMS = {20: "sha1", 32: "sha256"}  # by the digest's length


class CatalogError(PackageError):
    """The bytes are no catalog."""


class _Oid(core.Sequence):  # type: ignore[misc]  # asn1crypto has no type hints
    _fields: ClassVar = [
        ("oid", core.ObjectIdentifier),
        ("parameters", core.Any, {"optional": True}),
    ]


class _Values(core.SetOf):  # type: ignore[misc]
    _child_spec = core.Any


class _MemberAttribute(core.Sequence):  # type: ignore[misc]
    _fields: ClassVar = [("type", core.ObjectIdentifier), ("values", _Values)]


class _MemberAttributes(core.SetOf):  # type: ignore[misc]
    _child_spec = _MemberAttribute


class _Member(core.Sequence):  # type: ignore[misc]
    _fields: ClassVar = [
        ("id", core.OctetString),
        ("attributes", _MemberAttributes, {"optional": True}),
    ]


class _Members(core.SequenceOf):  # type: ignore[misc]
    _child_spec = _Member


class _Usages(core.SequenceOf):  # type: ignore[misc]
    _child_spec = core.ObjectIdentifier


class _Extension(core.Sequence):  # type: ignore[misc]
    _fields: ClassVar = [
        ("type", core.ObjectIdentifier),
        ("critical", core.Boolean, {"default": False}),
        ("value", core.OctetString),
    ]


class _Extensions(core.SequenceOf):  # type: ignore[misc]
    _child_spec = _Extension


class _Time(core.Choice):  # type: ignore[misc]
    _alternatives: ClassVar = [("utc", core.UTCTime), ("general", core.GeneralizedTime)]


class _Ctl(core.Sequence):  # type: ignore[misc]
    _fields: ClassVar = [
        ("version", core.Integer, {"default": 0}),
        ("usage", _Usages),
        ("list_id", core.OctetString, {"optional": True}),
        ("sequence", core.Integer, {"optional": True}),
        ("this_update", _Time),
        ("next_update", _Time, {"optional": True}),
        ("algorithm", _Oid),
        ("members", _Members, {"optional": True}),
        ("extensions", _Extensions, {"explicit": 0, "optional": True}),
    ]


class _NameValue(core.Sequence):  # type: ignore[misc]
    _fields: ClassVar = [
        ("name", core.BMPString),
        ("flags", core.Integer),
        ("value", core.OctetString),
    ]


class _DigestInfo(core.Sequence):  # type: ignore[misc]
    _fields: ClassVar = [("algorithm", _Oid), ("digest", core.OctetString)]


class _IndirectData(core.Sequence):  # type: ignore[misc]
    _fields: ClassVar = [("data", core.Any), ("digest", _DigestInfo)]


@dataclass(frozen=True, slots=True)
class Member:
    """A file that the catalog vouches for: its digests, and the names and values beside them."""

    digests: tuple[bytes, ...]
    values: dict[str, str]  # as in {"File": "viostor.inf", "OSAttr": "2:10.0"}

    @property
    def file(self) -> str:
        return self.values.get("File", "")


@dataclass(frozen=True, slots=True)
class Catalog:
    """A catalog. ``values`` are its own names and values, of which HWID1, HWID2 ... are the devices."""

    members: tuple[Member, ...]
    values: dict[str, str]
    signature: Signature | None  # None where nobody has signed

    @property
    def systems(self) -> tuple[str, ...]:
        """The OS attribute: names such as ``_v100_X64``."""
        return tuple(name.strip() for name in self.values.get("OS", "").split(",") if name.strip())

    @property
    def hardware_ids(self) -> tuple[str, ...]:
        """In capitals, in the order of their numbers."""
        found = [
            (int(name[4:]), value.upper())
            for name, value in self.values.items()
            if name.upper().startswith("HWID") and name[4:].isdigit()
        ]
        return tuple(value for _, value in sorted(found))

    @property
    def algorithms(self) -> frozenset[str]:
        """Of the members' digests."""
        lengths = {len(digest) for member in self.members for digest in member.digests}
        return frozenset(_ALGORITHMS[length] for length in lengths if length in _ALGORITHMS)

    def holds(self, digest: bytes) -> bool:
        return any(digest in member.digests for member in self.members)

    def of_file(self, name: str) -> tuple[Member, ...]:
        """The members that are said to be this file; mostly two, one for each algorithm."""
        return tuple(one for one in self.members if one.file.lower() == name.lower())


def read(data: bytes, trust: Trust) -> Catalog:
    """The catalog of these bytes, its signature judged by ``trust``. CatalogError, and nothing else."""
    if len(data) > LIMIT_BYTES:
        raise CatalogError(f"{len(data)} bytes are more than any catalog has")
    try:
        message = cms.ContentInfo.load(data, strict=True)
        if message["content_type"].native != "signed_data":
            raise CatalogError("is no catalog: no PKCS #7 message with signed data")
        signed = message["content"]
        inner = signed["encap_content_info"]
        if inner["content_type"].dotted != CTL:
            raise CatalogError("is no catalog: what is signed is no CTL")
        der = parser.parse(inner["content"].dump())[4]
        ctl = _Ctl.load(der, strict=True)
        if [one.dotted for one in ctl["usage"]] != [CATALOG_LIST]:
            raise CatalogError("is a CTL of another kind than a catalog")
        extensions = [one for one in ctl["extensions"] if one["type"].dotted == NAME_VALUE]
        return Catalog(
            tuple(_member(one) for one in ctl["members"]),
            dict(_name_value(one["value"].native) for one in extensions),
            read_signature(signed, parser.parse(der)[4], trust),
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise CatalogError(f"is no catalog: {why[:120]}") from None


def _member(member: _Member) -> Member:
    digests = [_identity(member["id"].native)]
    values = {}
    for attribute in member["attributes"]:
        kind = attribute["type"].dotted
        for value in attribute["values"]:
            if kind == NAME_VALUE:
                name, text = _name_value(value.dump())
                values[name] = text
            elif kind == INDIRECT_DATA:
                data = _IndirectData.load(value.dump(), strict=True)
                digests.append(data["digest"]["digest"].native)
    return Member(tuple(dict.fromkeys(digests)), values)


def _identity(name: bytes) -> bytes:
    """The digest that a member is named by: version 1 spells it in UTF-16."""
    if len(name) in _ALGORITHMS:
        return name
    try:
        return bytes.fromhex(name.decode("utf-16-le").rstrip("\0"))
    except ValueError:
        return name  # a name that somebody chose; the digest stands beside it


def _name_value(der: bytes) -> tuple[str, str]:
    found = _NameValue.load(der, strict=True)
    return found["name"].native, found["value"].native.decode("utf-16-le", "replace").rstrip("\0")
