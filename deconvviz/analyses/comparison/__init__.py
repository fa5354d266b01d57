"""Which method says where a network looks, and can be believed: maps side by side, curves, numbers."""
