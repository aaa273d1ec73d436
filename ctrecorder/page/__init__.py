"""Answers of ctwho as a page, as text for a mail and as a pack of evidence, and their checks."""

# What other packages may use: module.name.
SHOWN = (
    "answer.html",
    "evidence.compare_segments",
    "evidence.ledgers",
    "evidence.with_checks",
    "pack.Letter",
    "pack.pack",
    "redact.redact",
    "shape.Json",
    "shape.nanoseconds",
    "twin.known",
    "verify.Finding",
    "verify.MAX_BYTES",
    "verify.check",
    "verify.exit_code",
    "words.host",
)
