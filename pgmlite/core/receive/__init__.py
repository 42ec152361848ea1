"""What a receiver is made of (spec/protocol.md sections 6 and 7)."""
