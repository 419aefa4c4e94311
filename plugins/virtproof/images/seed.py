"""The NoCloud seed: a small ISO by which cloud-init does our script at an image's first boot."""

from __future__ import annotations

import base64
import io
import json
import shlex
from pathlib import Path

import pycdlib

SCRIPT_IN_GUEST = "/run/virtproof-first-boot.sh"
VOLUME = "cidata"


def user_data(script: str, authorized_key: str, *, built: bool) -> str:
    """cloud-config that runs ``script`` early, and nothing of cloud-init's own that takes long.

    ``built``: the image is one of our own builds, so the boot loader's menu is the script's too.
    The whole is JSON, which is YAML; so no value needs YAML's quoting.
    """
    head = f"VP_KEY={shlex.quote(authorized_key)}\nVP_BUILT={'yes' if built else 'no'}\n"
    config = {
        "cloud_init_modules": ["growpart", "resizefs", "write-files", "bootcmd"],
        "cloud_config_modules": [],
        "cloud_final_modules": [],
        "write_files": [
            {
                "path": SCRIPT_IN_GUEST,
                "permissions": "0600",
                "encoding": "b64",
                "content": base64.b64encode((head + script).encode()).decode(),
            }
        ],
        "bootcmd": [["sh", SCRIPT_IN_GUEST]],
    }
    return "#cloud-config\n" + json.dumps(config, indent=1) + "\n"


def write_seed(path: Path, files: dict[str, str]) -> None:
    """An ISO 9660 image with Rock Ridge and Joliet names, labelled as NoCloud wants it."""
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=VOLUME)
    try:
        for number, (name, text) in enumerate(files.items()):
            data = text.encode()
            iso.add_fp(
                io.BytesIO(data),
                len(data),
                f"/FILE{number}.;1",
                rr_name=name,
                joliet_path=f"/{name}",
            )
        iso.write(str(path))
    finally:
        iso.close()


def files(script: str, authorized_key: str, *, built: bool) -> dict[str, str]:
    """The seed of an image's first boot, by file name; the guest is called ``guest`` after it.

    ``dsmode: local``: cloud-init does it all before the network, in one start of Python and not two.
    """
    return {
        "user-data": user_data(script, authorized_key, built=built),
        "meta-data": "instance-id: virtproof\nlocal-hostname: guest\ndsmode: local\n",
        "network-config": "version: 2\nethernets: {}\n",
    }
