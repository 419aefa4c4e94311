"""What ``virtproof report``, ``diff`` and ``merge`` do."""

from __future__ import annotations

import argparse
import shutil
import sys

from virtproof.report import merge as merging
from virtproof.report.terminal import summary_lines


def merge(arguments: argparse.Namespace) -> int:
    """Merge, and say what the whole run says; its exit status."""
    out = arguments.output
    run, results = merging.merge(arguments.shards, out)
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    width = shutil.get_terminal_size().columns
    for line in summary_lines(run, results, width, out=out, encoding=encoding):
        print(line)
    print(f"\nmerged {len(run.shards)} shards, {len(results)} tests: {out / 'report.html'}")
    return run.exit_status
