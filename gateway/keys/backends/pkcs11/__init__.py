"""Pairs in PKCS#11 tokens: they sign and unwrap there, and never leave.

    home ──▶ module ──▶ C library, once per process
      └────▶ token  ──▶ sessions, one login
      └────▶ key    ──▶ PrivateKey

`uri` reads what names a key, `workers` are the threads that wait for the library.
"""
