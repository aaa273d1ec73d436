"""Numbers for Prometheus: what each is, as text, and the files that node_exporter reads."""

SHOWN = ()

# What other packages may use: module.name.
SHOWN = ()
