"""Where HTTP meets the relay: inbound, upstream and admin, on one strict parser."""
