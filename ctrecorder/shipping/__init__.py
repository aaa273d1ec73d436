"""Segments sent to other machines: where to, what waits, and what was acknowledged."""

# What other packages may use: module.name.
SHOWN = (
    "clickhouse.VERSION",
    "metrics.ship_values",
    "program.MAX_WHY",
    "program.bare",
    "program.run",
    "program.ssh",
    "results.TargetError",
    "rowbinary.SAME",
    "rowbinary.ZERO",
    "rowbinary.text",
    "rowbinary.upload_bytes",
    "server.NO_COLUMN",
    "server.RefusedError",
    "server.Server",
    "server.TooLongError",
    "ship.Options",
    "ship.Shipping",
    "ship.dry_run",
    "ship.status",
    "target.parse",
    "target.router_of",
    "waiting.name_of",
    "waiting.shipped_name",
)
