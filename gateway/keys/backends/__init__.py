"""Homes of private keys: `file` reads a folder, `folder` changes one safely."""
