"""OpenMetrics text: a gauge for each kind of figure, with its interval by the label ``bound``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from virtproof.measure.results import RunRecord, TestRecord
from virtproof.measure.series import Series, comparisons_of, series_of
from virtproof.measure.store import clean_line

# Family, its unit (with which the name must end), and what it is.
FAMILIES = {
    "bit/s": ("virtproof_rate_bits_per_second", "bits_per_second", "Data received."),
    "B/s": ("virtproof_rate_bytes_per_second", "bytes_per_second", "Data read or written."),
    "1/s": ("virtproof_operations_per_second", "operations_per_second", "Requests answered."),
    "s": ("virtproof_latency_seconds", "seconds", "Time of a request."),
    "s/B": ("virtproof_cpu_seconds_per_byte", "seconds_per_byte", "QEMU's processor time."),
    "1": ("virtproof_fraction_ratio", "ratio", "A fraction, as of packets lost."),
}
COMPARED = ("virtproof_comparison_ratio", "ratio", "Side b over side a, by its geometric mean.")
SESSIONS = ("virtproof_sessions", "", "Guest sessions that a figure was measured in.")
TESTS = ("virtproof_tests", "", "Tests by outcome.")

_Sample = tuple[dict[str, str], float]


def openmetrics(run: RunRecord, records: Sequence[TestRecord]) -> str:
    """The run as OpenMetrics text; no timestamps, as whoever scrapes or pushes sets them."""
    families: dict[tuple[str, str, str], list[_Sample]] = {}
    for record in records:
        for one in series_of(record):
            labels = _labels(one)
            found = families.setdefault(FAMILIES[one.unit], [])
            found += _bounds(labels, one.centre, one.low, one.high)
            families.setdefault(SESSIONS, []).append((labels, float(len(one.values))))
        image = record.guest.image if record.guest else ""
        for pair in comparisons_of(record):
            labels = {"image": image, "figure": pair.name, "a": pair.a, "b": pair.b}
            labels |= {"better": pair.better, "test": record.test}
            found = families.setdefault(COMPARED, [])
            found += _bounds(labels, pair.ratio, pair.low, pair.high)
    families[TESTS] = [({"outcome": name}, float(count)) for name, count in run.counts.items()]
    lines = [line for family, samples in families.items() for line in _family(family, samples)]
    return "\n".join([*lines, "# EOF", ""])


def _labels(one: Series) -> dict[str, str]:
    return {
        "image": one.image,
        "figure": one.name,
        "side": one.side,
        "role": one.role,
        "profile": one.profile,
        "better": one.better,
        "test": one.test,
    }


def _bounds(
    labels: Mapping[str, str], value: float, low: float | None, high: float | None
) -> Iterator[_Sample]:
    for bound, number in (("centre", value), ("lower", low), ("upper", high)):
        if number is not None:
            yield {**labels, "bound": bound}, number


def _family(family: tuple[str, str, str], samples: Sequence[_Sample]) -> Iterator[str]:
    name, unit, text = family
    yield f"# TYPE {name} gauge"
    if unit:
        yield f"# UNIT {name} {unit}"
    yield f"# HELP {name} {text}"
    for labels, value in samples:
        said = ",".join(f'{key}="{_escape(clean_line(text))}"' for key, text in labels.items())
        yield f"{name}{{{said}}} {value!r}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
