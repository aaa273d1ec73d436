"""Events joined to connections."""

# What other packages may use: module.name.
SHOWN = (
    "flowkey.digits",
    "pairing.Pairer",
    "parts.DESTROY",
    "parts.NEEDS",
    "parts.NEW",
    "parts.SPAN",
    "parts.is_whole",
)
