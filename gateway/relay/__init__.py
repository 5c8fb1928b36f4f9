"""The exchange. Begin with `gateway.relay.exchange`."""
