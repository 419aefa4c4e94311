"""A Windows that runs: asked by PowerShell over one of three channels, switched, and judged."""
