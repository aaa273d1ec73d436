"""What the recorder writes: the queue, retries, and the series of segments."""

# What other packages may use: module.name.
SHOWN = (
    "counters.Counters",
    "queue.WriteQueue",
    "segments.SegmentSeries",
    "target.Target",
)
