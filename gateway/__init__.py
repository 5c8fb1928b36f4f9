"""AlipayHK gateway: signs, encrypts, forwards, verifies and decrypts."""
