"""The matrix: which guests an image is tried on, which devices it is given, and why not the others. Pure."""
