"""Who held an inside address at a time: DHCP leases, RADIUS accounting, lists, a command.

It decides nothing: it returns every holder that its sources name.
"""

# What other packages may use: module.name.
SHOWN = (
    "directory.Directory",
    "directory.Holder",
    "reader.read",
)
