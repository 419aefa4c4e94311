"""Driver packages and media as virtio-win has them, made here: signed by a test CA, whole or with a defect.

Real files: an INF, a .sys that is a PE with VERSIONINFO, a catalog (CTL) with the digests of both, signed by
osslsigncode.
"""

from __future__ import annotations

import hashlib
import struct
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import pytest
from asn1crypto import algos, cms, core
from asn1crypto import x509 as x509_asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from virtproof.windows import catalog, pe
from virtproof.windows.drivers import DRIVERS, driver_of
from virtproof.windows.platform import Arch, Windows, windows_of
from virtproof.windows.signature import ATTESTED, TIME_STAMPING, WHQL

VERSION = (100, 101, 104, 27100)
LABEL = "virtio-win-0.1.271"
NOW = datetime(2026, 6, 1, tzinfo=UTC)
ALWAYS = (NOW - timedelta(10_000), NOW + timedelta(10_000))
PLATFORMS = (
    ("w10", Arch.X86),
    ("w10", Arch.AMD64),
    ("2k22", Arch.AMD64),
    ("w11", Arch.AMD64),
    ("w11", Arch.ARM64),
)
TREES = ("-iso-level", "4", "-untranslated-filenames", "-R")
_MACHINES = {Arch.X86: 0x014C, Arch.AMD64: 0x8664, Arch.ARM64: 0xAA64}


# --- certificates -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Identity:
    """A key and its certificate, with those above it, the root last."""

    key: rsa.RSAPrivateKey
    chain: tuple[x509.Certificate, ...]

    def issue(
        self,
        name: str,
        usages: Sequence[str] = (),
        *,
        ca: bool = False,
        valid: tuple[datetime, datetime] = (NOW - timedelta(3000), NOW + timedelta(9000)),
    ) -> Identity:
        """Somebody's certificate, by this one; a CA's is valid for as long as the root's."""
        valid = ALWAYS if ca else valid
        key = rsa.generate_private_key(65537, 2048)
        made = _certificate(name, key, self.chain[0].subject, self.key, usages, ca, valid)
        return Identity(key, (made, *self.chain))

    def write(self, folder: Path, *, length: int | None = None) -> tuple[Path, Path]:
        """PEM files of the certificates, of which the first ``length`` only, and of the key."""
        folder.mkdir(exist_ok=True)
        certificates, key = folder / "chain.pem", folder / "key.pem"
        pem = [one.public_bytes(serialization.Encoding.PEM) for one in self.chain[:length]]
        certificates.write_bytes(b"".join(pem))
        private = serialization.PrivateFormat.PKCS8
        plain = serialization.NoEncryption()
        key.write_bytes(self.key.private_bytes(serialization.Encoding.PEM, private, plain))
        return certificates, key


def authority(name: str) -> Identity:
    """A root of our own."""
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return Identity(key, (_certificate(name, key, subject, key, (), True, ALWAYS),))


