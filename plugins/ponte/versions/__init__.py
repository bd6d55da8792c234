"""What a version reads and says, where it is kept, and who is champion."""
