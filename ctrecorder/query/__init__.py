"""Questions to an archive, and their answers."""

# What other packages may use: module.name.
SHOWN = (
    "answer.Archive",
    "answer.connections",
    "answer.describe_gap",
    "answer.events",
    "answer.only_connections",
    "answer.open_archive",
    "parse.parse_network",
    "parse.parse_ports",
    "who.WhoQuery",
    "who.ask",
    "who.parse_end",
    "who.roles",
)
