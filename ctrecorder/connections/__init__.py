"""Events paired to connections, which have a start and an end."""

# What other packages may use: module.name.
SHOWN = (
    "flowkey.KEY",
    "flowkey.digits",
    "flowkey.hashes",
    "flowkey.sort",
    "grouping.RACE_NS",
    "lookalikes.has_id",
    "open_flows.Memory",
    "pairing.Pairer",
    "parts.DESTROY",
    "parts.NEEDS",
    "parts.NEW",
    "parts.RECEIPT_LATE_NS",
    "parts.SPAN",
    "parts.is_whole",
    "parts.with_possible_beginnings",
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
