"""Verification, anchors, repair, and the doctor."""

# What other packages may use: module.name.
SHOWN = (
    "anchors.against",
    "collect.check_segment",
    "doctor.diagnose",
    "doctor.is_healthy",
    "doctor.report",
    "repair.add_argument",
    "repair.log_result",
    "repair.repair",
    "verify.UNCHECKED",
    "verify.check",
)
