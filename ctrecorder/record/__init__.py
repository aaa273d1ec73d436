"""The recorder: from kernel events to segments."""

# What other packages may use: module.name.
SHOWN = (
    "configured.Configured",
    "deadlines.HEARTBEAT_NS",
    "recorder.Recorder",
    "recorder.SIGNALS",
    "report.WANTED_SYSCTLS",
)
