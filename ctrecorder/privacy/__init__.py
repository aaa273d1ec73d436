"""Privacy: addresses made anonymous by a key, and remote ends left out."""

# What other packages may use: module.name.
SHOWN = (
    "cryptopan.CryptoPan",
    "header.mark_without_networks",
    "header.protected_header",
    "header.state_without_networks",
    "header.without_networks",
    "protection.Protection",
    "protection.REMOTE",
)
