"""What an exchange costs, beside the cryptography that it cannot do without.

`make bench` runs it; docs/benchmarks.md says how, and what the figures mean.
"""
