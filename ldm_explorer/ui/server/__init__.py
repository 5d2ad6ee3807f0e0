"""How the app is served: who may ask for how much, in which order, and over which routes."""
