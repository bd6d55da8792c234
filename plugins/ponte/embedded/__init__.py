"""The PostgreSQL that comes as a wheel, as an ordinary process."""
