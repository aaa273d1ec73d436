"""The recorder: from kernel events to segments."""

# What other packages may use: module.name.
SHOWN = (
    "deadlines.HEARTBEAT_NS",
    "recorder.Recorder",
    "recorder.RecorderOptions",
    "recorder.SIGNALS",
    "report.WANTED_SYSCTLS",
)
