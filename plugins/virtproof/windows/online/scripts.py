"""The PowerShell that probes and changes a running Windows. Each script is named in its first line.

None reads text that Windows translates: objects, registry values and events' own parameters only. They run
on PowerShell 3.0 and later; disks, NICs and ghosts want Windows 8 or Server 2012.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from virtproof.errors import UsageError

SYSTEM = r"""# system
$o=Get-CimInstance Win32_OperatingSystem
$c=Get-ItemProperty 'HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion'
$s=(Get-ItemProperty 'HKLM:\SYSTEM\CurrentControlSet\Control').SystemStartOptions
[pscustomobject]@{caption="$($o.Caption)";version="$($o.Version)";build=[int]$o.BuildNumber
revision=[int]$c.UBR;architecture="$env:PROCESSOR_ARCHITECTURE"
powershell="$($PSVersionTable.PSVersion)";start_options="$s".ToUpperInvariant()
booted=$o.LastBootUpTime.ToUniversalTime().ToString('o')}"""

DRIVERS = r"""# drivers
Get-CimInstance Win32_PnPSignedDriver|Where-Object{$_.InfName}|ForEach-Object{
$d='';if($_.DriverDate){$d=$_.DriverDate.ToUniversalTime().ToString('yyyy-MM-dd')}
[pscustomobject]@{device="$($_.DeviceID)";name="$($_.DeviceName)";inf="$($_.InfName)"
version="$($_.DriverVersion)";date=$d;provider="$($_.DriverProviderName)";signed=[bool]$_.IsSigned
signer="$($_.Signer)";hardware_id="$($_.HardWareID)"}}"""

DEVICES = r"""# devices
Get-PnpDevice|ForEach-Object{
[pscustomobject]@{id="$($_.InstanceId)";name="$($_.FriendlyName)";kind="$($_.Class)"
service="$($_.Service)";present=[bool]$_.Present;problem=[int]$_.ConfigManagerErrorCode
hardware_ids=@($_.HardwareID|Where-Object{$_}|ForEach-Object{"$_"})}}"""

DISKS = r"""# disks
$w=@{};Get-CimInstance Win32_DiskDrive|ForEach-Object{$w[[int]$_.Index]=$_.PNPDeviceID}
function P($i,$k){if($i){(Get-PnpDeviceProperty -InstanceId $i -KeyName $k -EA SilentlyContinue).Data}}
Get-Disk|ForEach-Object{
$s=P (P $w[[int]$_.Number] 'DEVPKEY_Device_Parent') 'DEVPKEY_Device_Service'
[pscustomobject]@{number=[int]$_.Number;model="$($_.FriendlyName)";serial="$($_.SerialNumber)".Trim()
bus="$($_.BusType)";size_bytes=[int64]$_.Size;boot=[bool]$_.IsBoot;system=[bool]$_.IsSystem
offline=[bool]$_.IsOffline;service="$s"}}"""

NICS = r"""# nics
Get-NetAdapter|ForEach-Object{$i=$_.ifIndex
$s=(Get-PnpDevice -InstanceId $_.PnPDeviceID -EA SilentlyContinue).Service
[pscustomobject]@{index=[int]$i;name="$($_.Name)";description="$($_.InterfaceDescription)"
device="$($_.PnPDeviceID)";mac="$($_.MacAddress)";status="$($_.Status)";service="$s"
driver_version="$($_.DriverVersion)"
addresses=@(Get-NetIPAddress -InterfaceIndex $i -EA SilentlyContinue|ForEach-Object{
@{ip="$($_.IPAddress)";prefix=[int]$_.PrefixLength;origin="$($_.PrefixOrigin)"}})
gateways=@(Get-NetRoute -InterfaceIndex $i -DestinationPrefix '0.0.0.0/0' -EA SilentlyContinue|
ForEach-Object{"$($_.NextHop)"})
dns=@((Get-DnsClientServerAddress -InterfaceIndex $i -AddressFamily IPv4 -EA SilentlyContinue).
ServerAddresses|Where-Object{$_}|ForEach-Object{"$_"})}}"""

CRASHES = r"""# crashes
@(@('Microsoft-Windows-Kernel-Power',41),@('Microsoft-Windows-WER-SystemErrorReporting',1001))|
ForEach-Object{Get-WinEvent -FilterHashtable @{LogName='System';ProviderName=$_[0];Id=$_[1]} `
-MaxEvents 50 -EA SilentlyContinue}|ForEach-Object{
[pscustomobject]@{id=[int]$_.Id;time=$_.TimeCreated.ToUniversalTime().ToString('o')
text="$($_.Properties[0].Value)"}}"""

PACKAGES = r"""# packages
Get-WindowsDriver -Online|ForEach-Object{
[pscustomobject]@{inf="$($_.Driver)";original=[IO.Path]::GetFileName("$($_.OriginalFileName)")
version="$($_.Version)";provider="$($_.ProviderName)"}}"""

_SERVICES = r"""# services
@(%s)|ForEach-Object{$n=$_
$k="HKLM:\SYSTEM\CurrentControlSet\Services\$n"
if(Test-Path $k){$v=Get-ItemProperty $k;$o=$null
if(Test-Path "$k\StartOverride"){$o=(Get-ItemProperty "$k\StartOverride").'0'}
$d=Get-CimInstance Win32_SystemDriver -Filter "Name='$n'"
[pscustomobject]@{name=$n;start=$v.Start;override=$o;image="$($v.ImagePath)";state="$($d.State)"}}}"""

# The volume whose label has the package's path on it is virtio-win's medium.
_INSTALL = r"""# install
$f=$null;Get-CimInstance Win32_LogicalDisk -Filter 'DriveType=5'|ForEach-Object{
$p=Join-Path "$($_.DeviceID)\" %s
if(-not $f -and (Test-Path -LiteralPath $p)){$f=$p}}
if(-not $f){throw 'no CD-ROM has the package'}
$o=& "$env:SystemRoot\System32\pnputil.exe" /add-driver $f /install
[pscustomobject]@{status=[int]$LASTEXITCODE;output="$($o -join ' ')";file=$f}"""

_REMOVE = r"""# remove
$o=& "$env:SystemRoot\System32\pnputil.exe" /delete-driver %s /uninstall /force
[pscustomobject]@{status=[int]$LASTEXITCODE;output="$($o -join ' ')";file=''}"""

_PROGRAM = r"""# program
$o=& "$env:SystemRoot\System32\%s.exe" @(%s)
[pscustomobject]@{status=[int]$LASTEXITCODE;output="$($o -join ' ')";file=''}"""

# A new adapter has a name and a metric of its own: what the old one was told is told to it, by its MAC.
_ADDRESS = r"""# address
$a=Get-NetAdapter|Where-Object{$_.MacAddress -eq %s}
if(-not $a){throw 'no adapter has that MAC'}
$i=$a.ifIndex;Set-NetIPInterface -InterfaceIndex $i -AddressFamily IPv4 -Dhcp Disabled
Get-NetIPAddress -InterfaceIndex $i -AddressFamily IPv4 -EA SilentlyContinue|
Remove-NetIPAddress -Confirm:$false
$g=@{};if(%s){$g.DefaultGateway=%s}
New-NetIPAddress -InterfaceIndex $i -IPAddress %s -PrefixLength %d @g|Out-Null
$d=@(%s);if($d){Set-DnsClientServerAddress -InterfaceIndex $i -ServerAddresses $d}
[pscustomobject]@{status=0;output='';file=''}"""

PROBES = (SYSTEM, DRIVERS, DEVICES, DISKS, NICS, CRASHES, PACKAGES)
STORE_NAME = re.compile(r"oem\d{1,6}\.inf", re.IGNORECASE)


def text(value: str) -> str:
    """A string of PowerShell's own; UsageError for control characters, which no path or address has."""
    if not value.isprintable():
        raise UsageError(f"{value!r} cannot be said to PowerShell")
    # It takes typographic quotes for quotes, too.
    return "'" + re.sub("(['\u2018\u2019\u201a\u201b])", r"\1\1", value) + "'"


def services(names: Iterable[str]) -> str:
    return _SERVICES % ",".join(map(text, names))


def install(package: str) -> str:
    r"""Install a package of the medium: ``viostor\w11\amd64\viostor.inf``."""
    return _INSTALL % text(package)


def remove(inf: str) -> str:
    """Remove a package of the store from it, and from its devices."""
    if not STORE_NAME.fullmatch(inf):
        raise UsageError(f"{inf!r} is no package of the driver store", hint="as oem3.inf")
    return _REMOVE % text(inf)


def program(name: str, *arguments: str) -> str:
    """Run one of Windows' own programs (bcdedit, verifier) for its status."""
    return _PROGRAM % (name, ",".join(map(text, arguments)))


def set_address(mac: str, ip: str, prefix: int, gateway: str, dns: Iterable[str]) -> str:
    """Give the adapter of that MAC a static IPv4 address; no gateway where it is empty."""
    gate = text(gateway)
    return _ADDRESS % (text(mac), gate, gate, text(ip), prefix, ",".join(map(text, dns)))
