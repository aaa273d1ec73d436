"""Privacy: addresses made anonymous by a key, and remote ends left out."""

# What other packages may use: module.name.
SHOWN = (
    "cryptopan.CryptoPan",
    "header.protected_header",
    "header.without_networks",
    "protection.Protection",
    "protection.REMOTE",
)
