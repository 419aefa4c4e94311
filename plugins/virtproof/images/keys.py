"""The SSH key of a cache: every guest made from it lets this key in as root, and nothing else."""

from __future__ import annotations

from pathlib import Path

from virtproof.images.cache import Cache
from virtproof.images.child import need, output


def key_pair(cache: Cache) -> tuple[Path, str]:
    """The private key's path and the public key's line; made at the first call (0600 in 0700)."""
    folder = cache.root / "ssh"
    private = folder / "id_ed25519"
    with cache.locked("ssh", "the SSH key"):
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
        if not private.exists():
            need("ssh-keygen")
            new = folder / "new"
            for path in (new, folder / "new.pub"):
                path.unlink(missing_ok=True)
            argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "virtproof"]
            output([*argv, "-f", str(new)], "making the SSH key")
            (folder / "new.pub").rename(folder / "id_ed25519.pub")
            new.rename(private)
        private.chmod(0o600)
        public = (folder / "id_ed25519.pub").read_text(encoding="ascii").strip()
    return private, public
