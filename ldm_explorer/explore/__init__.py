"""One pure function per question that a room asks; each returns a frozen dataclass of arrays."""
