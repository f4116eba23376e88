"""What makes a game move."""
