# The first and only logon of an unattended installation: drivers, guest agent, WinRM. What it reports on COM1 is
# read by virtproof; the machine is switched off by the answers' last command, whatever has come of this.
$ErrorActionPreference = 'Stop'
$here = $PSScriptRoot
$port = New-Object System.IO.Ports.SerialPort 'COM1', 115200
$port.Open()

# Twice, as a line that something else breaks into is not taken for whole.
function Say([string] $text) {
    1..2 | ForEach-Object { $port.Write("virtproof: $text .`r`n") }
}

function Run([string] $program, [string[]] $arguments, [int[]] $good) {
    $done = Start-Process $program -ArgumentList $arguments -Wait -PassThru -WindowStyle Hidden
    if ($done.ExitCode -notin $good) { throw "status $($done.ExitCode)" }
}

$step = 'power'
$agent = 'no'
try {
    # Or a shutdown would only put it to sleep, and its disk could not be read.
    Run 'powercfg.exe' @('/hibernate', 'off') @(0)

    # LogonCount 1 of the answers makes two of it; and nothing is to keep the password.
    $step = 'logon'
    $key = 'HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon'
    Set-ItemProperty $key AutoLogonCount 0 -Type DWord
    Set-ItemProperty $key AutoAdminLogon '0'
    Remove-ItemProperty $key DefaultPassword -ErrorAction SilentlyContinue
    Remove-Item "$env:SystemRoot\Panther\unattend.xml" -ErrorAction SilentlyContinue

    # 259: there is no such device yet; 3010: after a restart.
    $step = 'drivers'
    Get-ChildItem "$here\drivers" -Recurse -Filter '*.inf' | ForEach-Object {
        $step = "driver $($_.BaseName)"
        Run 'pnputil.exe' @('/add-driver', "`"$($_.FullName)`"", '/install') @(0, 259, 3010)
    }

    $step = 'agent'
    $package = Get-ChildItem "$here\guest-agent" -Filter '*.msi' -ErrorAction SilentlyContinue
    if ($package) {
        Run 'msiexec.exe' @('/i', "`"$($package.FullName)`"", '/qn', '/norestart') @(0, 3010)
        # On the second serial port, which works without any driver of virtio's.
        $program = Join-Path $env:ProgramFiles 'Qemu-ga\qemu-ga.exe'
        $key = 'HKLM:\SYSTEM\CurrentControlSet\Services\QEMU-GA'
        Set-ItemProperty $key ImagePath "`"$program`" -d --retry-path -m isa-serial -p COM2"
        Set-Service QEMU-GA -StartupType Automatic
        $agent = 'yes'
    }

    $step = 'winrm'
    Enable-PSRemoting -SkipNetworkProfileCheck -Force | Out-Null
    Set-NetFirewallRule -Name 'WINRM-HTTP-In-TCP*' -RemoteAddress Any -Enabled True
    Set-Service WinRM -StartupType Automatic

    Say "prepared agent=$agent winrm=yes"
} catch {
    Say "failed at ${step}: $($_.Exception.Message -replace '[^ -~]', '?')"
} finally {
    Start-Sleep -Seconds 1
    $port.Close()
}
