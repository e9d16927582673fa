"""Everything that users see is rendered here."""
