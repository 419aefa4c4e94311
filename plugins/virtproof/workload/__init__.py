"""Work that a guest is put to: a typed job to a command line, the tool's own output to figures."""
