"""Events paired to connections, which have a start and an end."""

# What other packages may use: module.name.
SHOWN = (
    "flowkey.KEY",
    "flowkey.digits",
    "flowkey.hashes",
    "lookalikes.has_id",
    "open_flows.Memory",
    "pairing.Pairer",
    "parts.DESTROY",
    "parts.NEEDS",
    "parts.NEW",
    "parts.SPAN",
    "parts.is_whole",
    "proof.Proof",
    "proof.gaps_of",
    "repeats.Gaps",
    "repeats.NAT_CLASH",
    "twins.Twins",
    "unheard.Dump",
    "unheard.NEAR_NS",
    "unheard.QUEUED_NS",
    "unheard.Unheard",
)
