"""Connections that recorders side by side recorded, made one."""

# What other packages may use: module.name.
SHOWN = ("twins.Twins",)
