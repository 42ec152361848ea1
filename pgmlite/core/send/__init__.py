"""What a sender is made of (spec/protocol.md sections 5 and 8)."""
