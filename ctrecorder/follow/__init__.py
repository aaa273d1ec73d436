"""What recorders write, as they write it, across their segments."""

# What other packages may use: module.name.
SHOWN = (
    "follower.Follower",
    "follower.Item",
    "follower.last_rows",
)
