"""The figures of measures.md, in code: reconstruction and generation, in the features of our own small classifier."""
