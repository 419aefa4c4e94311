"""Collecting what is known of a guest at the time it failed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from virtproof.diagnose.evidence import Evidence

if TYPE_CHECKING:
    from virtproof.guest.guest import Guest


def collect(guest: Guest, **known: object) -> Evidence:
    """Evidence of a guest as it is now: libvirt's view, the console, what its control channel says.

    ``known`` overrides fields of Evidence, for what only the caller saw (libvirt's refusal).
    """
    evidence = Evidence(
        qemu_log=guest.lab.qemu_log(guest.name), host_log=guest.lab.host_log(guest.made_at_s)
    )
    state = ""
    if guest.is_defined:
        state, reason = guest.domain.state()
        evidence = replace(
            evidence,
            domain_state=state,
            domain_reason=reason,
            domain_xml=guest.domain.xml(inactive=True),
            root_target=guest.root_target,
        )
    if guest.boots:
        boot = guest.boots[-1]
        answered = boot.agent.synchronised if boot.started else None
        asked = bool(answered) and state == "running"
        evidence = replace(
            evidence,
            console=boot.console_text(),
            shell_answers=boot.shell_answers,
            agent_answered=answered,
            nic_facts=guest.nic_facts() if asked else "",
            jobs=guest.jobs() if asked else "",
        )
    return replace(evidence, **known)  # type: ignore[arg-type]  # replace checks the fields' names
