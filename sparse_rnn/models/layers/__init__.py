"""The recurrent layers and dropouts that networks are made of, in plain torch."""
