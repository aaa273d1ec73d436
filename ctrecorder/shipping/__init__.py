"""Segments sent to other machines: where to, what waits, and what was acknowledged."""

# What other packages may use: module.name.
SHOWN = (
    "metrics.ship_values",
    "program.MAX_WHY",
    "program.bare",
    "program.run",
    "program.ssh",
    "ship.Options",
    "ship.Shipping",
    "ship.dry_run",
    "ship.status",
    "takeover.TakeOver",
    "target.parse",
    "target.router_of",
)
