"""How frozen or exported weights are stored: one file a method."""
