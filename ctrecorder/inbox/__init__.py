"""What routers sent to this machine: checked, and taken over into an archive."""

# What other packages may use: module.name.
SHOWN = ("takeover.TakeOver",)
