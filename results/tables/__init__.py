"""Tables: cells from runs, layout, rendering."""
