"""One framework each, imported when it is in use."""
