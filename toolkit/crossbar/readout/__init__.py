"""The read path between cells and digital values: converters and wires."""
