"""Whether it has got slower over time: runs in a database, their points, and what changed in them."""
