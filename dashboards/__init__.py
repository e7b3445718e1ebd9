"""Panel apps: widgets, layout and the frame loop. No maths and no training here."""
