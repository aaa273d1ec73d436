"""Answers of ctwho as a page, as text for a mail and as a pack of evidence, and their checks."""

# What other packages may use: module.name.
SHOWN = (
    "answer.html",
    "pack.Letter",
    "pack.ledgers",
    "pack.pack",
    "redact.redact",
    "shape.Json",
    "shape.nanoseconds",
    "verify.MAX_BYTES",
    "verify.check",
    "verify.exit_code",
)
