"""A publisher of images that is at fault in every way: a real HTTP server on loopback."""
