"""Written times: strict readers that state each way to read a time, and what it rests on."""

# What other packages may use: module.name.
SHOWN = (
    "find.find",
    "moment.Basis",
    "moment.Moment",
    "moment.Zones",
    "reader.read",
    "typed.parse_span",
    "zones.check_tz",
)