def _certificate(
    name: str,
    key: rsa.RSAPrivateKey,
    issuer: x509.Name,
    signing: rsa.RSAPrivateKey,
    usages: Sequence[str],
    ca: bool,
    valid: tuple[datetime, datetime],
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if usages:
        oids = [x509.ObjectIdentifier(usage) for usage in usages]
        critical = list(usages) == [TIME_STAMPING]
        builder = builder.add_extension(x509.ExtendedKeyUsage(oids), critical=critical)
    return builder.sign(signing, hashes.SHA256())


CODE_SIGNING = "1.3.6.1.5.5.7.3.3"


class Authorities:
    """All that signs: made once, as keys take time."""

    @cached_property
    def root(self) -> Identity:
        return authority("Test Root 2010")

    @cached_property
    def issuing(self) -> Identity:
        return self.root.issue("Test Third Party Component CA", ca=True)

    @cached_property
    def attested(self) -> Identity:
        return self.issuing.issue("Test Compatibility Publisher", [WHQL, ATTESTED, CODE_SIGNING])

    @cached_property
    def whql(self) -> Identity:
        return self.issuing.issue("Test Compatibility Publisher", [WHQL, CODE_SIGNING])

    @cached_property
    def vendor(self) -> Identity:
        return self.issuing.issue("A Vendor, Inc.", [CODE_SIGNING])

    @cached_property
    def expired(self) -> Identity:
        valid = (datetime(2019, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC))
        usages = [WHQL, ATTESTED, CODE_SIGNING]
        return self.issuing.issue("Test Compatibility Publisher", usages, valid=valid)

    @cached_property
    def stranger(self) -> Identity:
        """Whose root nobody knows."""
        usages = [WHQL, ATTESTED, CODE_SIGNING]
        return authority("WDKTestCert somebody").issue("Somebody's test key", usages)

    @cached_property
    def stamper(self) -> Identity:
        valid = (datetime(2018, 1, 1, tzinfo=UTC), NOW + timedelta(3650))
        return self.issuing.issue("Test Time-Stamp Service", [TIME_STAMPING], valid=valid)


# --- an executable ----------------------------------------------------------------------------


def executable(arch: Arch, version: tuple[int, int, int, int], body: bytes = b"\xcc" * 64) -> bytes:
    """A PE with code and VERSIONINFO, in two sections of one page."""
    wide = arch is not Arch.X86
    resource = _resources(_version_info(version), 0x2000)
    optional_size = 240 if wide else 224
    headers = bytearray(0x400)
    headers[:2] = b"MZ"
    struct.pack_into("<I", headers, 0x3C, 0x80)
    headers[0x80:0x84] = b"PE\0\0"
    characteristics = 0x0022 if wide else 0x0102
    struct.pack_into(
        "<HHIIIHH", headers, 0x84, _MACHINES[arch], 2, 0, 0, 0, optional_size, characteristics
    )
    at = 0x98
    struct.pack_into(
        "<HBBIIIII", headers, at, 0x20B if wide else 0x10B, 14, 0, 512, 1024, 0, 0x1000, 0x1000
    )
    if wide:
        struct.pack_into("<Q", headers, at + 24, 0x140000000)
    else:
        struct.pack_into("<II", headers, at + 24, 0x2000, 0x400000)
    struct.pack_into("<IIHHHHHH", headers, at + 32, 0x1000, 0x200, 10, 0, 10, 0, 10, 0)
    struct.pack_into("<IIIIHH", headers, at + 52, 0, 0x3000, 0x400, 0, 1, 0)  # subsystem: native
    if wide:
        struct.pack_into("<QQQQII", headers, at + 72, 1 << 20, 4096, 1 << 20, 4096, 0, 16)
        directories = at + 112
    else:
        struct.pack_into("<IIIIII", headers, at + 72, 1 << 20, 4096, 1 << 20, 4096, 0, 16)
        directories = at + 96
    struct.pack_into("<II", headers, directories + 16, 0x2000, len(resource))
    sections = at + optional_size
    for index, (name, size, address, offset, flags) in enumerate(
        (
            (b".text", len(body), 0x1000, 0x400, 0x60000020),
            (b".rsrc", len(resource), 0x2000, 0x600, 0x40000040),
        )
    ):
        struct.pack_into(
            "<8sIIIIIIHHI",
            headers,
            sections + 40 * index,
            name,
            size,
            address,
            0x200 * -(-size // 0x200),
            offset,
            0,
            0,
            0,
            0,
            flags,
        )
    return bytes(headers) + body.ljust(0x200, b"\0") + resource.ljust(0x400, b"\0")


def _resources(info: bytes, address: int) -> bytes:
    """Three levels of directories (type, name, language) to one resource: a version."""
    directory = "<IIHHHH"
    tree = struct.pack(directory, 0, 0, 0, 0, 0, 1) + struct.pack("<II", 16, 0x80000000 | 24)
    tree += struct.pack(directory, 0, 0, 0, 0, 0, 1) + struct.pack("<II", 1, 0x80000000 | 48)
    tree += struct.pack(directory, 0, 0, 0, 0, 0, 1) + struct.pack("<II", 0x409, 72)
    return tree + struct.pack("<IIII", address + 88, len(info), 0, 0) + info


def _version_info(version: tuple[int, int, int, int]) -> bytes:
    one, two, three, four = version
    halves = (one << 16 | two, three << 16 | four)
    fixed = struct.pack("<13I", 0xFEEF04BD, 0x10000, *halves, *halves, 0x3F, 0, 0x40004, 3, 7, 0, 0)
    key = "VS_VERSION_INFO\0".encode("utf-16-le")
    head = (6 + len(key) + 3) // 4 * 4
    return (
        struct.pack("<HHH", head + len(fixed), len(fixed), 0) + key.ljust(head - 6, b"\0") + fixed
    )


# --- a catalog --------------------------------------------------------------------------------


def _oid(name: str) -> dict[str, object]:
    return {"oid": name, "parameters": core.Null()}


def _name_value(name: str, value: str) -> catalog._NameValue:
    text = (value + "\0").encode("utf-16-le")
    return catalog._NameValue({"name": name, "flags": 0x10010001, "value": text})


def unsigned_catalog(files: dict[str, bytes], values: dict[str, str], kernel: str) -> bytes:
    """A catalog of version 2, as Inf2Cat makes it: a member for each digest of each file."""
    members = []
    for name, data in files.items():
        for algorithm in ("sha1", "sha256"):
            flat = hashlib.new(algorithm, data).digest()
            digest = pe.authenticode(data, algorithm) if pe.is_pe(data) else flat
            attributes = [
                {"type": catalog.NAME_VALUE, "values": [core.Any(_name_value(key, value))]}
                for key, value in (("OSAttr", kernel), ("File", name))
            ]
            if algorithm == "sha256":
                spc = _indirect_data(digest, executable=pe.is_pe(data))
                attributes.append({"type": catalog.INDIRECT_DATA, "values": [core.Any.load(spc)]})
            members.append({"id": digest, "attributes": attributes})
    extensions = [
        {"type": catalog.NAME_VALUE, "value": _name_value(name, value).dump()}
        for name, value in values.items()
    ]
    ctl = catalog._Ctl(
        {
            "usage": [catalog.CATALOG_LIST],
            "list_id": bytes(16),
            "this_update": catalog._Time("utc", core.UTCTime(NOW)),
            "algorithm": _oid("1.3.6.1.4.1.311.12.1.3"),
            "members": members,
            "extensions": extensions,
        }
    )
    inner = _der(0x30, core.ObjectIdentifier(catalog.CTL).dump(), _der(0xA0, ctl.dump()))
    algorithms = _der(0x31, algos.DigestAlgorithm({"algorithm": "sha256"}).dump())
    signed = _der(0x30, core.Integer(1).dump(), algorithms, inner, _der(0x31))
    return _der(0x30, core.ObjectIdentifier("1.2.840.113549.1.7.2").dump(), _der(0xA0, signed))


def _indirect_data(digest: bytes, *, executable: bool) -> bytes:
    """The digest a second time, with what it is of: an executable's, or a whole file's (a link to it)."""
    if executable:
        link = _der(0xA0, _der(0xA2, _der(0x80)))
        kind, value = "1.3.6.1.4.1.311.2.1.15", _der(0x30, bytes.fromhex("030205a0"), link)
    else:
        kind, value = "1.3.6.1.4.1.311.2.1.25", _der(0xA2, _der(0x80))
    about = _der(0x30, core.ObjectIdentifier(kind).dump(), value)
    algorithm = algos.DigestAlgorithm({"algorithm": "sha256"}).dump()
    return _der(0x30, about, _der(0x30, algorithm, core.OctetString(digest).dump()))


def _der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    length = core.Integer(len(body)).contents.lstrip(b"\0")
    short = bytes([len(body)]) if len(body) < 128 else bytes([0x80 | len(length)]) + length
    return bytes([tag]) + short + body


@dataclass(frozen=True)
class Signing:
    """How a catalog is signed. ``stamped`` is a time stamp's moment; ``length`` of the chain goes along."""

    by: str = "attested"  # of Authorities; "" leaves it unsigned
    stamped: datetime | None = None
    length: int | None = None


def sign(data: bytes, authorities: Authorities, how: Signing, folder: Path) -> bytes:
    """The catalog signed by osslsigncode."""
    if not how.by:
        return data
    signer: Identity = getattr(authorities, how.by)
    certificates, key = signer.write(folder / how.by, length=how.length)
    bare, done = folder / "bare.cat", folder / "signed.cat"
    bare.write_bytes(data)
    done.unlink(missing_ok=True)
    command = ["osslsigncode", "sign", "-h", "sha256", "-certs", certificates, "-key", key]
    if how.stamped is not None:
        _require_stamping()
        stamp, stamp_key = authorities.stamper.write(folder / "stamper")
        command += ["-TSA-certs", stamp, "-TSA-key", stamp_key]
        command += ["-TSA-time", str(int(how.stamped.timestamp()))]
    run = subprocess.run([*command, "-in", bare, "-out", done], capture_output=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return done.read_bytes()


def _require_stamping() -> None:
    """Older versions (2.5 of Debian 12) can only ask a server for a time stamp."""
    told = subprocess.run(["osslsigncode", "sign", "--help"], capture_output=True, check=False)
    if b"-TSA-certs" not in told.stdout + told.stderr:
        pytest.skip("needs an osslsigncode that makes time stamps itself (-TSA-certs), as 2.9 does")


def restamped(data: bytes, of: bytes) -> bytes:
    """A signed catalog with the time stamp of another, and the certificates that go with it."""
    message, other = cms.ContentInfo.load(data), cms.ContentInfo.load(of)
    signed, theirs = message["content"], other["content"]
    signed["signer_infos"][0]["unsigned_attrs"] = theirs["signer_infos"][0]["unsigned_attrs"]
    signed["certificates"] = theirs["certificates"]
    return bytes(message.dump(force=True))


def countersigned(data: bytes, stamper: Identity, when: datetime) -> bytes:
    """A signed catalog with a time stamp of the older kind: a second signer, of the signature."""
    message = cms.ContentInfo.load(data)
    signed = message["content"]
    info = signed["signer_infos"][0]
    signature = info["signature"].native
    attributes = cms.CMSAttributes(
        [
            {"type": "content_type", "values": ["data"]},
            {"type": "signing_time", "values": [cms.Time("utc_time", core.UTCTime(when))]},
            {"type": "message_digest", "values": [hashlib.sha256(signature).digest()]},
        ]
    )
    own = x509_asn1.Certificate.load(stamper.chain[0].public_bytes(serialization.Encoding.DER))
    number = {"issuer": own.issuer, "serial_number": own.serial_number}
    by = stamper.key.sign(attributes.dump(), padding.PKCS1v15(), hashes.SHA256())
    second = cms.SignerInfo(
        {
            "version": "v1",
            "sid": cms.SignerIdentifier("issuer_and_serial_number", number),
            "digest_algorithm": {"algorithm": "sha256"},
            "signed_attrs": attributes,
            "signature_algorithm": {"algorithm": "rsassa_pkcs1v15"},
            "signature": by,
        }
    )
    info["unsigned_attrs"] = [{"type": "counter_signature", "values": [second]}]
    signed["certificates"].append(cms.CertificateChoices("certificate", own))
    return bytes(message.dump(force=True))


# --- a package --------------------------------------------------------------------------------

INF = """\
; A driver of the tests
[Version]
Signature="$WINDOWS NT$"
Class=System
ClassGuid={{4d36e97d-e325-11ce-bfc1-08002be10318}}
Provider=%VENDOR%
DriverVer = 05/20/2026,{version}
CatalogFile={stem}.cat
PnpLockdown=1

[SourceDisksNames]
1 = %DiskId1%,,,""

[SourceDisksFiles]
{stem}.sys = 1,,

[DestinationDirs]
DefaultDestDir = {dirid}

[Manufacturer]
%VENDOR% = Standard,NT{arch}{decoration}

[Standard.NT{arch}{decoration}]
{models}

[Device_Inst.NT]
CopyFiles = Drivers_Dir

[Drivers_Dir]
{stem}.sys

[Device_Inst.NT.Services]
AddService = {service}, 0x00000002, Service_Inst

[Service_Inst]
DisplayName    = %Device.Service%
ServiceType    = 1               ; SERVICE_KERNEL_DRIVER
StartType      = 3
ErrorControl   = 1
ServiceBinary  = %{dirid}%\\{stem}.sys

[Strings]
VENDOR = "A Vendor, Inc."
DiskId1 = "Installation Disk #1"
Device.Desc = "{folder} Driver"
Device.Service = "{folder} Service"
"""


@dataclass(frozen=True)
class Made:
    """What a package is made of. Defects are replacements of these, or of files once they are signed."""

    folder: str
    windows: Windows
    arch: Arch
    ids: tuple[tuple[str, ...], ...]  # a line of the models each
    inf_version: tuple[int, int, int, int] = VERSION
    sys_version: tuple[int, int, int, int] = VERSION
    sys_arch: Arch | None = None
    systems: str = ""
    kernel: str = ""
    target: str = ""  # of the models section, as in ".6.1"
    edit: tuple[str, str] = ("", "")  # of the INF's text: what is replaced by what
    signing: Signing = field(default_factory=Signing)
    # On the files, when they are signed.
    afterwards: Callable[[dict[str, bytes]], object] = bool

    @property
    def stem(self) -> str:
        driver = driver_of(self.folder)
        return driver.inf.removesuffix(".inf") if driver else self.folder

    def inf(self) -> bytes:
        driver = driver_of(self.folder)
        lines = [f"%Device.Desc% = Device_Inst, {', '.join(ids)}" for ids in self.ids]
        text = INF.format(
            stem=self.stem,
            folder=self.folder,
            service=driver.service if driver else self.folder,
            version=".".join(str(part) for part in self.inf_version),
            dirid=13 if self.windows.build >= 22000 else 12,
            arch=self.arch,
            decoration=self.target or (".10.0...22000" if self.windows.build >= 22000 else ".10.0"),
            models="\n".join(lines),
        )
        assert self.edit[0] in text
        return text.replace(*self.edit).replace("\n", "\r\n").encode("cp1252")

    def files(self, authorities: Authorities, scratch: Path) -> dict[str, bytes]:
        files = {
            f"{self.stem}.inf": self.inf(),
            f"{self.stem}.sys": executable(self.sys_arch or self.arch, self.sys_version),
        }
        named = f"_{self.arch.in_catalog}" if self.arch.in_catalog else ""
        values = {"OS": self.systems or f"_v100{named},_v100{named}_22H2"}
        values |= {f"HWID{n}": ids[0].lower() for n, ids in enumerate(self.ids, start=1)}
        bare = unsigned_catalog(files, values, self.kernel or self.windows.kernel)
        files[f"{self.stem}.cat"] = sign(bare, authorities, self.signing, scratch)
        self.afterwards(files)
        return files


def good(folder: str, windows: str, arch: Arch) -> Made:
    """A package without a defect."""
    driver = driver_of(folder)
    system = windows_of(windows)
    assert driver is not None
    assert system is not None
    devices = driver.devices or driver.either
    return Made(folder, system, arch, tuple((one.ids[0], one.ids[-1]) for one in devices))


def write_package(root: Path, made: Made, authorities: Authorities, scratch: Path) -> Path:
    place = root / made.folder / made.windows.name / made.arch
    place.mkdir(parents=True, exist_ok=True)
    for name, data in made.files(authorities, scratch).items():
        (place / name).write_bytes(data)
    return place


def write_medium(root: Path, authorities: Authorities, scratch: Path) -> None:
    """A whole medium without a defect: all drivers, five platforms, installer and second tree."""
    for driver in DRIVERS:
        for windows, arch in PLATFORMS:
            if arch not in driver.lacks:
                place = write_package(
                    root, good(driver.folder, windows, arch), authorities, scratch
                )
                if driver.folder == "viostor" and arch is not Arch.ARM64:
                    copy = root / {Arch.X86: "i386", Arch.AMD64: "amd64"}[arch] / windows
                    copy.mkdir(parents=True)
                    for file in place.iterdir():
                        (copy / file.name).write_bytes(file.read_bytes())
    installer = executable(Arch.X86, (0, 1, 271, 0))
    (root / "virtio-win-guest-tools.exe").write_bytes(installer)


def write_iso(root: Path, path: Path, label: str = LABEL) -> Path:
    """By xorriso, with Rock Ridge and without Joliet, as virtio-win's are."""
    command = ["xorriso", "-as", "mkisofs", "-quiet", *TREES, "-V", label]
    run = subprocess.run([*command, "-o", path, root], capture_output=True, check=False)
    assert run.returncode == 0, run.stderr
    return path
