"""What people are told, written where it happens and sent afterwards."""
