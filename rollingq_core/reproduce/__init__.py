"""One recipe for each table and figure, and the settings they share."""
