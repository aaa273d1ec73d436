"""The command ctlist: its options, and what it prints."""
