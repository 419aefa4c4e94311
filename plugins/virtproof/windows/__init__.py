"""Windows: what its drivers and its installations say of virtio, read without a Windows."""
