"""Why nothing, or not everything, is recorded on this machine, and the command that fixes it.

The doctor only looks.  What it cannot read is a finding too, because something was not examined.
Each look is in one of the modules doctor_*.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ctrecorder.check import doctor_kernel, doctor_log, doctor_rules, doctor_service
from ctrecorder.check.doctor_tools import Finding, Note, Result
from ctrecorder.kernel.netns import Namespace
from ctrecorder.service import config


def diagnose(path: str | None, namespace: Namespace | None = None) -> list[Result]:
    """All findings and notes, gravest first; a healthy recorder has no Finding.

    path: the configuration; None: the default file.
    namespace: that of --netns, which this process has entered; its recorder, rules and sysctls are
        checked.
    """
    read = config.read(path)
    # Of what is not known, the recorder has the last right value; here the default must do.
    settings = {**config.defaults("record"), **read.choose("record").values}
    folder = read.folder()[0]
    inside = namespace.inside if namespace else ""
    looks: list[Iterable[Result]] = [
        doctor_service.look_at_settings(read),
        doctor_service.look_at_omission(settings),
        doctor_kernel.look_at_rights(),
        doctor_kernel.look_at_kernel(inside),
        doctor_service.look_at_namespace_unit(namespace, settings)
        if namespace
        else doctor_service.look_at_unit(settings),
        doctor_log.look_at_log(folder),
        doctor_log.look_at_unheard(folder),
        doctor_rules.look_at_rules(inside),
        doctor_rules.look_at_addresses(),
        doctor_kernel.look_at_buffer(settings),
        doctor_kernel.look_at_clock(),
        doctor_log.look_at_disk(folder),
        doctor_kernel.look_at_table(),
        doctor_log.look_at_segments(folder, read.choose("expire").values),
        doctor_service.look_at_timers(),
    ]
    found = [result for look in looks for result in look]
    return sorted(found, key=lambda result: isinstance(result, Note))


def is_healthy(results: Sequence[Result]) -> bool:
    """If nothing prevents a complete recording."""
    return not any(isinstance(result, Finding) for result in results)


def report(results: Sequence[Result], *, quiet: bool) -> Iterator[str]:
    """The lines to print; `quiet`: only what prevents a complete recording."""
    for result in results:
        if isinstance(result, Finding):
            yield result.what
            yield f"    fix: {result.fix}"
            yield f"    changes: {result.changes}"
    if quiet:
        return
    if is_healthy(results):
        yield "everything is recorded: nothing found that is in the way"
    for result in results:
        if isinstance(result, Note):
            yield result.what
            yield f"    note: {result.why}"
