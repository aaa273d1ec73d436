"""Every metric: name, type, help and labels, declared once.

Several files can have one metric, and node_exporter takes it only if all have the same help.
ctrecorder-metrics(7) is compared with this list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["gauge", "counter"]


@dataclass(frozen=True)
class Family:
    """One metric; `labels`: names of the labels of each sample, in order."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


# What each sample of a recorder has: its recording.
_RECORDER = (
    Family("ctrecorder_build_info", "gauge", "The version, as a label; always 1.", ("version",)),
    Family("ctrecorder_start_time_seconds", "gauge", "When the recorder started, Unix time."),
    Family("ctrecorder_events_total", "counter", "Events that were received.", ("event",)),
    Family(
        "ctrecorder_events_lost_total",
        "counter",
        "Events that are not in the log, by the reason of their gap; unknown numbers are not in.",
        ("reason",),
    ),
    Family(
        "ctrecorder_messages_refused_total",
        "counter",
        "Messages that a process sent, not the kernel.",
    ),
    Family("ctrecorder_receive_buffer_bytes", "gauge", "Size of the kernel's buffer for events."),
    Family(
        "ctrecorder_receive_buffer_used_bytes",
        "gauge",
        "Bytes of events in the kernel's buffer that the recorder has not read.",
    ),
    Family("ctrecorder_written_bytes_total", "counter", "Bytes written to segments."),
    Family(
        "ctrecorder_write_errors_total",
        "counter",
        "Writes that the disk refused; each is tried again.",
    ),
    Family(
        "ctrecorder_write_failing", "gauge", "1 while the disk refuses and events wait in memory."
    ),
    Family(
        "ctrecorder_held_bytes",
        "gauge",
        "Memory of blocks that are not synced, or that the disk refuses.",
    ),
    Family(
        "ctrecorder_held_limit_bytes", "gauge", "The setting memory: events beyond it are lost."
    ),
    Family(
        "ctrecorder_watermark_timestamp_seconds",
        "gauge",
        "Until when every event can be read in the log or is in a gap, Unix time.",
    ),
    Family(
        "ctrecorder_synced_timestamp_seconds",
        "gauge",
        "The watermark that is on the disk: a power cut takes what is later, Unix time.",
    ),
    Family("ctrecorder_syncs_total", "counter", "Syncs of segments to the disk."),
    Family(
        "ctrecorder_gap_open",
        "gauge",
        "Holes that last: 1 for each reason and family (all: of both).",
        ("reason", "family"),
    ),
    Family(
        "ctrecorder_gap_seconds_total",
        "counter",
        "Seconds of the gaps that have ended, by reason.",
        ("reason",),
    ),
    Family("ctrecorder_dump_duration_seconds", "gauge", "Duration of the last dump of the table."),
    Family(
        "ctrecorder_kernel_refused_total",
        "counter",
        "Connections that the kernel refused, by why.",
        ("why",),
    ),
    Family("ctrecorder_clock_synchronised", "gauge", "1 if a time daemon keeps the clock, else 0."),
    Family(
        "ctrecorder_clock_error_seconds", "gauge", "The largest error of the clock, by the kernel."
    ),
    Family(
        "ctrecorder_tracking_active",
        "gauge",
        "1 if the kernel tracks connections of the family, 0 if not, -1 if unknown.",
        ("family",),
    ),
    Family(
        "ctrecorder_events_active", "gauge", "1 if the kernel reports events (its sysctl), else 0."
    ),
    Family("ctrecorder_segment_sequence", "gauge", "The number of the open segment in its chain."),
)

_FOLDER = (
    Family("ctrecorder_archive_bytes", "gauge", "Bytes of all segments of the folder."),
    Family(
        "ctrecorder_archive_segments",
        "gauge",
        "Segments of the folder, by state.",
        ("state",),
    ),
    Family(
        "ctrecorder_archive_oldest_timestamp_seconds",
        "gauge",
        "When the oldest segment ended, Unix time: max_age counts from it.",
    ),
    Family(
        "ctrecorder_archive_max_age_seconds",
        "gauge",
        "The setting max_age: what is older is deleted.",
    ),
    Family(
        "ctrecorder_squeeze_last_success_timestamp_seconds",
        "gauge",
        "When ctsqueeze last ended without a failure, Unix time.",
    ),
    Family(
        "ctrecorder_squeeze_backlog_segments",
        "gauge",
        "Closed segments that are not squeezed.",
    ),
    Family(
        "ctrecorder_expire_last_success_timestamp_seconds",
        "gauge",
        "When ctexpire last ended without a failure, Unix time.",
    ),
    Family(
        "ctrecorder_expired_segments",
        "gauge",
        "Segments that the last run of ctexpire deleted, by the limit.",
        ("reason",),
    ),
    Family("ctrecorder_holds", "gauge", "Holds that keep segments."),
    Family(
        "ctrecorder_verify_last_success_timestamp_seconds",
        "gauge",
        "When cttest last checked all segments of the folder, Unix time.",
    ),
    Family("ctrecorder_verify_findings", "gauge", "What the last check of cttest found."),
    Family(
        "ctrecorder_ship_last_success_timestamp_seconds",
        "gauge",
        "When ctship last ended without a failure, Unix time.",
    ),
    Family(
        "ctrecorder_ship_waiting_segments",
        "gauge",
        "Segments that are not acknowledged by the target.",
        ("to",),
    ),
    Family(
        "ctrecorder_ship_waiting_oldest_timestamp_seconds",
        "gauge",
        "When the oldest segment that waits for the target began, Unix time; 0: none waits.",
        ("to",),
    ),
    Family(
        "ctrecorder_ship_refused_segments",
        "gauge",
        "Segments that wait and that the target, or a check before it, refused.",
        ("to",),
    ),
    Family(
        "ctrecorder_shipped_sequence",
        "gauge",
        "The greatest number in the chain that the target has acknowledged.",
        ("to", "chain"),
    ),
)


def _labelled(families: tuple[Family, ...], label: str) -> list[Family]:
    """Each with a first label that tells whose it is."""
    return [Family(one.name, one.kind, one.help, (label, *one.labels)) for one in families]


# Of a recorder: its recording; of the other commands: the folder of segments.
FAMILIES: Mapping[str, Family] = {
    one.name: one for one in (*_labelled(_RECORDER, "recording"), *_labelled(_FOLDER, "folder"))
}
