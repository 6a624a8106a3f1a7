"""Export and import: between a document store and a file."""
