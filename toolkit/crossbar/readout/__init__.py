"""What lies between cells and digits: converters and wires."""
