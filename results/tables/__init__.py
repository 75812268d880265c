"""Tables: their numbers, their layout, and the formats in which they are written."""
