"""The command ctwho: its options, and what it prints."""
