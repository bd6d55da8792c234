"""What people see: prediction tables, the guards before them, the pointer to them."""
