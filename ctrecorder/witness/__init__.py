"""Root runs a command by hand: it gives up root, a scribe logs; and what was logged is read."""

# What other packages may use: module.name.
SHOWN = (
    "logged.Anchor",
    "logged.JOURNAL",
    "logged.Logged",
    "logged.MAX_ANCHORS",
    "logged.load",
    "logged.senders",
    "owner.Workplace",
    "owner.become_owner",
    "owner.in_owner",
)
