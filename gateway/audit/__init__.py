"""The audit log: what was changed, by whom, from what to what, in a hash chain."""
