"""What is remembered of segments: holds, receipts of deletion, and what was shipped."""

# What other packages may use: module.name.
SHOWN = (
    "acknowledged.Acknowledged",
    "acknowledged.Shipment",
    "acknowledged.add",
    "acknowledged.missing",
    "acknowledged.read",
    "acknowledged.rewrite",
    "acknowledged.take_lock",
    "catalogue.Catalogue",
    "catalogue.Entry",
    "catalogue.read",
    "catalogue.write",
    "retention.Hold",
    "retention.Receipt",
    "retention.add_hold",
    "retention.add_receipt",
    "retention.exclusive",
    "retention.hold_hash",
    "retention.holds",
    "retention.receipt_lines",
    "retention.receipts",
    "retention.release_hold",
)
