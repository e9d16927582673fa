"""Who owns a name, whether that owner lives, and how it is stopped or its record closed."""
