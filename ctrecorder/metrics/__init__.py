"""Numbers for Prometheus: what each is, as text, and the files that node_exporter reads."""

# What other packages may use: module.name.
SHOWN = (
    "job.Values",
    "job.by_label",
    "job.job_ended",
    "text.Sample",
    "write.remove",
    "write.write",
)
