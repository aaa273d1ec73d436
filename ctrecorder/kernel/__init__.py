"""Conntrack messages of the kernel, received by netlink and decoded to tables."""

# What other packages may use: module.name.
SHOWN = (
    "bpf.event_filter",
    "decoder.Decoder",
    "netns.Namespace",
    "netns.enter",
    "netns.names",
    "probe.Probe",
    "sockets.BATCH",
    "sockets.DumpSocket",
    "sockets.EventSocket",
    "sockets.SlotBuffer",
    "sockets.sysctl",
    "sockets.table_count",
    "statistics.Statistics",
    "statistics.read_statistics",
    "timex.clock_state",
    "tracking.Expression",
    "tracking.UNTRACKING",
    "tracking.asleep",
    "tracking.expressions",
    "tracking.is_notrack",
)
