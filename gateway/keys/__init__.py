"""Keys: their states, the keyring, where it lives and how it is swapped."""
