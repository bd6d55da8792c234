"""The demo: real flights of 2013, and the queries of its printout."""
