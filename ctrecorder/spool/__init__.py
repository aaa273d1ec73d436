"""What the recorder writes: the queue, retries, and the series of segments."""

# What other packages may use: module.name.
SHOWN = (
    "counters.Counters",
    "queue.WriteQueue",
    "queue.Written",
    "segments.SegmentSeries",
    "sync_timer.SyncTimer",
    "target.Target",
)
