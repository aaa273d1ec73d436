"""Questions to an archive, and their answers."""

# What other packages may use: module.name.
SHOWN = (
    "connections.list_connections",
    "events.list_events",
    "gaps.describe_gap",
    "gaps.gaps_of_query",
    "open.Archive",
    "open.open_archive",
    "parse.parse_network",
    "parse.parse_ports",
    "who.WhoQuery",
    "who.answer",
    "who.parse_end",
    "who.roles",
)
