"""Who held a public address and port at a time: one question, and many at once."""

# What other packages may use: module.name.
SHOWN = (
    "candidates.roles",
    "many.Engine",
    "source.Source",
    "who.Answer",
    "who.WhoQuery",
    "who.parse_end",
)
