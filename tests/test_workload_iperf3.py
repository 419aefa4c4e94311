"""iperf3: its command lines, and what is read of its real answers (of iperf 3.12, on a loopback)."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from virtproof.errors import MissingToolError, UsageError
from virtproof.measure.measurement import MeasurementError
from virtproof.workload.iperf3 import Iperf3
from virtproof.workload.job import Figure
from workload_fakes import Says, answer, ends, text

TCP, REVERSE = Iperf3("tcp"), Iperf3("back", from_guest=True, streams=2)
UDP = Iperf3("udp", udp_mbit_s=20)
PLAIN = "iperf3 --client 198.18.0.2 --port 20001 --json --interval 1 --time 15 --omit 5"


@pytest.mark.parametrize(
    ("job", "further"),
    [
        (Iperf3("x"), ""),
        (Iperf3("x", streams=4), " --parallel 4"),
        (Iperf3("x", from_guest=True), " --reverse"),
        (Iperf3("x", udp_mbit_s=300), " --udp --bitrate 300M"),
        (
            Iperf3("x", True, streams=2, udp_mbit_s=7),
            " --parallel 2 --reverse --udp --bitrate 7M",
        ),
    ],
)
def test_command_line(job: Iperf3, further: str) -> None:
    assert " ".join(job.command("198.18.0.2", 20001)) == PLAIN + further


def test_its_length_and_what_is_omitted_are_in_the_command() -> None:
    argv = Iperf3("x", seconds=1, omit_s=0).command("198.18.0.2", 1)
    assert argv[argv.index("--time") :] == ["--time", "1", "--omit", "0"]


@pytest.mark.parametrize(
    "wrong", [{"seconds": 0}, {"omit_s": -1}, {"streams": 0}, {"udp_mbit_s": -1}]
)
def test_what_cannot_be_run_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Iperf3("x", **wrong)


def test_every_choice_is_a_parameter() -> None:
    assert Iperf3("x").parameters == {
        "tool": "iperf3",
        "name": "x",
        "from_guest": False,
        "streams": 1,
        "udp_mbit_s": 0,
        "seconds": 15,
        "omit_s": 5,
    }


# --- the traps of its JSON --------------------------------------------------------------------


def test_what_was_received_counts_and_not_what_was_sent() -> None:
    found = answer("iperf3-tcp.json")
    (figure,) = TCP.figures(found)
    sent, received = (found["end"][key]["bits_per_second"] for key in ("sum_sent", "sum_received"))
    assert sent != received
    assert (figure.name, figure.unit, figure.better) == ("tcp", "bit/s", "higher")
    assert figure.value == received


def test_omitted_seconds_are_no_samples() -> None:
    """iperf3 lists them among the others, and only a flag tells them."""
    found = answer("iperf3-tcp.json")
    assert [one["sum"]["omitted"] for one in found["intervals"]] == [True, False, False]
    (figure,) = TCP.figures(found)
    assert figure.samples == pytest.approx((8040969459.2, 14690094449.1))


def test_parallel_streams_are_one_figure_by_their_sum() -> None:
    (figure,) = REVERSE.figures(answer("iperf3-reverse-x2.json"))
    assert figure.value == pytest.approx(12137960437.0)
    assert figure.samples == pytest.approx((15044697476.6, 9210600847.7))


def test_loss_is_told_by_bytes() -> None:
    """Its own count of lost packets has those of the omitted second too: 44, where 30 were lost."""
    found = answer("iperf3-udp.json")
    assert found["end"]["sum_received"]["lost_percent"] == pytest.approx(28.9, abs=0.1)
    rate, loss = UDP.figures(found)
    assert rate.value == pytest.approx(15958085.9)
    assert (loss.name, loss.unit, loss.better) == ("udp.loss", "1", "lower")
    assert loss.value == pytest.approx(30 / 152)


def test_samples_of_what_was_sent_are_none_of_what_came() -> None:
    """Over UDP the client's seconds are those of the sender: the receiver's are told only in reverse."""
    assert UDP.figures(answer("iperf3-udp.json"))[0].samples == ()
    back = Iperf3("udp-back", from_guest=True, udp_mbit_s=20)
    rate, loss = back.figures(answer("iperf3-udp-reverse.json"))
    assert rate.samples == pytest.approx((15988849.4, 15992463.6))
    assert loss.value == pytest.approx(1 - 3997696 / 5013504)


def test_more_received_than_sent_is_no_loss_below_zero() -> None:
    found = answer("iperf3-udp.json")
    found["end"]["sum_received"]["bytes"] = found["end"]["sum_sent"]["bytes"] + 1
    assert UDP.figures(found)[1].value == 0


def test_nothing_sent_is_no_loss_of_nothing() -> None:
    found = answer("iperf3-udp.json")
    found["end"]["sum_sent"]["bytes"] = 0
    with pytest.raises(MeasurementError, match="iperf3: udp sent nothing"):
        UDP.figures(found)


# --- a whole run ------------------------------------------------------------------------------


def test_a_run_has_figures_versions_and_the_raw_answer() -> None:
    guest = Says()
    outcome = TCP.run(ends(guest, text("iperf3-tcp.json")))
    rate, cost = outcome.figures
    assert rate.name == "tcp"
    # Of all seconds, as the processor's time is: the omitted ones cost it too.
    moved = 896532480 + 1005322240 + 1836318720
    assert cost == Figure("tcp.cpu", "s/B", "lower", pytest.approx(0.5 / moved))  # type: ignore[arg-type]
    assert outcome.version == "iperf 3.12; guest: tool 1.0"
    assert outcome.raw == text("iperf3-tcp.json")
    version, serve, end = guest.ran
    assert version == "iperf3 --version 2>&1"
    assert "iperf3 --server --one-off --port 2" in serve
    assert "kill" in end


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("iperf3-refused.json", "unable to connect to server: Connection refused"),
        ("iperf3-busy.json", "the server is busy running a test. try again later"),
    ],
)
def test_an_error_is_told_in_its_words(name: str, said: str) -> None:
    guest = Says()
    with pytest.raises(MeasurementError) as caught:
        TCP.run(ends(guest, text(name)))
    assert str(caught.value) == f"iperf3: {said}"
    assert "kill" in guest.ran[-1], "its server is left"


def test_a_guest_without_it_is_told_by_the_shells_status() -> None:
    with pytest.raises(MissingToolError, match="the guest has no iperf3 .put the package iperf3"):
        TCP.run(ends(Says(lambda _: (127, "sh: 1: iperf3: not found"))))


TCP_TEXT = text("iperf3-tcp.json")


def with_rate(value: object) -> str:
    found = answer("iperf3-tcp.json")
    found["end"]["sum_received"]["bits_per_second"] = value
    return json.dumps(found)


def with_bytes(value: object) -> str:
    found = answer("iperf3-tcp.json")
    found["intervals"][0]["sum"]["bytes"] = value
    return json.dumps(found)


@pytest.mark.parametrize(
    "said",
    [
        *("", "iperf3: error - unable to start", TCP_TEXT[: len(TCP_TEXT) // 2], "[1, 2]", "null"),
        *("[" * 100_000, '{"error":' + "[" * 900 + "]" * 900 + "}", "x" * (10 << 20)),
        *('{"end": 1}', '{"end": {"sum_received": []}}', '{"intervals": {}, "end": {}}'),
        *(with_rate(one) for one in (None, "1", True, [], {}, -1, 10**400)),
        *(with_rate(float(one)) for one in ("nan", "inf", "-inf")),
        *(with_bytes(one) for one in (float("nan"), float("inf"), -1, "many")),
        '{"end": {"sum_received": {"bits_per_second": ' + "9" * 5000 + "}}}",
    ],
    ids=lambda said: str(len(said)),
)
def test_a_broken_answer_is_one_line(said: str) -> None:
    with pytest.raises(MeasurementError) as caught:
        TCP.run(ends(far=said))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("start", [[], None, "iperf", {"version": ["x"]}])
def test_a_start_that_is_none_costs_the_version_only(start: object) -> None:
    found = {**copy.deepcopy(answer("iperf3-tcp.json")), "start": start}
    assert TCP.run(ends(far=json.dumps(found))).figures[0].value > 0
