"""One pure function per question that a tab asks; each returns a frozen dataclass of arrays."""
