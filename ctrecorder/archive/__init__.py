"""A folder of segments: finding them, locking them, retention, the chain."""

# What other packages may use: module.name.
SHOWN = (
    "chain.Link",
    "chain.is_start",
    "chain.link",
    "chain.sequence",
    "chain.successor",
    "chain.trace",
    "find.FolderListing",
    "find.Span",
    "find.find",
    "find.sniff",
    "lock.BusyError",
    "lock.Held",
    "lock.clear_leavings",
    "lock.locked",
    "lock.successor_path",
    "open.open_segment",
    "retention.Hold",
    "retention.Receipt",
    "retention.add_hold",
    "retention.add_receipt",
    "retention.exclusive",
    "retention.holds",
    "retention.receipts",
    "retention.release_hold",
)
