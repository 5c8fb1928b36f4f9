"""Keyrings in folders, and the homes of their private keys.

`file` reads such a folder, `folder` changes one safely. `homes` finds a pair by the
scheme of its URI: `pem` in a file, `pkcs11` in a token; `known` lists them.
"""
