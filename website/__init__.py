"""The documentation site: its pages out of docs/, the schemas, the registry and the commands' own help."""
