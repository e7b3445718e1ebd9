"""One cell: its response to a pulse, its noise, its retention, and published presets."""
