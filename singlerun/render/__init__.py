"""All that people see is drawn here."""
