"""What hides connections from the recorder: sysctls, rules, tracking; this machine's addresses."""

# What other packages may use: module.name.
SHOWN = (
    "conditions.Conditions",
    "here.own",
    "hidden.NOTRACK",
    "hidden.NO_EVENTS",
    "watcher.Hole",
    "watcher.Look",
    "watcher.Watcher",
)
